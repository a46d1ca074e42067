"""The convolutional units that stem, equilibrium function and head are made of."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.nn import initializers
from jax.typing import DTypeLike

from zoo.devices.axes import named, named_layer
from zoo.nn.batch_norm import BatchNorm
from zoo.nn.convolution import conv_general_dilated
from zoo.nn.initializers import small_normal


def conv(
    c_in: int,
    c_out: int,
    size: int,
    *,
    rngs: nnx.Rngs,
    stride: int = 1,
    use_bias: bool = False,
    kernel_init: initializers.Initializer = small_normal,
    names: tuple[str | None, str | None] = (None, None),
    param_dtype: DTypeLike = jnp.float32,
) -> nnx.Conv:
    """NHWC convolution, padded by (size - 1) / 2 on every side, also with stride 2.

    ("SAME" would pad an even side by (0, 1) under stride 2 and shift the result.) `names` are those
    of the channels going in and coming out, see `zoo.devices.axes`.
    """
    pad = (size - 1) // 2
    return nnx.Conv(
        c_in,
        c_out,
        (size, size),
        strides=(stride, stride),
        padding=((pad, pad), (pad, pad)),
        use_bias=use_bias,
        kernel_init=kernel_init,
        bias_init=small_normal,
        conv_general_dilated=conv_general_dilated,
        **named_layer(None, None, *names),
        param_dtype=param_dtype,
        rngs=rngs,
    )


def group_norm(
    channels: int,
    groups: int,
    *,
    rngs: nnx.Rngs,
    name: str | None = None,
    param_dtype: DTypeLike,
) -> nnx.GroupNorm:
    """Affine group norm over contiguous groups, with PyTorch's epsilon."""
    return nnx.GroupNorm(
        channels,
        num_groups=groups,
        epsilon=1e-5,
        use_fast_variance=False,
        scale_metadata=named(name),
        bias_metadata=named(name),
        param_dtype=param_dtype,
        rngs=rngs,
    )


class ConvBN(nnx.Module):
    """Convolution, then batch norm."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        size: int,
        *,
        rngs: nnx.Rngs,
        stride: int = 1,
        use_bias: bool = False,
        affine: bool = True,
        param_dtype: DTypeLike = jnp.float32,
    ):
        self.conv = conv(
            c_in,
            c_out,
            size,
            stride=stride,
            use_bias=use_bias,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.bn = BatchNorm(c_out, affine=affine, param_dtype=param_dtype)

    def __call__(self, x: Array) -> Array:
        """x (B, H, W, c_in) -> (B, H/stride, W/stride, c_out)."""
        return self.bn(self.conv(x))


class Bottleneck(nnx.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut; `width` inside, `4 width` out."""

    def __init__(self, c_in: int, width: int, *, rngs: nnx.Rngs, param_dtype: DTypeLike):
        unit = lambda a, b, size: ConvBN(
            a, b, size, affine=False, param_dtype=param_dtype, rngs=rngs
        )
        self.unit1 = unit(c_in, width, 1)
        self.unit2 = unit(width, width, 3)
        self.unit3 = unit(width, 4 * width, 1)
        same = c_in == 4 * width
        shortcut = None if same else ConvBN(c_in, 4 * width, 1, param_dtype=param_dtype, rngs=rngs)
        self.shortcut = shortcut

    def __call__(self, x: Array) -> Array:
        """x (B, H, W, c_in) -> (B, H, W, 4 width)."""
        y = jax.nn.relu(self.unit1(x))
        y = self.unit3(jax.nn.relu(self.unit2(y)))
        return jax.nn.relu(y + (x if self.shortcut is None else self.shortcut(x)))
