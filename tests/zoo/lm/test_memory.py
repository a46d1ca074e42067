import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.zoo.lm.conftest import POST_NORM, TIGHT, TINY, UNROLLED, make
from zoo.lm.memory import Memory
from zoo.lm.model import nll
from zoo.upstream.reference import FLOAT64

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]
TOKENS, TARGETS = jnp.asarray(
    np.random.default_rng(3).integers(0, TINY.n_token, (2, 2, 8)), jnp.int32
)
DESIGNS = {"later": TINY, "earlier": POST_NORM}
designs = pytest.mark.parametrize("config", DESIGNS.values(), ids=DESIGNS)
run = nnx.jit(nll)


def contraction(**changes):
    """A post-norm model whose equilibrium depends on its input by much."""
    model = make(dataclasses.replace(POST_NORM, **changes), TIGHT)
    for variable in (model.injection.kernel, *model.vocabulary.tables):
        variable[...] = 20 * variable[...]
    for variable in model.vocabulary.in_projections:
        variable[...] = 20 * variable[...]
    return model


def empty(config, length: int) -> Memory:
    return Memory.empty(config, 2, length, jnp.float64)


def read(model, tokens, length: int, segment: int):
    """NLLs (B, L) of consecutive segments, and the memory in the end."""
    memory, losses = empty(model.config, length), []
    for start in range(0, tokens.shape[1], segment):
        part = slice(start, start + segment)
        loss, _, memory = run(model, tokens[:, part], TARGETS[:, part], memory)
        losses.append(loss)
    return jnp.concatenate(losses, axis=1), memory


@designs
def test_empty_memory_is_no_memory(config):
    model = make(config, scale=0.5)
    without, _ = read(model, TOKENS[:, :4], 0, 4)
    for length in (1, 6):
        masked, _ = read(model, TOKENS[:, :4], length, 4)
        np.testing.assert_allclose(masked, without, rtol=FLOAT64.function)


@designs
def test_what_lies_before_the_filled_positions_does_not_matter(config):
    model = make(config, scale=0.5)
    _, memory = read(model, TOKENS[:, :4], 6, 4)
    assert memory.filled.tolist() == [4, 4]
    rubbish = memory._replace(z=memory.z.at[:, :2].set(9.0), u=memory.u.at[:, :2].set(-9.0))
    real = Memory(memory.z[:, 2:], memory.u[:, 2:], memory.filled)
    want, *_ = run(model, TOKENS[:, 4:], TARGETS[:, 4:], real)
    got, *_ = run(model, TOKENS[:, 4:], TARGETS[:, 4:], rubbish)
    np.testing.assert_allclose(got, want, rtol=FLOAT64.function)


@pytest.mark.parametrize("local_size", [0, 3])
def test_two_segments_are_one_where_the_memory_is_an_equilibrium(local_size):
    model = contraction(local_size=local_size)
    whole, _ = read(model, TOKENS, 0, 8)
    # with a horizon of 3, two remembered positions are all that a token can see
    halves, _ = read(model, TOKENS, 2 if local_size else 4, 4)
    np.testing.assert_allclose(halves, whole, rtol=1e-8)


def test_short_memory_forgets():
    model = contraction()
    whole, _ = read(model, TOKENS, 0, 8)
    halves, _ = read(model, TOKENS, 1, 4)
    np.testing.assert_allclose(halves[:, :4], whole[:, :4], rtol=1e-9)
    assert jnp.abs(halves[:, 4:] - whole[:, 4:]).max() > 1e-3


@designs
@pytest.mark.parametrize(("length", "segment", "filled"), [(6, 4, 6), (3, 4, 3), (9, 2, 8)])
def test_memory_holds_the_last_positions(config, length, segment, filled):
    model = make(config, scale=0.5)
    _, memory = read(model, TOKENS, length, segment)
    assert memory.filled.tolist() == [filled] * 2
    assert memory.z.shape == (2, length, 8) and memory.u.shape == (2, length, 24)
    u = model.injection(model.vocabulary.embed(TOKENS))
    np.testing.assert_allclose(
        memory.u[:, length - filled :], u[:, 8 - filled :], rtol=FLOAT64.function
    )
    assert not memory.u[:, : length - filled].any()


def test_rows_may_have_different_histories():
    model = make(TINY, scale=0.5)
    _, memory = read(model, TOKENS[:, :4], 6, 4)
    fresh = empty(TINY, 6)
    mixed = jax.tree.map(lambda a, b: jnp.stack([a[0], b[1]]), memory, fresh)
    got, *_ = run(model, TOKENS[:, 4:], TARGETS[:, 4:], mixed)
    for row, history in enumerate((memory, fresh)):
        want, *_ = run(model, TOKENS[:, 4:], TARGETS[:, 4:], history)
        np.testing.assert_allclose(got[row], want[row], rtol=FLOAT64.function)


def test_one_compilation_for_all_segments_and_no_gradient_into_the_memory():
    model = make(TINY, UNROLLED, scale=0.5)
    graphdef, state = nnx.split(model)
    traces = []

    @jax.jit
    def step(state, tokens, targets, memory):
        traces.append(None)
        loss, _, memory = nll(nnx.merge(graphdef, state), tokens, targets, memory)
        return loss, memory

    memory = empty(TINY, 6)
    for _ in range(3):
        _, memory = step(state, TOKENS[:, :4], TARGETS[:, :4], memory)
    assert len(traces) == 1

    def remembered(u):
        start = empty(TINY, 6)._replace(u=u, filled=jnp.array([6, 6]))
        return nll(model, TOKENS[:, :4], TARGETS[:, :4], start)[2].u.sum()

    assert not jax.jit(jax.grad(remembered))(memory.u).any()


@designs
def test_the_future_and_what_is_beyond_the_horizon_are_not_seen(config):
    model = make(dataclasses.replace(config, local_size=2, n_layer=1), UNROLLED, scale=0.5)
    weights = jnp.arange(8.0) ** 2  # layer norm makes the plain sum constant
    state = lambda u: model.equilibrium(context._replace(u=u))[0] @ weights
    gradient = jax.jit(jax.jacrev(state))
    context = model.encode(TOKENS, empty(model.config, 0))
    seen = jnp.abs(gradient(context.u)).max(-1)[0, :, 0] > 0  # (query, key)
    reach = 3 + 1  # each of 3 applications sees one position further back
    distance = np.arange(8)[:, None] - np.arange(8)[None]
    np.testing.assert_array_equal(seen, (distance >= 0) & (distance < reach))
