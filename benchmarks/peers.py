"""The same solve in every library that is installed."""

import dataclasses
import importlib.util
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import jdeq

SOLVERS = ("fixed_point_iter", "anderson", "broyden")


@dataclasses.dataclass(frozen=True)
class Case:
    """`f(z) = tanh(z w + x)` on a batch, solved to a relative residual of `tol`."""

    batch: int
    width: int
    tol: float = 1e-3
    max_iter: int = 100

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """`w` (width, width), spectral norm about 1, and `x` (batch, width); float32."""
        rng = np.random.default_rng(0)
        w = rng.normal(size=(self.width, self.width)) / (2 * self.width**0.5)
        return w.astype(np.float32), rng.normal(size=(self.batch, self.width)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Run:
    """A timed call: `solve()` returns the state, `evaluate(n)` makes n evaluations of `f`."""

    solve: Callable[[], np.ndarray]
    evaluate: Callable[[int], object]
    nfe: int


def by_jdeq(case: Case, solver: str) -> Run:
    w, x = map(jnp.asarray, case.arrays())
    f = lambda z, w, x: jnp.tanh(z @ w + x)
    options = {"tol": case.tol, "max_iter": case.max_iter}

    @jax.jit
    def solve(w, x):
        return jdeq.deq(lambda z: f(z, w, x), jnp.zeros_like(x), solver=solver, **options)

    @jax.jit
    def evaluate(n, w, x):
        return jax.lax.fori_loop(0, n, lambda _, z: f(z, w, x), jnp.zeros_like(x))

    return Run(
        lambda: np.asarray(jax.block_until_ready(solve(w, x)[0])),
        lambda n: jax.block_until_ready(evaluate(n, w, x)),
        int(solve(w, x)[1].nfe),
    )


def by_torchdeq(case: Case, solver: str) -> Run:
    import torch
    from torchdeq import get_deq

    w, x = map(torch.as_tensor, case.arrays())
    count = 0

    def f(z):
        nonlocal count
        count += 1
        return torch.tanh(z @ w + x)

    deq = get_deq(
        f_solver=solver, f_max_iter=case.max_iter, f_tol=case.tol, f_stop_mode="rel", core="sliced"
    )
    deq.eval()

    def solve():
        with torch.no_grad():
            return deq(f, torch.zeros_like(x))[0][-1].numpy()

    def evaluate(n):
        z = torch.zeros_like(x)
        with torch.no_grad():
            for _ in range(n):
                z = f(z)

    solve()
    return Run(solve, evaluate, count)


def libraries() -> dict[str, Callable[[Case, str], Run]]:
    """The libraries at hand, by name."""
    found = {"jdeq": by_jdeq}
    if importlib.util.find_spec("torchdeq"):
        found["torchdeq"] = by_torchdeq
    return found
