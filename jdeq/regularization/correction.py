"""Fixed point correction: losses on several states of one solve."""

import functools
import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax import Array

from .._checks import check_scalar
from .._space import PyTree
from .._spectrum import Draw
from .jacobian import jac_reg

Weighting = Callable[[int, int], Any]


def _exp(n: int, k: int, gamma: Any = 0.8) -> Any:
    return gamma ** (n - k - 1)


def _linear(n: int, k: int, gamma: Any = 0.9, bias: Any = 0.0) -> Any:
    return 1 - (n - k - 1) / n * gamma + bias


def _const(n: int, k: int, c: Any = 1.0) -> Any:
    return c


WEIGHTINGS: Mapping[str, Callable[..., Any]] = {"exp": _exp, "linear": _linear, "const": _const}


def fixed_point_correction(
    loss_fn: Callable[[PyTree], Array],
    states: Sequence[PyTree],
    *,
    weighting: Literal["exp", "linear", "const"] | Weighting = "exp",
    **options: Any,
) -> Array:
    """`sum_k weight(n, k) loss_fn(states[k])`: supervises what the solver passes through, so that
    early states are good already and get better on the way to `z*`.

    Args:
        loss_fn: the loss of one state, a scalar or any one shape.
        states: `info.states` of `deq(..., n_states=...)`, of `indexing=...` or of
            `PhantomGrad(sup_gap=...)`, oldest first; or what was decoded from them, or pairs with
            a target each.
        weighting: the weight of state k of n:

            * `"exp"`: `gamma^(n-k-1)`, `gamma` 0.8 by default; with 0 only the last state counts;
            * `"linear"`: `1 - (n-k-1)/n gamma + bias`, `gamma` 0.9 and `bias` 0 by default;
            * `"const"`: `c`, 1 by default;
            * a function `(n, k) -> weight`.
        **options: `gamma`, `bias` or `c`, where the weighting has them.

    Returns:
        The weighted sum, shaped like one loss.

    Raises:
        TypeError: an option that the weighting does not have; `states` is one array, not several.
        ValueError: an unknown weighting; `gamma` outside [0, 1]; no states.

    Source: Bai et al., *Deep Equilibrium Optical Flow Estimation* (2022); TorchDEQ paper, eq. 19.

    Example:
        >>> import jax.numpy as jnp, jdeq
        >>> f = lambda z: 0.5 * z + 1
        >>> z, info = jdeq.deq(f, jnp.zeros((1, 1)), n_states=3, max_iter=6, tol=1e-9)
        >>> loss = jdeq.fixed_point_correction(lambda z: jnp.sum((z - 2) ** 2), info.states)
        >>> [f"{float(z[0, 0]):.3f}" for z in info.states], f"{loss:.4f}"
        (['1.750', '1.938', '1.969'], '0.0441')
    """
    weight = _weight(weighting, options)
    if isinstance(states, Array | np.ndarray):
        raise TypeError("states must be a sequence of states (info.states), got one array")
    n = len(states)
    if not n:
        raise ValueError("states is empty: ask deq for n_states or indexing")
    return functools.reduce(operator.add, (weight(n, k) * loss_fn(z) for k, z in enumerate(states)))


def jacobian_correction(
    f: Callable[[PyTree], PyTree],
    states: Sequence[PyTree],
    key: Array,
    *,
    gamma: Any = 1.0,
    n_samples: int = 1,
    distribution: Literal["normal", "rademacher"] | Draw = "normal",
    batch_dims: int = 1,
) -> Array:
    """`gamma sum_k jac_reg(f, states[k])`: the Jacobian penalty on several states of one solve.

    Like `jac_reg` each term is divided by `dim z`, so that `gamma` does not depend on the size of
    the state. Each state has probes of its own.

    Args:
        f: the equilibrium function.
        states: `info.states`.
        key: PRNG key of the probes.
        gamma: weight.
        n_samples, distribution, batch_dims: as in `jac_reg`.

    Returns:
        A scalar, in float32 at least.

    Raises:
        TypeError, ValueError: as `fixed_point_correction` and `jac_reg`.

    Source: TorchDEQ paper, eq. 20.

    Example:
        >>> import jax, jax.numpy as jnp, jdeq
        >>> f = lambda z: 0.5 * z + 1
        >>> z, info = jdeq.deq(f, jnp.zeros((1, 1)), n_states=3)
        >>> penalty = jdeq.jacobian_correction(
        ...     f, info.states, jax.random.key(0), distribution="rademacher", gamma=2.0)
        >>> print(penalty)  # three times 2 * 0.5^2
        1.5
    """
    penalty = lambda pair: jac_reg(
        f, pair[0], pair[1], n_samples=n_samples, distribution=distribution, batch_dims=batch_dims
    )
    if not isinstance(states, Array | np.ndarray):
        states = list(zip(states, jax.random.split(key, len(states)), strict=True))
    return fixed_point_correction(penalty, states, weighting="const", c=gamma)


def _weight(weighting: str | Weighting, options: dict[str, Any]) -> Weighting:
    if isinstance(weighting, str):
        if weighting not in WEIGHTINGS:
            raise ValueError(
                f"weighting must be {', '.join(map(repr, WEIGHTINGS))} or a function, "
                f"got {weighting!r}"
            )
        known = list(inspect.signature(WEIGHTINGS[weighting]).parameters)[2:]
        function = WEIGHTINGS[weighting]
    elif callable(weighting):
        known, function = [], weighting
    else:
        raise TypeError(f"weighting must be a name or a function, got {weighting!r}")
    for name in options:
        if name not in known:
            raise TypeError(f"weighting {weighting!r} has no option {name!r}: it takes {known}")
    gamma = options.get("gamma")
    if gamma is not None:
        check_scalar("gamma", gamma, low=0, high=1)
    return functools.partial(function, **options)
