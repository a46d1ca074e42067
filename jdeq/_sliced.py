"""A solve in slices, each of which starts from the differentiated state of the one before."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax.numpy as jnp
from jax import Array, lax

from ._deq import deq, schedule
from ._info import SolverInfo
from ._space import PyTree
from .backward import IFT, Backward, PhantomGrad
from .solvers import Solver


def deq_in_slices(
    f: Callable[[PyTree], PyTree],
    z0: PyTree,
    *,
    solvers: Sequence[Solver],
    backwards: Sequence[Backward],
    batch_dims: int,
    max_iter: Array | None,
    on_failure: Literal["ignore", "warn"],
) -> tuple[PyTree, SolverInfo]:
    """TorchDEQ's core "sliced": one `deq` per solver and backward, no gradient in between.

    Args:
        f, z0, batch_dims, on_failure: as in `deq`.
        solvers, backwards: of each slice; a solver starts afresh, its history included.
        max_iter: most iterations of all slices, an integer array.

    Returns:
        The last state, and an info over all slices: its `states` are theirs, traces stand one
        after the other, `steps` counts along them; residual and status are the last slice's.
    """
    z, states, infos, done = z0, [], [], 0
    for solver, backward in zip(solvers, backwards, strict=True):
        z, info = deq(
            f,
            lax.stop_gradient(z) if infos else z0,
            solver=solver,
            backward=backward,
            batch_dims=batch_dims,
            max_iter=None if max_iter is None else max_iter - done,
            on_failure=on_failure if len(infos) == len(solvers) - 1 else "ignore",
        )
        states += info.states or (z,)
        infos.append(info._replace(steps=done + info.steps))
        done += solver.max_iter
    join = lambda name: jnp.concatenate([getattr(info, name) for info in infos], -1)
    return z, infos[-1]._replace(
        nfe=sum(info.nfe for info in infos),
        abs_trace=join("abs_trace"),
        rel_trace=join("rel_trace"),
        states=tuple(states),
    )


def slice_lengths(max_iter: int, n_states: int, indexing: Sequence[int] | None) -> list[int]:
    """The iterations of each slice: they end where `deq` would sample states.

    TorchDEQ gives each of `n_states` slices `max_iter // n_states` and drops the remainder; here
    the first slice makes it.
    """
    ends = (0, *schedule(max_iter, n_states, indexing), max_iter)
    return [end - start for start, end in itertools.pairwise(ends)]


def slice_backwards(backward: Backward, n: int) -> list[Backward]:
    """How `n` slices are differentiated, if a whole solve with `n` states is by `backward`."""
    if isinstance(backward, PhantomGrad):
        phantom = backward
        last: Any = dataclasses.replace(backward, state_steps=None)
    elif isinstance(backward, IFT):
        phantom = backward.phantom
        last = dataclasses.replace(backward, phantom=PhantomGrad())
    else:
        return [backward] * n
    steps = phantom.state_steps or (phantom.steps,) * (n - 1)
    return [*(dataclasses.replace(phantom, steps=k, state_steps=None) for k in steps), last]
