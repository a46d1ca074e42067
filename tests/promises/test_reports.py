"""What a compiled solve says while it runs."""

import jax
import jax.numpy as jnp
import numpy as np

import jdeq


def test_backward_callback_receives_the_adjoint_solve_under_jit():
    seen = []
    backward = jdeq.IFT(solver="broyden", tol=1e-8, callback=seen.append)
    loss = lambda b: jdeq.deq(lambda z: 0.5 * z + b, jnp.zeros((3, 2)), backward=backward)[0].sum()
    jax.block_until_ready(jax.jit(jax.grad(loss))(jnp.ones((3, 2))))
    jax.effects_barrier()
    (info,) = seen
    assert isinstance(info, jdeq.SolverInfo) and np.all(info.converged)


def test_on_failure_prints_one_line_under_jit(capfd):
    solve = lambda a: jdeq.deq(
        lambda z: a[:, None] * z + 1, jnp.zeros((3, 1)), max_iter=20, on_failure="warn"
    )
    jax.block_until_ready(jax.jit(solve)(jnp.array([0.1, 3.0, 0.2]))[0])
    jax.effects_barrier()
    line = capfd.readouterr().err
    assert "forward solve: 1 of 3 samples did not converge" in line and "MAX_ITER" in line
    jax.block_until_ready(jax.jit(solve)(jnp.array([0.1, 0.15, 0.2]))[0])
    jax.effects_barrier()
    assert capfd.readouterr().err == ""


def test_on_failure_speaks_of_the_backward_solve_too(capfd):
    def loss(b):
        backward = jdeq.IFT(solver="fixed_point_iter", max_iter=3)
        z, _ = jdeq.deq(
            lambda z: 0.9 * z + b,
            jnp.zeros((3, 2)),
            solver="broyden",
            backward=backward,
            on_failure="warn",
        )
        return z.sum()

    jax.block_until_ready(jax.jit(jax.grad(loss))(jnp.ones((3, 2))))
    jax.effects_barrier()
    assert "backward solve: 3 of 3 samples did not converge" in capfd.readouterr().err
