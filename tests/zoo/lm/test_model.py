import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jdeq
from tests.tolerances import rounding
from tests.zoo.lm.conftest import POST_NORM, TINY, UNROLLED, make
from zoo.listing import count_parameters
from zoo.lm.memory import Memory
from zoo.lm.model import LanguageModel, nll, training_loss
from zoo.lm.positions import Positions, relative_shift
from zoo.lm.presets import PRESETS
from zoo.lm.task import TASK
from zoo.registry import get_task
from zoo.settings import TrainConfig
from zoo.upstream.reference import FLOAT64

TOKENS = jnp.asarray(np.random.default_rng(3).integers(0, TINY.n_token, (2, 4)), jnp.int32)
DESIGNS = {"later": TINY, "earlier": POST_NORM}
designs = pytest.mark.parametrize("config", DESIGNS.values(), ids=DESIGNS)


def empty(config, length: int = 0) -> Memory:
    return Memory.empty(config, 2, length, jnp.result_type(float))


def count(config, deq=UNROLLED) -> int:
    model = nnx.eval_shape(lambda: LanguageModel(config, deq, rngs=nnx.Rngs(0)))
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def value_and_gradient(config, key):
    """Loss and gradients in training mode."""
    graphdef, params, rest = nnx.split(make(config, scale=0.5), nnx.Param, ...)

    def run(params):
        model = nnx.merge(graphdef, params, rest)
        return nll(model, TOKENS, TOKENS, empty(config), key=key)[0].mean()

    return jax.jit(jax.value_and_grad(run))(params)


@pytest.mark.parametrize(
    ("preset", "n"), [("wikitext103", 97_730_888), ("wikitext103-ift", 97_851_488)]
)
def test_published_parameter_count(preset, n):
    assert count_parameters(get_task("lm"), PRESETS[preset]) == n


@pytest.mark.slow
@designs
def test_the_explicit_transformer_has_the_same_parameters(config, x64):
    deq = dataclasses.replace(UNROLLED, f_max_iter=5, eval_f_max_iter=7)
    explicit = dataclasses.replace(config, explicit=True)
    assert count(explicit, deq) == count(config, deq)
    model = make(explicit, deq, scale=0.5)
    context = model.encode(TOKENS, empty(config))
    want = model.equilibrium.f(context)(jnp.zeros((2, 4, config.d_model)))
    for mode in (model.train, model.eval):
        mode()
        got, info = model.equilibrium(context)
        np.testing.assert_allclose(got, want, rtol=0, atol=FLOAT64.function)
        assert info.steps.tolist() == [0, 0]
    tied = make(config, dataclasses.replace(UNROLLED, grad=1), scale=0.5)
    np.testing.assert_allclose(tied.equilibrium(context)[0], want, rtol=0, atol=FLOAT64.function)


def test_unrolled_form(x64):
    """`--f_max_iter 0 --grad 3`: three applications of f from zero."""
    model = make(TINY, scale=0.5)
    context = model.encode(TOKENS, empty(TINY))
    f = model.equilibrium.f(context)
    want = f(f(f(jnp.zeros((2, 4, TINY.d_model)))))
    np.testing.assert_allclose(model.equilibrium(context)[0], want, rtol=0, atol=FLOAT64.function)


@pytest.mark.slow
def test_recomputing_changes_nothing(x64):
    config = dataclasses.replace(TINY, n_layer=1, dropout=0.3, dropatt=0.3)
    key = jax.random.key(7)
    want = value_and_gradient(config, key)
    got = value_and_gradient(dataclasses.replace(config, remat=True), key)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=FLOAT64.function)


@pytest.mark.slow
@designs
def test_dropout_depends_on_the_key_alone(config, x64):
    model = make(dataclasses.replace(config, dropout=0.3, dropatt=0.2), scale=0.5)
    run = nnx.jit(lambda model, key: model(TOKENS, empty(config), key=key)[0])
    one, other = jax.random.split(jax.random.key(0))
    np.testing.assert_array_equal(run(model, one), run(model, one))
    assert jnp.abs(run(model, one) - run(model, other)).max() > 0.01
    with pytest.raises(ValueError, match="key="):
        model(TOKENS, empty(config))
    model.eval()
    plain, *_ = make(config, scale=0.5)(TOKENS, empty(config))
    np.testing.assert_allclose(
        model(TOKENS, empty(config))[0], plain, rtol=0, atol=FLOAT64.function
    )


@pytest.mark.slow
def test_training_loss_weights_states_and_adds_the_penalty(x64):
    deq = jdeq.DEQConfig(f_max_iter=4, f_tol=1e-9, n_states=2, norm_type="weight_norm")
    model = make(POST_NORM, deq, scale=0.5)
    args = TOKENS, TOKENS, empty(POST_NORM)
    run = nnx.jit(lambda m, **k: training_loss(m, *args, key=jax.random.key(0), **k))
    loss, (last, info, memory) = run(model)
    assert len(info.states) == 2 and memory.z.shape == (2, 0, 8)
    first = model.vocabulary.nll(info.states[0], TOKENS)
    np.testing.assert_allclose(loss, 0.8 * first.mean() + last.mean(), rtol=FLOAT64.function)
    weighted, _ = run(model, jac_weight=jnp.float32(2.0))
    assert weighted > loss


def generic(zero_mean: bool) -> LanguageModel:
    """Random weights whose feed-forward parts pull back what attention adds."""
    sizes = {"d_model": 16, "d_embed": 16, "d_inner": 64, "cutoffs": (), "div_val": 1}
    config = dataclasses.replace(TINY, **sizes, tied_projections=(), zero_mean=zero_mean)
    model = make(config, jdeq.DEQConfig(f_max_iter=400, f_tol=1e-10, ift=True), scale=0.15)
    for block in model.equilibrium.cell.blocks:
        feed_forward = block.feed_forward
        feed_forward.ff2_net.kernel[...] = -1.2 * feed_forward.ff1_net.kernel[...].T
        for norm in (block.ln1, block.ln, block.attention.ln2):
            norm.scale[...] = 1 + norm.scale[...]
    return model.eval() or model


@pytest.mark.slow
def test_the_eigenvalue_one_and_its_removal(x64):
    """Pre-norm blocks hand a token's feature mean on: no isolated fixed point, unless it is cut."""
    found = {}
    for zero_mean in (False, True):
        model = generic(zero_mean)
        f = model.equilibrium.f(model.encode(TOKENS[:, :2], empty(model.config)))
        z = jax.random.normal(jax.random.key(1), (2, 2, 16))
        shift = f(z + 3.0) - f(z)
        np.testing.assert_allclose(shift, 0.0 if zero_mean else 3.0, atol=1e-12)
        solver = jdeq.FixedPointIter(max_iter=400, tol=1e-9, stop_mode="rel", tau=0.6)
        found[zero_mean] = jdeq.diagnose(
            f, jnp.zeros_like(z), jax.random.key(0), solver=solver, n_iters=20, n_starts=1
        )
    assert (found[False].spectral_radius > 1 - 1e-6).all()
    assert (found[False].smallest_singular_value < 1e-9).all()
    assert not found[False].trials["fixed_point_iter"].converged.any()  # it drifts
    assert any("subtract it in f" in text for text in found[False].advice)
    assert (found[True].status == jdeq.Status.CONVERGED).all()
    assert (found[True].max_tau > 0).all()  # no eigenvalue with real part >= 1
    assert (found[True].smallest_singular_value > 1e-3).all()


def test_relative_shift_and_positions():
    length, memory = 3, 2
    keys = memory + length
    distances = jnp.broadcast_to(jnp.arange(keys - 1.0, -1, -1), (length, keys))
    shifted = relative_shift(distances)
    for i in range(length):
        for j in range(memory + i + 1):
            assert shifted[i, j] == memory + i - j
    encodings = Positions(8)(keys)
    assert encodings.shape == (1, keys, 8)
    np.testing.assert_allclose(encodings[0, -1], [0] * 4 + [1] * 4)
    close = rounding(np.float32, terms=16)  # of the exponents of 10,000, up to 9.2 in base e
    np.testing.assert_allclose(encodings[0, -2, :4], np.sin(10.0 ** -np.arange(4)), rtol=close)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"design": "gpt"}, "design"),
        ({"n_head": 3}, "n_head"),
        ({"d_model": 9, "n_head": 3}, "d_model"),
        ({"cutoffs": (9, 5)}, "cutoffs"),
        ({"cutoffs": (5, 20)}, "cutoffs"),
        ({"tied_projections": (3,)}, "tied_projections"),
        ({"div_val": 4, "d_embed": 8}, "d_embed"),
        ({"dropout": 1.0}, "dropout"),
        ({"mem_len": -1}, "mem_len"),
        ({"tgt_len": 0}, "tgt_len"),
        ({"pre_norm": False}, "pre_norm"),
        ({"design": "deq_seq"}, "n_layer"),
    ],
)
def test_impossible_sizes_are_named(changes, named):
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(TINY, **changes)


@pytest.mark.slow
def test_initial_weights():
    sizes = {"d_model": 64, "d_embed": 64, "d_inner": 256, "tied": False}
    later = make(dataclasses.replace(TINY, **sizes))
    block = later.equilibrium.cell.module.blocks[0]
    for kernel in (block.attention.qkv_net.kernel, later.injection.kernel):
        np.testing.assert_allclose(jnp.std(kernel[...]), 0.01, rtol=0.05)
    assert 0 < jnp.abs(block.ln1.scale[...] - 1).max() < 0.1
    assert jnp.abs(block.attention.r_w_bias[...]).max() <= 0.05
    earlier = make(dataclasses.replace(POST_NORM, **sizes))
    block = earlier.equilibrium.cell.module.blocks[0]
    kernel = block.feed_forward.ff2_net.kernel[...]
    assert jnp.abs(kernel).max() <= 1 / 16
    np.testing.assert_allclose(jnp.std(kernel), 1 / 16 / 3**0.5, rtol=0.03)


@pytest.mark.slow
@designs
def test_initial_weights_of_narrow_models(config):
    """With `fan_in` everything has a unit scale; words, tied vectors and narrow ones too."""
    sizes = {"d_model": 128, "d_embed": 128, "d_inner": 512, "cutoffs": (30,), "n_token": 100}
    config = dataclasses.replace(config, **sizes, tied_projections=(1,), fan_in=True)
    model = make(config)
    vectors = model.vocabulary.embed(jnp.arange(100))
    hidden = jax.random.normal(jax.random.key(0), (200, 128))
    scores = [model.vocabulary._logits(i, hidden) for i in (0, 1)]
    for values in (vectors[:30], vectors[30:], model.injection(vectors), *scores):
        np.testing.assert_allclose(jnp.std(values), 1, rtol=0.1)
    blocks = model.equilibrium.cell.module.blocks
    np.testing.assert_allclose(jnp.std(blocks[0].attention.o_net.kernel[...]), 384**-0.5, rtol=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("fan_in", [True, False])
def test_the_first_equilibria_of_different_words_differ(fan_in):
    """Sixteen texts that differ in the last word; the published weights are for width 700."""
    sizes = {"d_model": 128, "d_embed": 128, "d_inner": 512, "n_token": 100}
    config = dataclasses.replace(POST_NORM, **sizes, fan_in=fan_in)
    solver = {"f_solver": "anderson", "f_max_iter": 60, "f_tol": 1e-3, "f_stop_mode": "rel"}
    model = make(config, jdeq.DEQConfig(ift=True, **solver, norm_type="weight_norm"))
    text = jax.random.randint(jax.random.key(0), (32,), 0, 100)
    texts = jnp.tile(text, (16, 1)).at[:, -1].set(6 * jnp.arange(16))
    z, info = model.equilibrium(model.encode(texts, Memory.empty(config, 16, 0)))
    spread = jnp.std(z[:, -1], axis=0).mean()
    if fan_in:
        assert info.converged.all() and spread > 0.4
    else:
        assert spread < 0.2


@pytest.mark.slow
def test_learning_rate():
    schedule = TASK.rate(TrainConfig(steps=150_000, lr=2.0))
    at = lambda step: float(jnp.asarray(schedule(step)))
    assert at(0) == 0 and at(4000) == pytest.approx(1.0)
    assert at(8000) == pytest.approx(1 + np.cos(np.pi * 8 / 150))
    assert at(75_000) == pytest.approx(1.0) and at(150_000) == pytest.approx(0.0, abs=1e-6)
