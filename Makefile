# Every target makes the environment it needs, in .venv. PYTHON=python3.12 make test picks another.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Files in their order: the last ones are short, so no worker is left with a long one.
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test check exhaustive lint notebooks parity bench clean

demo: $(VENV)/.zoo  ## trains an equilibrium model on real images, prints its accuracy, plots
	$(BIN)/python -m zoo train mdeq --preset quick --out runs/demo

check: lint  ## the quick part: lint, types, fast tests
	$(PYTEST) -m "not slow"

test: lint  ## lint, types, tests, notebooks
	$(PYTEST) -m "not exhaustive"

exhaustive: $(VENV)/.dev  ## the tests that are more of the same: every solver, reference folder, ...
	$(PYTEST) -m exhaustive

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

notebooks: $(VENV)/.dev  ## executes every notebook
	$(BIN)/python -m pytest -q tests/test_notebooks.py

GOLDEN ?= ../shared/golden
REFERENCES = tests/reference $(GOLDEN)
parity: $(VENV)/.dev  ## compares the models with all reference folders, shipped and in GOLDEN
	for folder in $(wildcard $(REFERENCES:%=%/mdeq_cifar/*/)); do \
	  $(BIN)/python -m zoo parity mdeq $$folder || exit 1; done
	for folder in $(wildcard $(REFERENCES:%=%/deq_lm/*/) $(REFERENCES:%=%/deq_seq/*/)); do \
	  $(BIN)/python -m zoo parity lm $$folder || exit 1; done
	for folder in $(dir $(wildcard $(REFERENCES:%=%/ignn/*/state_dict.npz))); do \
	  $(BIN)/python -m zoo parity ignn $$folder || exit 1; done

bench: $(VENV)/.bench  ## measures jdeq beside its peers
	$(BIN)/python -m benchmarks

$(VENV)/.%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -e ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
