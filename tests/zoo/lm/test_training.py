"""The language model on the command line: trained, resumed, evaluated, sampled from."""

import dataclasses
import json
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.tolerances import rounding
from tests.zoo.lm.conftest import POST_NORM, TIGHT, TINY, UNROLLED, make
from tests.zoo.test_cli import run
from zoo.checkpoints.checkpoint import Checkpoint, find_checkpoint
from zoo.checkpoints.saving import Saver
from zoo.data.split import Data
from zoo.data.streams import Streams
from zoo.lm.memory import Memory
from zoo.lm.model import nll
from zoo.lm.reader import Reader
from zoo.lm.sampler import Draw, Sampler
from zoo.lm.task import TASK
from zoo.nn.carry import Carry, fresh_carry
from zoo.run import RunConfig
from zoo.settings import TrainConfig
from zoo.training.evaluation import Evaluator
from zoo.training.trainer import Trainer

pytestmark = pytest.mark.slow

TEXT = "the quick brown fox jumps over the lazy dog\n" * 60
SIZES = (
    "--n_head 2 --d_model 8 --d_embed 8 --d_inner 16 --tgt_len 6 --mem_len 8 --eval_tgt_len 6 "
    "--eval_mem_len 8 --batch_size 4 --eval_batch_size 3 --steps 40 --lr 0.05 --grad 2"
).split()
TRAIN = TrainConfig(steps=6, batch_size=4, eval_batch_size=3, lr=0.01, weight_decay=0.0)
SMALL = dataclasses.replace(TINY, n_layer=1, cutoffs=(), div_val=1, tied_projections=())
TOKENS = np.random.default_rng(0).integers(0, 20, 200).astype(np.int32)
PROMPT = [3, 1, 4]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (folder / "all.txt").write_text(TEXT)
    return folder


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory):
    """A folder with a small finished run."""
    out = tmp_path_factory.mktemp("trained")
    command = ("train", "lm", "--preset", "characters", "--data", text, "--out", out)
    assert run(*command, *SIZES) == 0
    return out


def data() -> Data:
    split = lambda n: Streams(TOKENS[:n], 5)
    return Data(split(200), test=split(40))


def trainer() -> Trainer:
    sizes = dataclasses.replace(SMALL, tgt_len=5)
    return Trainer(TASK, RunConfig("lm", "quick", "python", 0, sizes, UNROLLED, TRAIN), data())


def bits(a: jax.Array) -> jax.Array:
    """The array itself, or what a random key is made of."""
    return jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a


def perplexity(shown: str) -> float:
    found = re.fullmatch(r"test perplexity ([\d.]+) \(.*\)", shown.splitlines()[-1])
    assert found is not None
    return float(found[1])


def test_it_learns(trained):
    rows = [json.loads(row) for row in (trained / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["split"] == "test" and rows[-1]["perplexity"] < 24 < len(set(TEXT))


def test_evaluation_repeats_the_training_figures(trained, text, capsys):
    last = json.loads((trained / "metrics.jsonl").read_text().splitlines()[-1])
    assert run("eval", "lm", "--checkpoint", trained, "--data", text) == 0
    assert perplexity(capsys.readouterr().out) == pytest.approx(last["perplexity"], abs=0.06)


def test_a_run_starts_from_the_parameters_of_another(trained, text, tmp_path, capsys):
    """As an equilibrium model does that was an ordinary transformer at first."""
    last = json.loads((trained / "metrics.jsonl").read_text().splitlines()[-1])
    command = ("train", "lm", "--preset", "characters", "--data", text, "--out", tmp_path / "run")
    command = (*command, *SIZES, "--steps", 1, "--lr", 1e-9)
    assert run(*command, "--ema", 0.5, "--init", trained) == 0
    assert perplexity(capsys.readouterr().out) == pytest.approx(last["perplexity"], abs=0.06)
    assert run(*command, "--init", trained, "--d_inner", 12) == 2
    assert "has not this model's parameters: different lm.equilibrium" in capsys.readouterr().err
    assert run(*command, "--ema", 0.5, "--init", trained, "--resume") == 0  # begun already


def test_a_resumed_run_remembers(tmp_path):
    through, resumed = trainer(), trainer()
    batches = list(through.data.train.train_batches(4, seed=0, start=0, stop=4))
    for batch in batches[:2]:
        through.update(batch)
    with Saver(tmp_path, keep=1, start=0) as saver:
        saver.save(2, through.state, through.config.to_dict(), {})
    resumed.restore(tmp_path)
    carried: Any = nnx.filter_state(resumed.state.rest, Carry)
    memory = carried["memory"].get_value()
    assert memory.z.shape == (4, TINY.mem_len, TINY.d_model) and np.any(memory.z != 0)
    np.testing.assert_array_equal(memory.filled, [TINY.mem_len] * 4)
    for batch in batches[2:]:
        assert through.update(batch) == resumed.update(batch)
    for a, b in zip(jax.tree.leaves(through.state), jax.tree.leaves(resumed.state), strict=True):
        np.testing.assert_array_equal(bits(a), bits(b))


@pytest.fixture(scope="module")
def gradient():
    """Gradient of the training loss with these options, as one vector."""
    batch = {"x": TOKENS[:15].reshape(3, 5), "y": TOKENS[1:16].reshape(3, 5), "fresh": True}

    def compute(deq, model):
        config = dataclasses.replace(SMALL, mem_len=0, **model)
        reader = Reader(config, dataclasses.replace(UNROLLED, **deq), rngs=nnx.Rngs(0))
        nnx.update(reader.lm, nnx.state(make(SMALL, scale=0.3), nnx.Param))
        graphdef, params, rest = nnx.split(reader, nnx.Param, ...)
        rest = fresh_carry(rest, 3)

        def loss(params):
            reader = nnx.merge(graphdef, params, rest, copy=True)
            return TASK.loss(reader, jax.tree.map(np.asarray, batch), jax.random.key(0))[0]

        grads = jax.tree.leaves(jax.jit(jax.grad(loss))(params))
        return np.concatenate([np.ravel(g) for g in grads])

    return compute


@pytest.fixture(scope="module")
def plain(gradient):
    return gradient({}, {})


@pytest.mark.parametrize(
    ("deq", "model"),
    [
        ({"tau": 0.5}, {}),
        ({"grad": 2}, {}),
        ({"ift": True, "f_solver": "anderson", "f_max_iter": 8, "f_tol": 1e-2}, {}),
        ({"jac_loss_weight": 1.0, "jac_loss_freq": 1.0}, {}),
        ({}, {"explicit": True}),
        ({}, {"dropout": 0.5}),
    ],
)
def test_every_option_acts(deq, model, gradient, plain):
    changed = gradient(deq, model)
    assert np.isfinite(changed).all() and np.any(np.abs(changed - plain) > 1e-6)


@pytest.mark.parametrize("mem_len", [0, 3, 200])
def test_evaluation_remembers_as_much_as_it_is_told(mem_len):
    """With room for everything, segments give what the whole text gives at once."""
    config = dataclasses.replace(POST_NORM, eval_mem_len=mem_len)
    model = Reader(config, TIGHT_ENOUGH, rngs=nnx.Rngs(0))
    nnx.update(model.lm, nnx.state(make(POST_NORM, TIGHT_ENOUGH, scale=0.3)))
    _, params, rest = nnx.split(model, nnx.Param, ...)
    evaluate = Evaluator(TASK, model)
    in_segments = evaluate(params, rest, Streams(TOKENS[:41], 5), 1)
    whole = evaluate(params, rest, Streams(TOKENS[:41], 40), 1)
    assert in_segments.converged == whole.converged == 1
    assert (abs(in_segments.loss - whole.loss) < 1e-4) == (mem_len == 200)


def test_other_sizes_in_evaluation_from_the_command_line(trained, text, capsys):
    command = ("eval", "lm", "--checkpoint", trained, "--data", text)
    assert run(*command, "--eval_mem_len", 0, "--eval_tgt_len", 1, "--grad", 1) == 0
    forgetful = perplexity(capsys.readouterr().out)
    assert run(*command, "--eval_mem_len", 20, "--eval_batch_size", 2) == 0
    assert perplexity(capsys.readouterr().out) != forgetful
    assert run(*command, "--mem_len", 3) == 2
    assert "unrecognized arguments: --mem_len" in capsys.readouterr().err


# in float32, where what two layers add up leaves a residual
TIGHT_ENOUGH = dataclasses.replace(TIGHT, f_tol=rounding(np.float32, terms=2 * 16))


@pytest.fixture(scope="module")
def solved():
    """A model with an equilibrium, in evaluation mode."""
    model = make(dataclasses.replace(POST_NORM, eval_mem_len=30), TIGHT_ENOUGH, scale=0.3)
    model.eval()
    return model


def test_one_token_at_a_time_is_a_segment(solved):
    """The token drawn at temperature 0 is the likeliest one after the whole text."""
    drawn = Sampler(solved, Draw(temperature=0)).continued(PROMPT, 12, seed=0).tokens
    text = jnp.array([[*PROMPT, *drawn]])
    memory = Memory.empty(solved.config, 1, 0)
    hidden, info, _ = jax.jit(lambda: solved(text[:, :-1], memory))()
    log_probs = solved.vocabulary.log_probs(hidden)
    assert info.converged.all()
    assert np.argmax(log_probs[0], axis=-1)[len(PROMPT) - 1 :].tolist() == drawn
    values, _, _ = jax.jit(lambda: nll(solved, text[:, :-1], text[:, 1:], memory))()
    np.testing.assert_allclose(values[0, -12:], -np.max(log_probs[0, -12:], axis=-1), rtol=1e-4)


def test_a_warm_start_finds_the_same_text_sooner(solved):
    warm, cold = (
        Sampler(solved, Draw(), warm=warm).continued(PROMPT, 25, seed=1) for warm in (True, False)
    )
    assert warm.tokens == cold.tokens and len(warm.tokens) == 25
    assert warm.tokens_per_second > 0
    assert len(warm.nfe) == 24 and min(warm.nfe + cold.nfe) > 1


def test_a_seed_gives_one_text(solved):
    sampler = Sampler(solved, Draw(temperature=2.0))
    step: Any = sampler._step
    a, b, c = (sampler.continued(PROMPT, 10, seed=seed).tokens for seed in (0, 0, 1))
    assert a == b != c
    assert step._cache_size() == 1  # one program for all tokens


def test_draws():
    log_probs = np.log(np.array([0.1, 0.2, 0.3, 0.4], np.float32))
    keys = jax.random.split(jax.random.key(0), 400)

    def drawn(draw):
        return np.bincount(jax.vmap(lambda key: draw(log_probs, key))(keys), minlength=4) / 400

    np.testing.assert_allclose(drawn(Draw()), [0.1, 0.2, 0.3, 0.4], atol=0.07)
    np.testing.assert_allclose(drawn(Draw(top_k=2)), [0, 0, 3 / 7, 4 / 7], atol=0.07)
    np.testing.assert_array_equal(drawn(Draw(temperature=0.0)), [0, 0, 0, 1])
    np.testing.assert_array_equal(drawn(Draw(temperature=0.01)), [0, 0, 0, 1])


def test_the_sample_command(trained, capsys):
    command = ("sample", "lm", "--checkpoint", trained, "--prompt", "the ", "--length", 9)
    shown = []
    for extra in ((), (), ("--seed", 1), ("--cold", "--top_k", 3, "--temperature", 0.5)):
        assert run(*command, *extra) == 0
        shown.append(capsys.readouterr().out)
    texts = [re.split(r"\n\n9 tokens, \d+ tokens/s, solves from ", out) for out in shown]
    assert all(len(parts) == 2 and len(parts[0]) == 13 for parts in texts)
    assert texts[0][0] == texts[1][0] != texts[2][0]
    assert "last token" in texts[0][1] and "zero" in texts[3][1]
    deq = find_checkpoint(trained).config["deq"]
    unrolled = f"unrolled: {deq['grad']} steps, no solver"
    assert all((unrolled if not deq["f_max_iter"] else "NFE ") in parts[1] for parts in texts)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--prompt THE", "the character 'T' is not in the vocabulary"),
        ("--top_k 1000", "--top_k 1000 is more than the 28 tokens"),
        ("--top_k -1", "top_k must be >= 0, got -1"),
        ("--temperature -1", "temperature must be in [0, inf), got -1.0"),
        ("--length 0", "length must be >= 1, got 0"),
        ("--seed -1", "seed must be >= 0, got -1"),
        ("--eval_mem_len -1", "eval_mem_len must be >= 0, got -1"),
        ("--eval_tgt_len 3", "--eval_tgt_len"),
    ],
)
def test_mistakes_in_sampling(trained, options, named, capsys):
    assert run("sample", "lm", "--checkpoint", trained, *options.split()) == 2
    assert named in capsys.readouterr().err


def test_sampling_needs_a_vocabulary(trained, text, monkeypatch, capsys):
    read = Checkpoint.read
    without = lambda path: dataclasses.replace(read(path), meta={})
    monkeypatch.setattr(Checkpoint, "read", without)
    command = ("sample", "lm", "--checkpoint", trained, "--length", 2)
    assert run(*command) == 2
    assert "has no vocabulary; give --data DIR" in capsys.readouterr().err
    assert run(*command, "--data", text) == 0


def test_models_without_samples_say_so(capsys):
    assert run("sample", "mdeq", "--help") == 2
    assert "nothing to sample from model 'mdeq'" in capsys.readouterr().err
