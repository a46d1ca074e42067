import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from zoo.ignn.iteration import TogetherIteration


def torchdeq(f, z, max_iter, tol, mode):
    """Its fixed point iteration, line by line: rows are samples."""
    lowest, best, steps, k = np.full(len(z), 1e8), z, np.zeros(len(z)), 0
    while k < max_iter:
        fz = f(z)
        k, gap = k + 1, np.linalg.norm(fz - z, axis=1)
        now = gap if mode == "abs" else gap / (np.linalg.norm(fz, axis=1) + 1e-9)
        better = now < lowest
        best = np.where(better[:, None], fz, best)
        lowest, steps = np.where(better, now, lowest), np.where(better, k, steps)
        z = fz
        if now.max() < tol:
            break
    return best, steps, lowest, k


@pytest.mark.parametrize("mode", ["abs", "rel"])
@pytest.mark.parametrize(("max_iter", "tol"), [(50, 1e-3), (7, 1e-9), (1, 1.0), (0, 1.0)])
def test_it_stops_where_torchdeq_does(mode, max_iter, tol):
    rng = np.random.default_rng(0)
    w = rng.normal(size=(6, 6))
    w *= 0.9 / np.abs(np.linalg.eigvals(w)).max()  # not normal: residuals rise and fall
    b, z0 = rng.normal(size=(6, 4)), rng.normal(size=(6, 4))
    want, steps, lowest, made = torchdeq(lambda z: np.tanh(w @ z) + b, z0, max_iter, tol, mode)
    with jax.enable_x64(True):
        solver = TogetherIteration(max_iter=max_iter, tol=tol, stop_mode=mode)
        f, start = lambda z: jnp.tanh(w @ z) + b, jnp.asarray(z0)
        z, info = jdeq.deq(f, start, solver=solver)
    z, info = jax.device_get((z, info))
    np.testing.assert_allclose(z, want, rtol=1e-12)
    assert np.array_equal(info.steps, steps)
    if max_iter:
        residual = info.abs_residual if mode == "abs" else info.rel_residual
        np.testing.assert_allclose(residual, lowest, rtol=1e-9)
        assert info.nfe == made
        after = info.abs_trace[:, made - 1 :]
        assert np.array_equal(after, np.broadcast_to(after[:, :1], after.shape))
