"""What a solve holds: bounded, and told beforehand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdeq
from jdeq import _programs
from jdeq.solvers.linear.affine import AffineSolver
from jdeq.solvers.registry import resolve_solver

AFFINE = (jdeq.GMRES(), jdeq.BiCGStab(), jdeq.CG(), jdeq.Neumann(tol=1e-6))
SOLVERS = (
    jdeq.FixedPointIter(),
    jdeq.SimpleFixedPointIter(),
    jdeq.Anderson(),
    jdeq.Broyden(),
    jdeq.Broyden(update="bad", memory=20),
    jdeq.Newton(),
    jdeq.Fallback(),
    *AFFINE,
)


def compiled_bytes(solver, z0):
    curved = 0.0 if isinstance(solver, jdeq.Neumann | AffineSolver) else 0.1

    def run(z0):
        return jdeq.deq(lambda z: 0.5 * z + curved * jnp.sin(z) + 1, z0, solver=solver)[0]

    analysis: Any = jax.jit(run).lower(z0).compile().memory_analysis()
    return analysis.temp_size_in_bytes


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_a_solve_holds_what_it_says(solver):
    """Up to a few copies of the state that the program makes on the way."""
    z0 = jnp.ones((16, 1024), jnp.float32)
    said, held = solver.nbytes(z0), compiled_bytes(solver, z0)
    assert abs(said - held) <= 0.1 * said + 16 * z0.nbytes
    assert solver.nbytes(jax.ShapeDtypeStruct(z0.shape, z0.dtype)) == said


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["anderson", "broyden", "newton", "gmres", "fallback"])
@pytest.mark.parametrize("shape", [(240, 3), (2, 5000)])
def test_memory_does_not_follow_max_iter(solver, shape):
    """But for the traces: two numbers per iteration, which loops within loops hold three times."""
    z0 = jax.ShapeDtypeStruct(shape, jnp.float32)
    of = lambda n: resolve_solver(solver, {"max_iter": n}).nbytes(z0)
    assert of(30_000) - of(3000) <= 3 * 2 * 4 * 27_000 * shape[0]
    assert of(3000) < 50 * 2**20


@pytest.mark.parametrize("update", ["good", "bad"])
def test_a_default_history_is_long_enough(update):
    """Exact after twice as many steps as unknowns; and no shorter than 64 for a handful."""
    rng = np.random.default_rng(0)
    w = jnp.asarray(1.5 * rng.normal(size=(40, 40)) / np.sqrt(40))
    f = lambda z: z @ w + 1
    found = [
        jdeq.deq(f, jnp.zeros((1, 40)), solver=jdeq.Broyden(update=update, memory=m, max_iter=200))
        for m in (None, 200)
    ]
    assert found[0][1].converged.all() and found[0][1].nfe == found[1][1].nfe
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-6)


@pytest.mark.slow
def test_shine_keeps_all_steps():
    loss = lambda b, **more: jdeq.deq(
        lambda z: 0.9 * jnp.sin(z + b), jnp.zeros((1, 1)), solver="broyden", max_iter=90, **more
    )[0].sum()
    want = jax.grad(loss)(0.3)
    got = jax.grad(lambda b: loss(b, backward=jdeq.SHINE(max_ratio=100.0)))(0.3)
    np.testing.assert_allclose(got, want, rtol=1e-2)


def test_the_cache_of_programs_is_freed_by_one_call():
    jdeq.clear_cache()
    jdeq.deq(jnp.cos, jnp.zeros((2, 3)))
    assert _programs._compiled.cache_info().currsize == 1
    jdeq.clear_cache()
    assert _programs._compiled.cache_info().currsize == 0
    np.testing.assert_allclose(jdeq.deq(jnp.cos, jnp.zeros((2, 3)))[0], 0.7390851, rtol=1e-4)
