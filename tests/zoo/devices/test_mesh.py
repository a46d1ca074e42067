"""Training over simulated devices: the same run, whatever the layout."""

import dataclasses
import functools
import math
import re
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from flax import nnx

from benchmarks.collectives import IMAGENET, Collective, collectives, published
from tests.tolerances import rounding
from tests.zoo.test_cli import run
from tests.zoo.toy_lm import TASK as TOY, TEXT, ToyConfig
from zoo.data.split import Data
from zoo.data.streams import Streams
from zoo.devices.axes import named
from zoo.devices.layout import Layout
from zoo.devices.mesh import Devices
from zoo.errors import UserError
from zoo.lm.task import TASK as LM
from zoo.registry import get_task
from zoo.run import RunConfig
from zoo.training.program import Program
from zoo.training.trainer import Trainer

TOKENS = np.random.default_rng(0).integers(0, 88, 600).astype(np.int32)
QUICK = LM.presets["quick"]
# plain iteration: a quasi-Newton method would magnify the rounding in which layouts differ
SOLVED = dataclasses.replace(QUICK.deq, f_solver="fixed_point_iter", f_max_iter=4, grad=1)
CONFIG = RunConfig(
    "lm",
    "quick",
    "python",
    0,
    dataclasses.replace(
        QUICK.model,
        n_token=88,
        d_embed=60,  # not to be cut into eight
        d_model=60,
        d_inner=100,
        tgt_len=4,
        mem_len=4,
    ),
    SOLVED,
    dataclasses.replace(QUICK.train, batch_size=8),
)
TOY_LOSS = rounding(np.float32, terms=8 * 66)  # of eight states, each a sum of 64 and one
LAYOUTS = {
    "one": Devices(),
    "data": Devices("data=8"),
    "model": Devices("data=4,model=2"),
    "fsdp": Devices("data=8", fsdp=True),
}


class Trained(NamedTuple):
    """What three steps of a layout leave behind."""

    losses: list[float]
    state: Any
    collectives: list[Collective]
    hlo: str


@functools.cache
def trained(name: str) -> Trained:
    layout = Layout(LAYOUTS[name])
    program = Program(LM, CONFIG, layout)
    batches = list(Streams(TOKENS, 4).train_batches(8, seed=0, start=0, stop=3))
    compiled = program.compiled_step(batches[0])
    state, key = program.create()
    losses = []
    for step, batch in enumerate(batches):
        state, metrics = compiled(state, np.int32(step), key, layout.batch(batch, 8))
        losses.append(float(metrics["loss"]))
    hlo = compiled.as_text() or ""
    return Trained(losses, state, collectives(hlo), hlo)


def bytes_per_device(tree: Any) -> int:
    shards = (leaf.addressable_shards[0] for leaf in jax.tree.leaves(tree))
    return sum(shard.data.nbytes for shard in shards)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["data", "model", "fsdp"])
def test_every_layout_has_the_loss_curve_of_one_device(name):
    one = trained("one").losses
    assert one[0] != one[1] != one[2]
    close = rounding(np.float32, terms=5 * (3 * 60 + 2 * 100))  # sums of a block, five times
    np.testing.assert_allclose(trained(name).losses, one, rtol=close)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "preset", "changes"),
    [("lm", "wikitext103", {}), ("mdeq", "cifar-large", {"model": IMAGENET})],
    ids=["98 M", "18 M"],
)
def test_fsdp_holds_an_eighth_of_the_published_models(name, preset, changes):
    task, config = get_task(name), published(name, preset, **changes)

    def held(devices: Devices) -> int:
        program = Program(task, config, Layout(devices))
        arrays, shardings = (jax.tree.leaves(s[::2]) for s in (program.shapes, program.placed))
        pairs = zip(arrays, shardings, strict=True)
        return sum(math.prod(s.shard_shape(a.shape)) * a.dtype.itemsize for a, s in pairs)

    whole = held(Devices("data=8"))
    assert held(Devices("data=8", fsdp=True)) < whole / 7.7
    assert held(Devices("replica=2,data=4", fsdp=True)) < whole / 3.9


@pytest.mark.parametrize(
    ("mesh", "shape", "part"),
    [
        ("data=8", (64, 50), (8, 50)),  # along one axis where it can be
        ("data=8", (700, 700), (175, 350)),
        ("data=8", (67735, 10), (67735, 5)),
        ("data=6", (50, 63), (25, 21)),
        ("data=1", (50, 63), (50, 63)),
        ("data=4,model=2", (50, 62), (25, 31)),
    ],
)
def test_fsdp_splits_along_all_axes(mesh, shape, part):
    a = nnx.Param(jax.ShapeDtypeStruct(shape, np.float32), **named("embed", "hidden"))
    placed: Any = Layout(Devices(mesh, fsdp=True)).params(nnx.State({"a": a}))
    assert placed["a"].get_value().shard_shape(shape) == part


@pytest.mark.slow
def test_fsdp_holds_an_eighth_of_parameters_and_moments():
    held = lambda name: bytes_per_device(trained(name).state[::2])  # not what is carried
    assert held("data") == held("one")
    assert held("fsdp") <= held("data") / 6
    assert held("model") < 0.7 * held("data")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["data", "fsdp"])
def test_the_solver_adds_one_scalar_per_iteration(name):
    """Whether anyone still runs; a CPU also asks whether squares left the range of their dtype."""
    found = trained(name).collectives
    asked = [c for c in found if c.in_loop]
    assert {c.kind for c in asked} == {"all-reduce"} and len(asked) <= 2
    assert {shape for c in asked for shape in c.shapes} == {"pred[]"}
    # what is put together is parameters, which may be split along two axes: none has a batch axis
    gathered = {shape for c in found if c.kind == "all-gather" for shape in c.shapes}
    params = jax.tree.leaves(trained(name).state.params)
    sizes = {p.size // parts for p in params for parts in (1, 2, 4)}
    entries = lambda shape: np.prod([int(n) for n in re.findall(r"\d+", shape.split("[")[1])])
    assert {entries(shape) for shape in gathered} <= sizes
    assert bool(gathered) == (name == "fsdp")


@pytest.mark.slow
def test_a_split_layer_is_summed_not_gathered():
    """Attention and feed-forward: one sum of their outputs each, and no gathering, in the solve."""
    found = [c for c in trained("model").collectives if c.in_loop]
    assert {c.kind for c in found} == {"all-reduce"}
    states = [c for c in found if c.shapes == ("f32[2,4,60]",)]
    assert len(states) == 2


@pytest.mark.slow
def test_the_state_is_donated():
    state = trained("one").state
    written = re.search(r"input_output_alias=\{(.*?)\}, entry", trained("one").hlo)
    assert written is not None
    assert written[1].count("alias)") == len(jax.tree.leaves(state))


@pytest.fixture
def toy_config(toy):
    preset = TOY.presets["quick"]
    train = dataclasses.replace(preset.train, batch_size=8, eval_batch_size=8, steps=6)
    return RunConfig("toy", "quick", "none", 0, ToyConfig(5, size=64), preset.deq, train)


@pytest.fixture
def toy_data():
    split = lambda n: Streams(TOKENS[:n] % 5, 8)
    return Data(split(600), test=split(100))


@pytest.mark.slow
def test_a_run_goes_on_with_other_devices(toy_config, toy_data, tmp_path):
    """Saved by eight devices, restored by one and by four."""
    whole = Trainer(TOY, toy_config, toy_data).fit(tmp_path / "a")
    saved = Trainer(TOY, toy_config, toy_data, Devices("data=8", fsdp=True))
    saved.fit(tmp_path / "b", stop_after=3)
    batches = list(toy_data.train.train_batches(8, seed=0, start=3, stop=6))
    for parts, devices in ((1, Devices()), (4, Devices("replica=2,data=2", fsdp=True))):
        other = Trainer(TOY, toy_config, toy_data, devices)
        other.restore(tmp_path / "b")
        assert other.step == 3
        recur = other.state.params["recur"].get_value()
        assert recur.addressable_shards[0].data.size == recur.size // min(parts, 2)
        memory = other.state.rest["memory"].get_value()
        assert memory.addressable_shards[0].data.shape == (8 // parts, 64)
        for batch in batches:
            other.update(batch)
        assert other.evaluate().loss == pytest.approx(whole.loss, rel=TOY_LOSS)


def test_an_evaluation_is_filled_up_to_equal_parts(toy_config, toy_data):
    train = dataclasses.replace(toy_config.train, eval_batch_size=5)
    config = dataclasses.replace(toy_config, train=train)
    one, eight = (Trainer(TOY, config, toy_data, d).evaluate() for d in (None, Devices("data=8")))
    assert eight.loss == pytest.approx(one.loss, rel=TOY_LOSS)
    assert len(eight.trace) == len(one.trace)


@pytest.mark.slow
def test_eval_needs_not_split_the_batch_of_training(toy_config, tmp_path, capsys):
    (tmp_path / "all.txt").write_text(TEXT)
    data = ("--data", tmp_path)
    assert run("train", "toy", *data, "--out", tmp_path / "run", "--steps", 2) == 0  # four rows
    last = lambda: capsys.readouterr().out.splitlines()[-1]
    trained = last()
    for mesh in ("data=1", "data=8"):
        assert run("eval", "toy", *data, "--checkpoint", tmp_path / "run", "--mesh", mesh) == 0
        assert last() == trained


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--mesh rows=2", "unknown axis 'rows', there are replica, data, model"),
        ("--mesh data", "expected data=N"),
        ("--mesh data=0", "expected data=N with a positive N"),
        ("--mesh data=2,data=4", "names data twice"),
        ("--mesh data=16", "needs 16 devices, there are 8"),
        (
            "--mesh data=8 --batch_size 60",
            "cannot be split evenly over replica=1*data=8",
        ),
        ("--accumulate 0", "accumulate must be >= 1, got 0"),
        ("--accumulate 30", "batch_size 1920 is more than the 1437 training samples"),
        ("--clip -1", "clip must be >= 0, got -1.0"),
        ("--ema 1", "ema must be in [0, 1)"),
        (
            "--schedule magic",
            "schedule must be one of 'own', 'constant', 'cosine', 'linear'",
        ),
        ("--warmup 5", "warmup=5 needs a schedule that is not 'own'"),
        ("--compute_dtype float8", "compute_dtype must be one of 'float32', 'bfloat16'"),
        ("--compute_dtype bfloat16 --f_tol 1e-3", "f_stop_mode must be 'rel' and f_tol not below"),
        ("--distributed --process_id 0", "give --distributed alone, or --coordinator"),
        ("--distributed", "no connection with the other processes"),
        ("--num_processes 2", "give --distributed alone, or --coordinator"),
        (
            "--coordinator localhost:1 --num_processes 2 --process_id 2",
            "process_id must be from 0 to 1, got 2",
        ),
    ],
)
def test_mistakes_are_said_before_the_start(options, named, capsys, tmp_path):
    assert run("train", "mdeq", "--out", tmp_path, *options.split()) == 2
    error = capsys.readouterr().err
    assert named in error and "Traceback" not in error


def test_a_model_without_named_axes_has_no_layers_to_split(toy_config, toy_data):
    with pytest.raises(UserError, match="no layer of this model can be split over model=2"):
        Trainer(TOY, toy_config, toy_data, Devices("data=4,model=2"))


def test_a_name_that_no_rule_has():
    params = nnx.State({"w": nnx.Param(np.zeros((2, 2)), **named("embed", "hiden"))})
    with pytest.raises(UserError, match="unknown name 'hiden' of a parameter's axis"):
        Layout().params(params)


@pytest.mark.parametrize("process_rows", [(0, 3, 8), (0, 8)])
def test_rows_are_those_of_the_whole_batch(process_rows):
    split = Streams(TOKENS, 4)
    read = lambda rows: list(split.train_batches(8, seed=0, start=5, stop=9, rows=rows))
    parts = [read(slice(a, b)) for a, b in zip(process_rows[:-1], process_rows[1:], strict=True)]
    for whole, *cut in zip(read(slice(None)), *parts, strict=True):
        np.testing.assert_array_equal(whole["x"], np.concatenate([c["x"] for c in cut]))
