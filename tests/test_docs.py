"""The pages in docs/ do what they say."""

import pathlib
import re
import shlex
import shutil
import sys

import jax
import numpy as np
import pytest

import jdeq
from jdeq.backward.registry import BACKWARDS
from jdeq.kernel_norms.registry import NORMS
from jdeq.solvers.registry import SOLVERS
from zoo.cli import main

DOCS = pathlib.Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "extending.md").read_text()
TINY = (
    "--batch_size 8 --eval_batch_size 360 --channels 4 --head_channels 1 --n_blocks 1 "
    "--final_channels 6 --n_groups 2 --expansion 1"
).split()


@pytest.fixture
def as_users_run_it(monkeypatch, tmp_path):
    for registry in (SOLVERS, BACKWARDS, NORMS):
        monkeypatch.setattr(registry, "entries", dict(registry.entries))
    monkeypatch.chdir(tmp_path)
    with jax.numpy_dtype_promotion("standard"), jax.enable_x64(False):
        yield
    sys.modules.pop("zoo_plugin_my_deq", None)


def blocks(language, page=PAGE):
    return re.findall(rf"```{language}\n(.*?)```", page, re.S)


@pytest.mark.slow
@pytest.mark.usefixtures("as_users_run_it")
def test_extensions_by_name_from_python(capsys):
    names = {}
    exec("\n".join(blocks("python")), names)
    assert "4 CONVERGED" in capsys.readouterr().out

    def slope(limit, scale):
        backward = names["ClippedIFT"](limit=limit)
        f = lambda a: lambda z: 0.5 * z + a
        z = lambda a: jdeq.deq(f(a), jax.numpy.zeros((1, 1)), backward=backward)[0]
        return float(jax.grad(lambda a: scale * z(a).sum())(1.0))

    np.testing.assert_allclose([slope(9.0, 3.0), slope(1.0, 3.0), slope(1.0, 0.5)], [6, 2, 1], 1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("as_users_run_it")
def test_extensions_by_name_from_the_command_line(tmp_path, capsys):
    classes = [block for block in blocks("python") if "jdeq.register_" in block]
    (tmp_path / "my_deq.py").write_text("\n".join(classes))
    train, evaluate = (
        shlex.split(line.removeprefix("$ python -m zoo "))
        for line in "".join(blocks("console")).splitlines()
    )
    assert main([*train, *TINY]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert re.match(r"test accuracy \d", line) and "nan" not in line
    assert main(evaluate) == 0
    del SOLVERS.entries["heavy_ball"]
    assert main([word for word in evaluate if "my_deq" not in word and word != "--plugin"]) == 2
    assert "f_solver must be one of" in (said := capsys.readouterr().err) and "--plugin" in said


@pytest.mark.slow
@pytest.mark.usefixtures("as_users_run_it")
def test_training_page(capsys):
    page = (DOCS / "training.md").read_text()
    lines = "".join(blocks("console", page)).replace("$ python -m zoo ", "").splitlines()
    for words in (shlex.split(line, comments=True) for line in lines):
        if words[0] == "train" and "--resume" not in words:
            words += [*TINY, "--steps", "2", "--f_max_iter", "2"]
        if words[0] == "compare":
            shutil.copytree("runs/digits", "runs/other")
        assert main(words) == 0, words
    names = {}
    exec("\n".join(blocks("python", page)), names)
    assert names["logits"].shape == (5, 10) and names["residual"].shape == (5,)
    assert pathlib.Path("both.png").exists() and pathlib.Path("digits.npz").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("as_users_run_it")
def test_modules_page(capsys):
    names = {}
    exec("\n".join(blocks("python", (DOCS / "modules.md").read_text())), names)
    assert "4 CONVERGED" in capsys.readouterr().out
    for of_cell in (names["grad"]["params"]["kernel"], names["slopes"].cell.weight):
        assert np.abs(of_cell).max() > 1e-4
    shapes = jax.tree.map(np.shape, names["slope"]["params"])
    assert shapes["Dense_1"] == {"kernel": (16, 16), "bias": (16,)}
