"""The multiscale cell: in JAX the zoo's own, elsewhere a plain counterpart of its operations."""

import numpy as np
from flax import nnx

from zoo.mdeq.config import MDEQConfig
from zoo.mdeq.full_stage import FullStage

from .function import Function

GROUPS = 8
GAINS = {"conv2": 0.5, "post_fuse_layers": 0.3}  # small enough that the cell contracts


def mdeq(name: str, batch: int, size: int, channels: tuple[int, ...], *, expansion: int):
    """`FullStage` on a state of one feature map per branch, each with an injection."""
    count = len(channels)
    config = MDEQConfig(
        channels=channels,
        head_channels=(1,) * count,
        n_blocks=(1,) * count,
        n_groups=GROUPS,
        expansion=expansion,
        image_size=(size, size),
    )
    # drawn here, as PyTorch would: running the cell's own initialisers costs seconds of compilation
    graphdef, state = nnx.split(nnx.eval_shape(lambda: FullStage(config, rngs=nnx.Rngs(0))))
    leaves = {"/".join(map(str, path)): (path, v.shape) for path, v in nnx.to_flat_state(state)}
    rng = np.random.default_rng(6)
    theta = {key: drawn(rng, key, shape) for key, (_, shape) in leaves.items()}
    z0 = []
    for i, c in enumerate(channels):
        x = rng.normal(size=(batch, size >> i, size >> i, c)).astype(np.float32)
        theta[f"x{i}"] = x
        z0.append(np.zeros_like(x))

    def by_the_zoo(ops, theta, _, z):
        weights = {path: nnx.Param(theta[key]) for key, (path, _) in leaves.items()}
        cell = nnx.merge(graphdef, nnx.from_flat_state(weights))
        return cell(z, tuple(theta[f"x{i}"] for i in range(count)))

    def plain(ops, theta, _, z):
        return counterpart(ops, theta, z)

    return Function(name, theta, tuple(z0), plain, jax_formula=by_the_zoo)


def drawn(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A kernel, scale or bias, times the gain of its place."""
    if name.endswith("kernel"):
        value = rng.uniform(-1, 1, shape) * np.prod(shape[:-1]) ** -0.5
    else:
        value = np.full(shape, float(name.endswith("scale")))
    if "conv2" in name:
        value *= GAINS["conv2"]
    if name.startswith("post_fuse_layers") and name.endswith("scale"):
        value *= GAINS["post_fuse_layers"]
    return value.astype(np.float32)


def counterpart(ops, theta, z):
    """The cell from its parameters by name: a residual block per branch, then fusion."""

    def norm(key, x, groups=GROUPS):
        return ops.group_norm(x, groups, theta[f"{key}/scale"], theta[f"{key}/bias"])

    def conv(key, x, stride=1):
        return ops.conv(x, theta[f"{key}/kernel"], stride)

    def conv_norm(key, x, stride=1, groups=GROUPS):
        return norm(f"{key}/gnorm", conv(f"{key}/conv", x, stride), groups)

    def block(i):
        key = f"branches/{i}/blocks/0"
        y = conv(f"{key}/conv2", ops.relu(norm(f"{key}/gn1", conv(f"{key}/conv1", z[i]))))
        return norm(f"{key}/gn3", ops.relu(norm(f"{key}/gn2", y + theta[f"x{i}"]) + z[i]))

    def moved(i, j, x):
        key = f"fuse_layers/{i}/{j}/net"
        if j > i:
            return ops.upsample(conv_norm(key, x), 2 ** (j - i))
        for k in range(i - j):
            x = conv_norm(f"{key}/{k}", x if k == 0 else ops.relu(x), stride=2)
        return x

    y = [block(i) for i in range(len(z))]
    out = []
    for i in range(len(z)):
        fused = sum(yj if j == i else moved(i, j, yj) for j, yj in enumerate(y))
        out.append(conv_norm(f"post_fuse_layers/{i}", ops.relu(fused), groups=GROUPS // 2))
    return tuple(out)
