"""The equilibrium function of the MDEQ: residual blocks at each scale, then fusion."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from zoo.mdeq.config import MDEQConfig
from zoo.mdeq.layers import conv, group_norm
from zoo.nn.initializers import torch_uniform

State = tuple[Array, ...]  # one feature map (B, S/2^i, S/2^i, C_i) per branch


class ResidualBlock(nnx.Module):
    """conv, norm, ReLU, conv, + injection, norm, + input, ReLU, norm."""

    def __init__(
        self, channels: int, expansion: int, groups: int, *, rngs: nnx.Rngs, param_dtype: DTypeLike
    ):
        inner = expansion * channels
        options = {"param_dtype": param_dtype, "rngs": rngs}
        to, back = ("embed", "hidden"), ("hidden", "embed")
        self.conv1 = conv(channels, inner, 3, kernel_init=torch_uniform, names=to, **options)
        self.gn1 = group_norm(inner, groups, name="hidden", **options)
        self.conv2 = conv(inner, channels, 3, kernel_init=torch_uniform, names=back, **options)
        self.gn2 = group_norm(channels, groups, **options)
        self.gn3 = group_norm(channels, groups, **options)

    def __call__(self, z: Array, u: Array | None = None) -> Array:
        """z and injection u, both (B, H, W, C) -> (B, H, W, C)."""
        y = self.conv2(jax.nn.relu(self.gn1(self.conv1(z))))
        y = self.gn2(y if u is None else y + u)
        return self.gn3(jax.nn.relu(y + z))


class ConvGN(nnx.Module):
    """Convolution, then group norm."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        size: int,
        groups: int,
        *,
        rngs: nnx.Rngs,
        stride: int = 1,
        param_dtype: DTypeLike = jnp.float32,
    ):
        self.conv = conv(
            c_in,
            c_out,
            size,
            stride=stride,
            kernel_init=torch_uniform,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.gnorm = group_norm(c_out, groups, param_dtype=param_dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """x (B, H, W, c_in) -> (B, H/stride, W/stride, c_out)."""
        return self.gnorm(self.conv(x))


class Branch(nnx.Module):
    """The residual blocks of one scale; only the first one sees the injection."""

    def __init__(self, config: MDEQConfig, i: int, *, rngs: nnx.Rngs, param_dtype: DTypeLike):
        self.blocks = nnx.List(
            ResidualBlock(
                config.channels[i],
                config.expansion,
                config.n_groups,
                rngs=rngs,
                param_dtype=param_dtype,
            )
            for _ in range(config.n_blocks[i])
        )

    def __call__(self, z: Array, u: Array) -> Array:
        """z and injection u, both (B, H, W, C_i) -> (B, H, W, C_i)."""
        z = self.blocks[0](z, u)
        for block in list(self.blocks)[1:]:
            z = block(z)
        return z


class Upsample(nnx.Module):
    """From the coarser branch j to branch i: 1x1 convolution, norm, nearest neighbour."""

    def __init__(
        self, config: MDEQConfig, i: int, j: int, *, rngs: nnx.Rngs, param_dtype: DTypeLike
    ):
        c = config.channels
        self.net = ConvGN(c[j], c[i], 1, config.n_groups, rngs=rngs, param_dtype=param_dtype)
        self.factor = 2 ** (j - i)

    def __call__(self, x: Array) -> Array:
        """x (B, H, W, C_j) -> (B, factor H, factor W, C_i)."""
        x = self.net(x)
        return jnp.repeat(jnp.repeat(x, self.factor, axis=1), self.factor, axis=2)


class Downsample(nnx.Module):
    """From the finer branch j to branch i: a chain of i - j convolutions of stride 2."""

    def __init__(
        self, config: MDEQConfig, i: int, j: int, *, rngs: nnx.Rngs, param_dtype: DTypeLike
    ):
        c, steps = config.channels, i - j
        self.net = nnx.List(
            ConvGN(
                c[j],
                c[i] if k == steps - 1 else c[j],
                3,
                config.n_groups,
                stride=2,
                rngs=rngs,
                param_dtype=param_dtype,
            )
            for k in range(steps)
        )

    def __call__(self, x: Array) -> Array:
        """x (B, H, W, C_j) -> (B, H/2^(i-j), W/2^(i-j), C_i)."""
        *first, last = self.net
        for unit in first:
            x = jax.nn.relu(unit(x))
        return last(x)


class FullStage(nnx.Module):
    """f(z, u): residual blocks per branch, fusion over all scales, a 1x1 unit per branch.

    With one branch it is the residual blocks alone.
    """

    def __init__(self, config: MDEQConfig, *, rngs: nnx.Rngs, param_dtype: DTypeLike = jnp.float32):
        n, c = config.n_branches, config.channels
        options = {"rngs": rngs, "param_dtype": param_dtype}
        self.branches = nnx.List(Branch(config, i, **options) for i in range(n))

        def transfer(i: int, j: int) -> nnx.Module:
            return (Upsample if j > i else Downsample)(config, i, j, **options)

        self.fuse_layers = nnx.List(
            nnx.Dict({str(j): transfer(i, j) for j in range(n) if j != i})
            for i in range(n if n > 1 else 0)
        )
        self.post_fuse_layers = nnx.List(
            ConvGN(c[i], c[i], 1, config.n_groups // 2, **options) for i in range(n if n > 1 else 0)
        )

    def __call__(self, z: State, u: State) -> State:
        """State and injection (same shapes) -> new state."""
        y = self.branch_outputs(z, u)
        if len(y) == 1:
            return y
        return tuple(
            post(jax.nn.relu(self._fuse(i, y))) for i, post in enumerate(self.post_fuse_layers)
        )

    def initial_state(self, u: State, key: Array | None = None) -> State:
        """Zeros, at every scale; `key` is not used."""
        del key
        return tuple(jnp.zeros_like(ui) for ui in u)

    def branch_outputs(self, z: State, u: State) -> State:
        """What the residual blocks make of each branch, before the scales are fused."""
        return tuple(b(zi, ui) for b, zi, ui in zip(self.branches, z, u, strict=True))

    def _fuse(self, i: int, y: State) -> Array:
        moved = (y[j] if j == i else self.fuse_layers[i][str(j)](y[j]) for j in range(len(y)))
        return sum(moved, start=jnp.zeros((), y[i].dtype))
