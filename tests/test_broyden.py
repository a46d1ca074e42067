"""What is particular to Broyden's method: its updates written out, and the line search."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq

from .problems import affine, matrix

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


def cubic(batch=32):
    """z = f(z) with g a coupled cubic, from starts where the steps of Broyden explode."""
    rng = np.random.default_rng(0)
    a, b = np.eye(16) + rng.normal(size=(16, 16)) / 8, rng.normal(size=(batch, 16))
    z0 = jnp.asarray(3 * rng.normal(size=(batch, 16)))
    return lambda z: z - (z @ a + 0.3 * z**3 - b), z0


def solve(f, z0, **settings):
    solver = jdeq.Broyden(max_iter=100, tol=1e-8, **settings)
    return jax.jit(lambda z0: jdeq.deq(f, z0, solver=solver))(z0)


def test_line_search_tames_a_cubic():
    f, z0 = cubic()
    assert not np.any(solve(f, z0)[1].converged)
    z, info = solve(f, z0, line_search=True)
    assert np.all(info.converged)
    np.testing.assert_allclose(f(z), z, atol=1e-6)
    _, bad = solve(f, z0, update="bad", line_search=True)
    assert np.mean(bad.converged) > 0.5 > np.mean(solve(f, z0, update="bad")[1].converged)


def test_line_search_obeys_its_rule():
    """Every accepted |g| is within the window's bound, every rejected one is not."""
    f, z0 = cubic(1)
    _, info = solve(f, z0, line_search=True)
    norms = np.concatenate([[np.linalg.norm(f(z0) - z0)], info.abs_trace[0]])
    accepted, cuts = [norms[0]], 0
    for k, now in enumerate(norms[1 : 1 + int(info.steps[0])], start=1):
        if now > (1 + 1 / (k + 1) ** 2) * max(accepted[-8:]) and cuts < 6:
            cuts += 1
        else:
            accepted, cuts = [*accepted, now], 0
    assert accepted[-1] == norms[int(info.steps[0])]
    assert len(accepted) < int(info.steps[0])  # something was rejected


@pytest.mark.parametrize("update", ["good", "bad"])
def test_line_search_steps_back_from_nan(update):
    """-5 z + sinh z - 1, not a number beyond 3; its root by bisection."""
    f = lambda z: jnp.where(jnp.abs(z) < 3, -5 * z + jnp.sinh(z) - 1, jnp.nan)
    z0 = jnp.array([[0.0], [2.5], [2.9]])
    _, plain = solve(f, z0, update=update)
    assert plain.status.tolist()[1:] == [jdeq.Status.NONFINITE] * 2
    z, info = solve(f, z0, update=update, line_search=True)
    low, high = -1.0, 0.0
    for _ in range(60):
        middle = (low + high) / 2
        high, low = (middle, low) if -6 * middle + np.sinh(middle) - 1 < 0 else (high, middle)
    assert np.all(info.converged)
    np.testing.assert_allclose(z, low, atol=1e-7)


def test_line_search_keeps_samples_apart():
    f, z0 = cubic()
    together, info = solve(f, z0, line_search=True)
    rng = np.random.default_rng(0)
    a, b = np.eye(16) + rng.normal(size=(16, 16)) / 8, rng.normal(size=(32, 16))
    for i in (0, 7):
        one = lambda z, i=i: z - (z @ a + 0.3 * z**3 - b[i : i + 1])
        alone, single = solve(one, z0[i : i + 1], line_search=True)
        assert abs(int(single.steps[0]) - int(info.steps[i])) <= 1  # sums may round differently
        np.testing.assert_allclose(alone[0], together[i], atol=1e-6)


@pytest.mark.parametrize("update", ["good", "bad"])
def test_line_search_unrolls(update):
    """Reverse mode through cut steps is finite and agrees with the implicit gradient."""
    f, z0 = cubic(2)
    solver = jdeq.Broyden(max_iter=60, tol=1e-12, update=update, line_search=True)

    def loss(shift, backward):
        z, info = jdeq.deq(lambda z: f(z) + shift[None], z0, solver=solver, backward=backward)
        return jnp.sum(jnp.where(info.converged[:, None], z, 0))

    shift = jnp.zeros(16)
    gradients = [jax.jit(jax.grad(loss), static_argnums=1)(shift, b) for b in ("unroll", "ift")]
    assert np.any(gradients[1] != 0)
    np.testing.assert_allclose(*gradients, rtol=1e-5, atol=1e-7)


def test_options_are_checked():
    with pytest.raises(ValueError, match="update must be 'good' or 'bad', got 'ugly'"):
        jdeq.Broyden(update="ugly")  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="line_search must be a bool"):
        jdeq.Broyden(line_search=3)  # pyright: ignore[reportArgumentType]
