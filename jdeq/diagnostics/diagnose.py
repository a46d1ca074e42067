"""`diagnose`: how `f` behaves around its fixed point, and what to do about it."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, core

from .._checks import check_int
from .._info import Status
from .._space import PyTree, Space
from .._spectrum import arnoldi, largest_singular_value, random_like, repeat, ritz_values
from .._state import check_state
from ..solvers.base import Solver
from .orbit import Moves, behaviour, watch
from .report import Diagnosis
from .trials import TRIED, Found, candidates, gather, search

FINDER = TRIED["broyden"]


def diagnose(
    f: Callable[[PyTree], PyTree],
    z0: PyTree,
    key: Array,
    *,
    solver: str | Solver = FINDER,
    batch_dims: int = 1,
    n_starts: int = 4,
    n_iters: int = 100,
    krylov: int = 30,
) -> Diagnosis:
    """Tells of each sample whether `f` contracts there, how well its solution is determined, which
    solvers find it, and what to change.

    Finds the fixed point from `z0` and from random starts `z0 + N(0, 1)`. Plain iteration,
    Anderson's, Broyden's and Newton's method are tried from `z0`: what `solver` does not find,
    another one may. Looks at `J = df/dz` there by products with J and its transpose alone:
    `||J||_2` by products with both in turn; eigenvalues (the spectral radius) and the smallest
    singular value of `I - J` from `krylov` Arnoldi steps, which also find complex pairs, where a
    Rayleigh quotient does not settle. Both are exact for samples of at most `krylov` numbers. Plain
    iteration is watched for `n_iters` steps; it is said to contract where it came to rest, or
    steadily nears a fixed point with a spectral radius below 1.

    Costs `n_starts + 3` solves, `n_iters` evaluations, `krylov + 3 n_iters` Jacobian products and
    memory for `krylov + 1` states. Of equal `f` the solves are compiled once.

    Args:
        f: the equilibrium function.
        z0: start state, as in `deq`.
        key: PRNG key, for random starts and directions.
        solver: finds the fixed points, and gives the others their tolerance. The default, Broyden's
            method with up to 100 iterations, also finds those that repel; it holds 100 states per
            start.
        batch_dims: how many leading axes are independent samples.
        n_starts: solves for counting fixed points, the one from `z0` included.
        n_iters: of plain iteration and of the estimate of `||J||_2`.
        krylov: most Arnoldi steps.

    Returns:
        A `Diagnosis`: arrays by sample, `advice` in words; prints as a table.

    Raises:
        TypeError: called under `jit`; otherwise as `deq` does.

    Source: Saad, *Numerical Methods for Large Eigenvalue Problems* (2011), ch. 6.

    Example:
        >>> import jax, jax.numpy as jnp, jdeq
        >>> f = lambda z: jnp.tanh(-2 * z)
        >>> found = jdeq.diagnose(f, jnp.zeros((1, 1)), jax.random.key(0))
        >>> print(*found.advice)
        1 of 1: plain iteration jumps between two states: damp with tau=0.6
        >>> print(f"{found.spectral_radius[0]:.3f} {found.max_tau[0]:.3f}")
        2.000 0.667
        >>> f = lambda z: 3.9 * z * (1 - z)  # chaotic
        >>> found = jdeq.diagnose(f, jnp.full((1, 1), 0.3), jax.random.key(0))
        >>> bool(found.trials["fixed_point_iter"].converged[0])
        False
        >>> bool(found.trials["newton"].converged[0])
        True
    """
    for name, value in (("n_starts", n_starts), ("n_iters", n_iters), ("krylov", krylov)):
        check_int(name, value, low=1)
    if any(isinstance(x, core.Tracer) for x in jax.tree.leaves(z0)):
        raise TypeError("diagnose hands its findings to the host: call it outside jit")
    z0 = check_state(z0, batch_dims)
    space = Space(batch_dims)
    of_start, *keys = jax.random.split(key, 5)
    starts = _starts(of_start, z0, n_starts)
    size = sum(int(np.prod(x.shape[batch_dims:])) for x in jax.tree.leaves(z0))
    steps = max(1, min(krylov, size))

    @jax.jit
    def look(every: Found, others: list[Found], keys: list[Array]):
        found, every = gather(space, every, others)
        z = found.z
        push = jax.linearize(f, z)[1]
        pull = jax.vjp(f, z)[1]
        lipschitz = largest_singular_value(
            space, push, lambda y: pull(y)[0], random_like(keys[0], z), n_iters
        )
        hessenberg = arnoldi(space, push, random_like(keys[1], z), steps)
        moves = watch(space, f, z0, random_like(keys[2], z0), n_iters)
        coupled = _coupled(space, f, z, keys[3])
        apart = _distances(space, every.z)
        rest = found._replace(z=()), every._replace(z=()), apart
        return lipschitz, hessenberg, moves, coupled, *rest

    every, others, trials = search(f, starts, candidates(solver), batch_dims)
    lipschitz, hessenberg, moves, coupled, found, every, apart = jax.device_get(
        look(every, others, keys)
    )
    batch = found.status.shape
    spectrum = [ritz_values(hessenberg[i]) for i in np.ndindex(batch)]
    gaps = np.reshape(np.array([gap for _, gap in spectrum]), batch)
    values = [v for v, _ in spectrum]
    fold = lambda number: np.reshape(np.array([number(v) for v in values], np.float64), batch)
    radius = fold(lambda v: np.abs(v).max())
    attracts = (found.status == Status.CONVERGED) & (radius < 1)
    eps = _resolution(z0)
    of_sample = lambda i: Moves(*(kind[:, *i] for kind in moves))
    seen = [behaviour(of_sample(i), eps, bool(attracts[i])) for i in np.ndindex(batch)]
    return Diagnosis(
        status=found.status,
        residual=found.rel_residual,
        lipschitz=lipschitz,
        spectral_radius=radius,
        smallest_singular_value=gaps,
        distance_to_one=fold(lambda v: np.abs(1 - v).min()),
        max_tau=fold(_max_tau),
        behaviour=np.reshape(np.array([b for b, _ in seen], np.int32), batch),
        rate=np.reshape(np.array([r for _, r in seen], np.float64), batch),
        fixed_points=_count(apart, every, gaps),
        coupled=coupled,
        trials={name: jax.device_get(trial) for name, trial in trials.items()},
    )


def _resolution(z: PyTree) -> float:
    return max(float(jnp.finfo(x.dtype).eps) for x in jax.tree.leaves(z))


@functools.partial(jax.jit, static_argnums=2)
def _starts(key: Array, z0: PyTree, n_starts: int) -> PyTree:
    """`z0`, then `z0` plus noise: leaves with a leading axis of starts."""
    many = repeat(z0, n_starts)
    noisy = jax.tree.map(jnp.add, many, random_like(key, many))
    return jax.tree.map(lambda x, y: x.at[0].set(y), noisy, z0)


def _distances(space: Space, states: PyTree) -> tuple[Array, Array]:
    """Between any two of the states `(n, *batch, ...)`, and the norm of the first of the two.

    Both `(n, n, *batch)`.
    """

    def distance(i, j):
        one, other = (jax.tree.map(lambda x, k=k: x[k], states) for k in (i, j))
        return space.distance(one, other), space.norm(one)

    index = jnp.arange(jax.tree.leaves(states)[0].shape[0])
    return jax.vmap(lambda i: jax.vmap(lambda j: distance(i, j))(index))(index)


def _coupled(space: Space, f, z: PyTree, key: Array) -> Array:
    """Whether a sample's `f` moves when a random half of the others does, either half."""
    move, split = jax.random.split(key)
    fz, noise = f(z), random_like(move, z)
    half = jax.random.permutation(split, space.norm(z).size) % 2 == 0
    half = half.reshape(space.batch_shape(z))
    seen = jnp.zeros_like(half)
    for moved in (half, ~half):
        changed = f(space.where(moved, space.add(z, noise), z))
        change = space.norm(space.sub(changed, fz))
        seen = seen | (~moved & (change > 100 * _resolution(z) * space.norm(fz)))
    return seen


def _max_tau(eigenvalues: np.ndarray) -> float:
    """Bound of `|1 - tau (1 - l)| < 1`: `tau < 2 Re(1 - l) / |1 - l|^2` for all l."""
    if not np.all(np.isfinite(eigenvalues)):
        return float("nan")
    real = 1 - np.real(eigenvalues)
    if np.any(real <= 1e-6):
        return 0.0
    return float(min(2.0, np.min(2 * real / np.abs(1 - eigenvalues) ** 2)))


def _count(distances, every: Found, gaps: np.ndarray) -> np.ndarray:
    """How many different states are among the converged ones of each sample."""
    apart, size = distances
    found = np.zeros(gaps.shape, np.int32)
    for at in np.ndindex(gaps.shape):
        here = (slice(None), *at)
        error = every.abs_residual[here] / max(gaps[at], 1e-12)  # of a state, to first order
        slack = np.maximum(0.01 * size[(slice(None), *here)], 10 * (error[:, None] + error))
        near = apart[(slice(None), *here)] <= slack
        kept: list[int] = []
        for i in np.flatnonzero(every.status[here] == Status.CONVERGED):
            if not near[i, kept].any():
                kept.append(int(i))
        found[at] = len(kept)
    return found
