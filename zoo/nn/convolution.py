"""Convolutions whose reverse mode is fast on CPUs too."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    *,
    dimension_numbers: lax.ConvDimensionNumbers,
    feature_group_count: int = 1,
    **options: Any,
) -> Array:
    """`jax.lax.conv_general_dilated`, for `conv_general_dilated` of `flax.nnx.Conv`.

    Its derivatives are convolutions with axes exchanged. XLA for CPUs has a fast one for the order
    NHWC, HWIO alone, and within a loop takes 15 to 100 times as long for any other. So they are
    asked for in this order here, of arrays that are laid out anew. Values, and derivatives of any
    order, are the same; forward mode is what gets slow on CPUs.
    """
    convolve = lambda x, w, spec: lax.conv_general_dilated(
        x,
        w,
        window_strides,
        padding,
        dimension_numbers=spec,
        feature_group_count=feature_group_count,
        **options,
    )
    plain = lambda x, w: convolve(x, w, dimension_numbers)
    if feature_group_count > 1:
        return plain(lhs, rhs)
    (batch, feature, *where), (outputs, inputs, *window), (rows, channels, *place) = (
        dimension_numbers
    )
    first, *middle, before_last, last = range(lhs.ndim)

    def by_lhs(dx: Array, w: Array) -> Array:
        """Its transpose is a convolution with a kernel HWIO."""
        spec = dimension_numbers._replace(rhs_spec=(before_last, last, first, *middle))
        return convolve(dx, _laid_out(w, (*window, outputs, inputs)), spec)

    def by_rhs(x: Array, dw: Array) -> Array:
        """Its transpose is a convolution of "images" of all samples with "kernels" of them."""
        spec = lax.ConvDimensionNumbers(
            lhs_spec=(last, first, *middle, before_last),
            rhs_spec=(last, first, *middle, before_last),
            out_spec=(before_last, last, first, *middle),
        )
        x, dw = _laid_out(x, (feature, *where, batch)), _laid_out(dw, (inputs, *window, outputs))
        y = lax.optimization_barrier(convolve(x, dw, spec))
        return jnp.transpose(y, np.argsort((*place, rows, channels)).tolist())

    @jax.custom_jvp
    def conv(x: Array, w: Array) -> Array:
        return plain(x, w)

    @conv.defjvp
    def jvp(primals, tangents):
        (x, w), (dx, dw) = primals, tangents
        change = lax.platform_dependent(dx, w, cpu=by_lhs, default=plain)
        return conv(x, w), change + lax.platform_dependent(x, dw, cpu=by_rhs, default=plain)

    return conv(lhs, rhs)


def _laid_out(x: Array, axes: Sequence[int]) -> Array:
    """The axes in another order, in memory too."""
    return lax.optimization_barrier(jnp.transpose(x, axes))
