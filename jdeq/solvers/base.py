"""What a solver is: settings, a start state, a step."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, Literal, Self

import jax
import jax.numpy as jnp
from jax import Array

from .._checks import check_either, check_int, check_scalar
from .._jaxprs import carried_bytes
from .._loop import Solution, iterate
from .._method import Method, is_array
from .._space import PyTree, Space, accumulator
from .._widened import Widened


@dataclasses.dataclass(frozen=True, kw_only=True)
class Solver(Method, abc.ABC):
    """Settings that all solvers share. Frozen; a pytree whose leaves are the arrays among them.

    Settings that are Python values are static: equal ones are one program. Arrays (a traced `tol`,
    trained weights) are values: batched by `vmap`, sharded, no reason to compile anew. Gradients
    reach them through `backward="unroll"`; an implicit gradient does not depend on how the
    solution was found, so there they are zero.

    Args:
        max_iter: most iterations; 0 hands `z0` on, measured.
        tol: a sample is converged when its residual is below this and, by how fast that falls, a
            solution is near: beside a state that ran away any residual is small
            (`Status.DIVERGED`). By an absolute tol a state that has not grown is near. None: three
            quarters of the digits of the state's dtype, `eps ** 0.75` (6e-6 in float32, 2e-12 in
            float64, 3e-2 in bfloat16). A smaller tol than the dtype resolves ends in
            `Status.STALLED`. 0: no sample stops early, each makes `max_iter` iterations and ends in
            `Status.MAX_ITER`.
        stop_mode: `"rel"` compares `||f(z) - z|| / ||f(z)||` with tol, `"abs"` the numerator alone.
            On the way to a solution `z* = 0` no residual is small beside the state: a state that
            has come down to 1e-9 of `||f(z0)||` is tried at 0.
    """

    max_iter: int = 50
    tol: float | Array | None = None
    stop_mode: Literal["rel", "abs"] = "rel"

    def __post_init__(self) -> None:
        check_int("max_iter", self.max_iter, low=0)
        if self.tol is not None:
            check_scalar("tol", self.tol, low=0)
        check_either("stop_mode", self.stop_mode, "rel", "abs")

    @property
    def differentiates(self) -> bool:
        """Whether `solve` may differentiate `f`, rather than evaluate it only."""
        return True

    @property
    def fixed_length(self) -> bool:
        """Whether the outcome is meant as it is, converged or not: a series of so many terms."""
        return False

    @property
    def damping(self) -> float | Array:
        """Which share of `f(z) - z` a step makes where nothing accelerates it: `tau`, or 1."""
        return getattr(self, "tau", 1.0)

    def with_absolute_tol(self) -> Self:
        """The same solver with `stop_mode="abs"`."""
        return dataclasses.replace(self, stop_mode="abs")

    def from_constant(self) -> Self:
        """The same solver for an affine `f` and `z0 = f(0)`, if it can make use of that."""
        return self

    def tolerance(self, *leaves: Array) -> float | Array:
        """`tol`, or what stands for None with states of these dtypes."""
        if is_array(self.tol):
            return jnp.asarray(self.tol, accumulator(*leaves))
        if self.tol is not None:
            return self.tol
        return max(float(jnp.finfo(x.dtype).eps) for x in leaves) ** 0.75

    def nbytes(self, z0: PyTree, *, batch_dims: int = 1) -> int:
        """About how many bytes a solve from `z0` holds: state, history, best state, traces.

        Not what `f` and its derivatives need on the way, nor a few passing copies of the state.
        Nothing is computed: leaves may be `jax.ShapeDtypeStruct`.

        Example:
            >>> import jax, jax.numpy as jnp, jdeq
            >>> z0 = jax.ShapeDtypeStruct((64, 4096), jnp.float32)  # 1 MiB
            >>> [round(s.nbytes(z0) / 2**20) for s in (jdeq.FixedPointIter(), jdeq.Broyden())]
            [2, 54]
        """
        space = Space(batch_dims)

        def run(z0: PyTree) -> Solution:
            limit = jnp.full((1,) * batch_dims, self.max_iter, jnp.int32)
            return self.solve(lambda z: z, z0, space=space, limit=limit, indexing=(), loop="while")

        return carried_bytes(jax.make_jaxpr(run)(z0).jaxpr)

    @abc.abstractmethod
    def solve(
        self,
        f: Callable[[PyTree], PyTree],
        z0: PyTree,
        *,
        space: Space,
        limit: Array,
        indexing: tuple[int, ...],
        loop: Literal["while", "scan", "checkpointed scan"],
    ) -> Solution:
        """Solves z = f(z). Most solvers are an `IterativeSolver` and need not write this.

        Args:
            f: maps states to states of the same structure, shapes and dtypes.
            z0: start state.
            space: the algebra for such states.
            limit: int32, at most `max_iter`, broadcasts to the batch shape: stop there.
            indexing: ascending iterations at which to sample the state.
            loop: a `"while"` loop may stop early; the scans can be differentiated.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class IterativeSolver(Solver):
    """A solver that the common loop drives: subclasses define `init` and `step`.

    The loop evaluates `f`, measures residuals, keeps each sample's best state, freezes the samples
    that have stopped and writes traces; `step` only proposes where to go next.

    Args:
        return_final: return the last state instead of the best one.
        check_every: ask whether all samples have stopped only after this many iterations. The
            answers are the same, at up to `check_every - 1` evaluations of `f` more. For batches
            that are sharded over many devices, where the question is a collective, and for
            accelerators, which wait for the host's answer.
    """

    return_final: bool = False
    check_every: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("check_every", self.check_every, low=1)

    @property
    def differentiates(self) -> bool:
        return False  # init and step never see f

    @property
    def asks_every(self) -> int:
        """`check_every`, or all of the passes if these are fewer."""
        return min(self.check_every, self.max_iter + 1)

    @property
    def passes(self) -> int:
        """The most passes of a loop that ends after so many: what a history needs room for."""
        return -(-(self.max_iter + 1) // self.asks_every) * self.asks_every

    def init(self, space: Space, z0: PyTree) -> Any:
        """The solver's own state: any pytree; buffers derive from `z0` to share its sharding."""
        return ()

    @abc.abstractmethod
    def step(self, space: Space, k: Array, z: PyTree, fz: PyTree, state: Any) -> tuple[PyTree, Any]:
        """`z_{k+1}` from `z = z_k` and `fz = f(z_k)`, and the next state; `k` is a () int32."""

    def recovers(self, state: Any) -> Array | bool:
        """Which samples go on should `f(z_k)` not be finite: those that can try a shorter step.

        `step` then gets the state that would be returned, as both `z` and `fz`. No other running
        sample has `||fz - z|| = 0`, which is how to tell. False at k = 0: there is no such state.
        """
        return False

    @property
    def leaps(self) -> bool:
        """Whether a step may go further than the residual."""
        return True

    @property
    def gives_up(self) -> bool:
        """Whether samples stop that, as their residuals fall, would not converge in time."""
        return False

    def inform(self, state: Any, going: Array, size: Array) -> Any:
        """The state for `step`, given what the loop knows, all `(*batch,)`.

        Args:
            going: which samples go on after this pass: others need no work.
            size: `||f(z_k) - z_k||`, 0 where that is not finite.
        """
        return state

    def freeze(self, space: Space, moving: Array, new: Any, old: Any) -> Any:
        """The next state, given which samples go on: the place to keep entries of the others.

        The loop freezes their `z` anyway; a solver cares only if its state is read afterwards.
        """
        return new

    def solve(self, f, z0, *, space, limit, indexing, loop) -> Solution:
        stepper: Any = self if loop == "while" else Widened(self)  # which derivatives go through
        return iterate(stepper, f, z0, space=space, limit=limit, indexing=indexing, loop=loop)


class InverseEstimator(abc.ABC):
    """A solver that estimates the inverse Jacobian of `g(z) = f(z) - z` on its way: for `SHINE`."""

    @abc.abstractmethod
    def remembering(self) -> Solver:
        """The same solver, whose last state still holds the estimate of samples that stopped early.

        Raises:
            ValueError: these settings do not allow it.
        """

    @abc.abstractmethod
    def apply_transposed_inverse(self, space: Space, solution: Solution, v: PyTree) -> PyTree:
        """`-B^T v`, `B` being the estimate at the returned state of a `remembering` solve.

        Where there is none, `v`, which is what `B = -I` gives.
        """
