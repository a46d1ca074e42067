"""Backpropagation through the solver's own iterations."""

import dataclasses

import jax

from .._hoist import Function
from .._loop import Solution
from .._problem import Problem
from .._programs import reuse
from .._space import PyTree
from .._widened import limited, widened
from .base import Backward


@dataclasses.dataclass(frozen=True)
class Unroll(Backward):
    """Differentiates the solver's iterations themselves, in forward or reverse mode.

    Exact for the truncated computation, including the gradient with respect to `z0`. Always makes
    `max_iter` passes: samples that have stopped go through them unchanged. Memory in reverse mode
    grows with `max_iter` times the solver's state (history included), plus the activations of `f`:
    of one pass with `checkpoint`, of all without. What the solver remembers of half-precision
    states is held in float32 here, since its cotangents exceed the range of float16; of a gradient
    that itself exceeds that, finite numbers with the right sign are left.

    Args:
        checkpoint: recompute each pass on the way back instead of storing it, for about 1.5 times
            the time.

    Source: backpropagation through time; checkpointing: Chen et al., *Training Deep Nets with
    Sublinear Memory Cost* (2016).

    Example:
        >>> import jax, jax.numpy as jnp, jdeq
        >>> def twice(a):  # z_2 = a (a 0 + 1) + 1
        ...     f = lambda z: a * z + 1
        ...     return jdeq.deq(f, jnp.zeros((1, 1)), max_iter=2, backward="unroll")[0].sum()
        >>> float(jax.grad(twice)(0.25))
        1.0
    """

    checkpoint: bool = True

    def __call__(self, problem: Problem) -> Solution:
        return reuse(_unrolled, problem, self, needs="all derivatives")


def _unrolled(function: Function, problem: Problem, unroll: Unroll) -> Solution:
    """Solves by a fixed number of passes that autodiff can go through."""
    wide = widened(problem.consts)  # over the passes their cotangents add up in float32

    def f(z: PyTree) -> PyTree:
        back = lambda a, b: a if a.dtype == b.dtype else a.astype(b.dtype)
        consts = jax.tree.map(back, wide, problem.consts)
        return limited(function(consts, limited(z)))

    return problem.solver.solve(
        f,
        problem.z0,
        space=problem.space,
        limit=problem.limit,
        indexing=problem.indexing,
        loop="checkpointed scan" if unroll.checkpoint else "scan",
    )._replace(memory=())
