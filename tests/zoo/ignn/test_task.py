import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jdeq
from tests.zoo.ignn.made import random_edges
from tests.zoo.test_cli import run
from zoo.ignn.config import IGNNConfig
from zoo.ignn.model import IGNN
from zoo.ignn.optimizer import IGNNTrainConfig, adam, clip_each
from zoo.ignn.presets import PRESETS
from zoo.ignn.task import TASK
from zoo.ignn.trained import TRAINED

DEQ = jdeq.DEQConfig(f_max_iter=30, f_tol=1e-5, ift=True, norm_type="weight_norm")
NODES = IGNNConfig(n_features=4, widths=(5,), n_classes=3, dropout=0.0)
LABELS = dataclasses.replace(NODES, form="stack", labels="any")
GRAPHS = IGNNConfig(form="graphs", n_features=4, widths=(6,), n_classes=3, dropout=0.0)
KINDS = {"classes": NODES, "labels": LABELS, "graphs": GRAPHS}


def batch_of(config, packs=2):
    rng = np.random.default_rng(0)
    edges = random_edges(rng, packs, 7, 15, unit=True)
    batch = {"x": jnp.asarray(rng.normal(size=(packs, 7, 4)), jnp.float32), **edges._asdict()}
    rows = 2 if config.form == "graphs" else 7
    if config.form == "graphs":
        batch["graph"] = jnp.array([[0, 0, 0, 1, 1, 1, 2]] * packs)
    shape = (packs, rows, 3) if config.labels != "class" else (packs, rows)
    y = rng.integers(0, 2 if config.labels != "class" else 3, shape)
    batch["y"] = jnp.asarray(y, jnp.float32 if config.labels != "class" else jnp.int32)
    batch["mask"] = jnp.asarray(rng.integers(0, 2, (packs, rows)), jnp.float32).at[0, 0].set(1)
    return batch


@pytest.mark.slow
@pytest.mark.parametrize("explicit", [0, 2])
@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_training_and_evaluation_say_the_same(config, explicit):
    """Without dropout, and solved: the mean over what counts of what evaluation says of each."""
    config = dataclasses.replace(config, explicit=explicit)
    model, batch = IGNN(config, DEQ, rngs=nnx.Rngs(0)), batch_of(config)
    loss, metrics = nnx.jit(TASK.loss)(model, batch, jax.random.key(0))
    model.eval()
    said = nnx.jit(TASK.evaluate)(model, batch)
    mask = batch["mask"]
    assert said["loss"].shape == said["accuracy"].shape == mask.shape
    assert said["tp"].shape == (*mask.shape, 3)
    assert said["residual"].shape == said["converged"].shape == (2,)
    for name in ("loss", "accuracy", "tp", "fp", "fn"):
        weights = mask.reshape(mask.shape + (1,) * (said[name].ndim - 2))
        want = jnp.sum(said[name] * weights, (0, 1)) / mask.sum()
        got = loss if name == "loss" else metrics[name]
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    assert metrics["converged"] == 1


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_what_does_not_count_has_no_influence(config):
    model, batch = IGNN(config, DEQ, rngs=nnx.Rngs(0)), batch_of(config)
    counted = batch["mask"].reshape(batch["mask"].shape + (1,) * (batch["y"].ndim - 2)) > 0
    other = batch | {"y": jnp.where(counted, batch["y"], 1 - jnp.minimum(batch["y"], 1))}
    values = [nnx.jit(TASK.loss)(model, b, jax.random.key(0))[0] for b in (batch, other)]
    assert values[0] == values[1]


@pytest.mark.slow
@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_it_learns_and_leaves_alone_what_is_not_read(config):
    model, batch = IGNN(config, DEQ, rngs=nnx.Rngs(0)), batch_of(config)
    optimizer = adam(IGNNTrainConfig(lr=0.02, weight_decay=5e-4, clip_each=0.5))
    graphdef, params, rest = nnx.split(model, TRAINED, ...)
    unread = jax.tree.leaves(nnx.filter_state(rest, nnx.Param))
    # a bias; for graphs, Omega_2 and its scale
    assert len(unread) == len(model.layers) * (3 if config.form == "graphs" else 1)
    opt_state = optimizer.init(params)

    @jax.jit
    def step(params, opt_state):
        def loss(params):
            return TASK.loss(nnx.merge(graphdef, params, rest), batch, jax.random.key(0))[0]

        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return value, optax.apply_updates(params, updates), opt_state

    values = []
    for _ in range(60):
        value, params, opt_state = step(params, opt_state)
        values.append(value)
    assert values[-1] < 0.6 * values[0]


def test_adam_is_pytorchs():
    """A step by hand: each array is clipped, then decayed, and then Adam's."""
    train = IGNNTrainConfig(lr=0.1, weight_decay=0.01, clip_each=0.5)
    params = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([0.5])}
    grads = {"a": jnp.array([3.0, 4.0]), "b": jnp.array([0.1])}
    optimizer = adam(train)
    updates: Any = optimizer.update(grads, optimizer.init(params), params)[0]
    for name, scale in (("a", 0.1), ("b", 1.0)):
        gradient = grads[name] * scale + 0.01 * params[name]
        want = -0.1 * gradient / (jnp.abs(gradient) + 1e-8)
        np.testing.assert_allclose(updates[name], want, rtol=1e-5)
    none: Any = clip_each(1.0).update({"a": jnp.zeros(2)}, optax.EmptyState())[0]
    assert np.array_equal(none["a"], np.zeros(2))


def test_the_rate_is_halved_once():
    rate: Any = TASK.rate(IGNNTrainConfig(lr=0.1, halve_at=50))
    assert [round(float(rate(step)), 6) for step in (0, 49, 51, 500)] == [0.1, 0.1, 0.05, 0.05]
    constant: Any = TASK.rate(IGNNTrainConfig(lr=0.1))
    assert float(constant(500)) == pytest.approx(0.1)


def test_the_figure_that_judges_is_first():
    assert list(TASK.figures) == ["micro-F1", "macro-F1", "accuracy"]
    for preset in PRESETS.values():
        assert isinstance(preset.train, IGNNTrainConfig)


def test_bfloat16_runs_with_states_in_it():
    model, batch = IGNN(NODES, DEQ, rngs=nnx.Rngs(0), param_dtype=jnp.bfloat16), batch_of(NODES)
    model.eval()
    low = batch | {"x": batch["x"].astype(jnp.bfloat16)}
    said = nnx.jit(TASK.evaluate)(model, low)
    assert said["loss"].dtype == jnp.float32 and np.isfinite(said["loss"]).all()


@pytest.mark.slow
def test_the_jacobian_penalty_is_that_of_all_layers():
    batch = batch_of(LABELS)

    def loss(weight):
        model = IGNN(LABELS, dataclasses.replace(DEQ, jac_loss_weight=weight), rngs=nnx.Rngs(0))
        return nnx.jit(TASK.loss)(model, batch, jax.random.key(0))[0]

    plain, one, two = loss(0.0), loss(1.0), loss(2.0)
    assert one > plain
    np.testing.assert_allclose(two - plain, 2 * (one - plain), rtol=1e-3)


@pytest.mark.parametrize("options", [("--n_states", 3), ("--sup_gap", 1), ("--indexing", 2)])
def test_options_without_effect_are_refused(options, tmp_path, capsys):
    argv = ("--preset", "chains-published", "--out", tmp_path)
    assert run("train", "ignn", *argv, *options) == 2
    assert "have no effect" in capsys.readouterr().err
