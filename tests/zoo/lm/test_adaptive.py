import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tests.marks import some_of
from tests.tolerances import rounding
from tests.zoo.lm.conftest import TINY, make

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]

# a logit: a projection, then D products; its log-probability: less the log of a sum over all words
CLOSE = rounding(np.float64, terms=2 * TINY.d_model + TINY.n_token, size=100)

LAYOUTS = {
    "tables of falling width": {},
    "one table for all clusters": {"div_val": 1, "tied_projections": ()},
    "one projected table": {"div_val": 1, "d_embed": 6},
    "no clusters": {"cutoffs": (), "tied_projections": (), "div_val": 1},
    "nothing tied": {"tied": False, "tied_projections": ()},
    "first projection tied": {"tied_projections": (0, 2)},
}
layouts = pytest.mark.parametrize("changes", LAYOUTS.values(), ids=LAYOUTS)


def vocabulary(**changes):
    return make(dataclasses.replace(TINY, **changes), scale=0.7).vocabulary


def hidden(n: int = 3):
    return jax.random.normal(jax.random.key(1), (2, n, TINY.d_model))


@layouts
def test_probabilities_sum_to_one(changes):
    log_probs = vocabulary(**changes).log_probs(hidden())
    assert log_probs.shape == (2, 3, TINY.n_token)
    np.testing.assert_allclose(jnp.exp(log_probs).sum(-1), 1, rtol=0, atol=CLOSE)


@layouts
def test_nll_of_every_word(changes):
    words = vocabulary(**changes)
    h = hidden(1)
    targets = jnp.broadcast_to(jnp.arange(TINY.n_token), (2, TINY.n_token))
    nll = words.nll(jnp.broadcast_to(h, (2, TINY.n_token, TINY.d_model)), targets)
    np.testing.assert_allclose(nll, -words.log_probs(h)[:, 0], rtol=0, atol=CLOSE)


def test_one_cluster_is_a_dense_softmax():
    words = vocabulary(**LAYOUTS["no clusters"])
    logits = hidden() @ words.tables[0][...].T + words.biases[0][...][None, None]
    want = jax.nn.log_softmax(logits)
    np.testing.assert_allclose(words.log_probs(hidden()), want, rtol=0, atol=CLOSE)


def test_the_cluster_entries_of_the_head_are_in_reverse_order():
    words = vocabulary()
    assert words.cluster_bias is not None
    words.cluster_bias[...] = jnp.array([50.0, 0.0])  # the first entry
    last = jnp.exp(words.log_probs(hidden()))[..., TINY.cutoffs[-1] :].sum(-1)
    np.testing.assert_allclose(last, 1, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("chunk", some_of([1, 4, 6, 100], [4, 100]))
def test_a_chunked_softmax_changes_nothing(chunk):
    targets = jnp.array([[0, 7, 19], [4, 5, 9]])

    def loss(words):
        return words.nll(hidden(), targets).sum()

    want = jax.value_and_grad(loss)(vocabulary())
    got = jax.value_and_grad(loss)(vocabulary(softmax_chunk=chunk))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=targets.size * CLOSE)


def test_embedding_looks_up_each_cluster():
    words = vocabulary()
    tokens = jnp.arange(TINY.n_token)
    tables = [t[...] @ words.projection(i) for i, t in enumerate(words.tables)]
    want = TINY.d_model**0.5 * jnp.concatenate(tables)
    np.testing.assert_allclose(words.embed(tokens), want, rtol=0, atol=CLOSE)


@pytest.mark.parametrize(
    "changes",
    [{}, {"div_val": 1, "d_embed": 6, "tied_projections": (1, 2)}],
    ids=["one to one", "all clusters with one"],
)
def test_a_tied_projection_moves_by_the_updates_of_both_its_parameters(changes):
    """As in the original, where two parameters share storage and each has its own Adam."""
    words = vocabulary(**changes)
    targets = jnp.array([[0, 7, 19], [4, 5, 9]])

    def loss(words, tokens):
        return words.nll(words.embed(tokens), targets).sum()

    graphdef, state = nnx.split(words)
    grads = jax.grad(lambda s: loss(nnx.merge(graphdef, s), jnp.array([[1, 6, 10], [2, 7, 15]])))
    adam = optax.adam(0.1)
    updates: Any = adam.update(grads(state), adam.init(state))[0]
    moved = nnx.merge(graphdef, optax.apply_updates(state, updates))
    table = 0 if changes else 1
    tied = [1, 2] if changes else [1]
    steps = [updates["in_projections"][table], *(updates["out_projections"][i] for i in tied)]
    assert all(jnp.abs(s[...]).max() > 0 for s in steps)
    want = words.projection(table) + sum(s[...] for s in steps)
    np.testing.assert_allclose(moved.projection(table), want, rtol=0, atol=CLOSE)
    for i in tied:
        np.testing.assert_array_equal(moved._out_projection(i), moved._in_projection(table))
