"""What is particular to Broyden's method: its updates, written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq

from ..problems import affine, matrix

N = 12


def textbook(f, steps, *, update, tau=1.0, memory=None):
    """The iterates from zeros, with a dense inverse that is rebuilt from its pairs each time."""
    g = lambda z: f(z) - z
    z = np.zeros(N)
    iterates, pairs = [z], []
    for _ in range(steps):
        inverse = -np.eye(N)
        for s, y in pairs if memory is None else pairs[-memory:]:
            if update == "good":
                correction = np.outer(s - inverse @ y, s @ inverse) / (s @ inverse @ y)
            else:
                correction = np.outer(s - inverse @ y, y) / (y @ y)
            inverse = inverse + correction
            np.testing.assert_allclose(inverse @ y, s, atol=1e-9)  # the secant equation
        s = -tau * inverse @ g(z)
        pairs.append((s, g(z + s) - g(z)))
        z = z + s
        iterates.append(z)
    return iterates


@pytest.mark.parametrize("tau", [1.0, 0.7])
@pytest.mark.parametrize(
    ("update", "memory"), [("good", None), ("bad", None), ("bad", 3), ("bad", 1)]
)
def test_iterates_are_the_textbook_ones(update, memory, tau):
    w, b = matrix(N, 1.2), np.random.default_rng(1).normal(size=(1, N))
    want = textbook(lambda z: np.tanh(z @ w + b[0]), 14, update=update, tau=tau, memory=memory)
    solver = jdeq.Broyden(
        update=update, tau=tau, memory=memory, max_iter=14, tol=1e-14, return_final=True
    )
    solve = jax.jit(
        lambda limit: jdeq.deq(
            lambda z: jnp.tanh(z @ w + b), jnp.zeros((1, N)), solver=solver, max_iter=limit
        )[0]
    )
    for k in range(1, 15):
        np.testing.assert_allclose(solve(jnp.asarray(k))[0], want[k], atol=1e-9)


@pytest.mark.parametrize("update", ["good", "bad"])
@pytest.mark.parametrize("radius", [0.9, 1.5])
def test_an_affine_map_takes_two_n_steps(update, radius):
    w, b = jnp.asarray(matrix(8, radius)), jnp.asarray(np.random.default_rng(0).normal(size=(5, 8)))
    solver = jdeq.Broyden(update=update, max_iter=40, tol=1e-9)
    z, info = jdeq.deq(lambda z: z @ w + b, jnp.zeros_like(b), solver=solver)
    np.testing.assert_allclose(z, affine(w, b), rtol=1e-6, atol=1e-8)
    assert np.all(info.steps <= 17)


def test_options_are_checked():
    with pytest.raises(ValueError, match="update must be 'good' or 'bad', got 'ugly'"):
        jdeq.Broyden(update="ugly")  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
@pytest.mark.parametrize("update", ["good", "bad"])
def test_tiny_steps_can_be_unrolled(update):
    """In float32, where 1 / |d|^2 is finite but its derivative, 1 / |d|^4, is not."""
    rates = jnp.array([[0.1, 0.3, 0.5]], jnp.float32)
    solver = jdeq.Broyden(update=update, max_iter=6, tol=1e-5)

    def loss(x):
        f = lambda z: rates * z + x
        return jdeq.deq(f, jnp.zeros_like(x), solver=solver, backward="unroll")[0].sum()

    gradient = jax.grad(loss)(jnp.full((1, 3), 1e-11, jnp.float32))
    np.testing.assert_allclose(gradient, 1 / (1 - rates), rtol=1e-2)
