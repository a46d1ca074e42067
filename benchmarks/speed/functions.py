"""The grid of `f`: sizes, weights that contract, formulas."""

from collections.abc import Callable

import numpy as np

from .function import Function, Graph
from .mdeq import mdeq

HEADS = 4


def arrays(seed: int, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Standard normal arrays, float32."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def dense(name: str, batch: int, width: int, gain: float = 0.9) -> Function:
    """`tanh(z w + x)`; the spectral radius of `w` is about `gain`, that of the Jacobian less."""
    theta = arrays(0, w=(width, width), x=(batch, width))
    theta["w"] *= np.float32(gain / width**0.5)
    formula = lambda ops, theta, _, z: (ops.tanh(z[0] @ theta["w"] + theta["x"]),)
    return Function(name, theta, (np.zeros_like(theta["x"]),), formula)


def transformer(name: str, batch: int, length: int, width: int) -> Function:
    """Attention and a two-layer network, normalised after each, with an injection."""
    square, up = (width, width), (width, 4 * width)
    theta = arrays(
        2, q=square, k=square, v=square, o=square, up=up, down=up[::-1], x=(batch, length, width)
    )
    for w, gain in {"q": 1, "k": 1, "v": 0.7, "o": 0.7, "up": 0.7, "down": 0.35}.items():
        theta[w] *= np.float32(gain / width**0.5)

    def formula(ops, theta, _, z):
        (z,) = z
        split = lambda w: (z @ w).reshape(*z.shape[:2], HEADS, -1).swapaxes(1, 2)
        q, k, v = (split(theta[w]) for w in "qkv")
        scores = q @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5
        mixed = (ops.softmax(scores) @ v).swapaxes(1, 2).reshape(z.shape)
        y = ops.layer_norm(theta["x"] + 0.3 * z + mixed @ theta["o"])
        return (ops.layer_norm(y + ops.gelu(y @ theta["up"]) @ theta["down"]),)

    return Function(name, theta, (np.zeros_like(theta["x"]),), formula)


def graph(name: str, nodes: int, edges: int, width: int) -> Function:
    """`tanh(A z w + x)` on one sample; A averages over the neighbours of a random graph."""
    theta = arrays(3, w=(width, width), x=(1, nodes, width))
    theta["w"] *= np.float32(0.9 / width**0.5)
    rng = np.random.default_rng(4)
    # every node has a neighbour, or else its row of A would be empty
    rows = np.sort(np.concatenate([np.arange(nodes), rng.integers(0, nodes, edges - nodes)]))
    cols = rng.integers(0, nodes, edges)
    values = (1 / np.bincount(rows)[rows]).astype(np.float32)

    def formula(ops, theta, graph, z):
        return (ops.tanh(ops.propagate(graph, z[0]) @ theta["w"] + theta["x"]),)

    start = (np.zeros_like(theta["x"]),)
    return Function(name, theta, start, formula, Graph(rows, cols, values, nodes))


def chain(name: str, length: int, size: int, channels: int, inner: int) -> Function:
    """One sample of `length` images, each a function of itself and the one before it."""
    theta = arrays(
        5,
        up=(3, 3, 2 * channels, inner),
        down=(3, 3, inner, channels),
        x=(1, length, size, size, channels),
    )
    theta["up"] *= np.float32((9 * 2 * channels) ** -0.5)
    theta["down"] *= np.float32(0.6 * (9 * inner) ** -0.5)

    def formula(ops, theta, _, z):
        images, x = z[0][0], theta["x"]
        before = ops.concat([0 * images[:1], images[:-1]], 0)
        y = ops.tanh(ops.conv(ops.concat([images, before], ops.CHANNELS), theta["up"]))
        return (ops.tanh(ops.conv(y, theta["down"])[None] + x),)

    start = (np.zeros_like(theta["x"]),)
    return Function(name, theta, start, formula)


FUNCTIONS: dict[str, Callable[[str], Function]] = {
    "dense D=256": lambda name: dense(name, 64, 256),
    "dense D=1024": lambda name: dense(name, 64, 1024),
    "dense D=4096": lambda name: dense(name, 64, 4096),
    "tiny, 65536 x 64": lambda name: dense(name, 65536, 64, gain=0.5),
    "transformer T=128 d=256": lambda name: transformer(name, 4, 128, 256),
    "graph, 10k nodes": lambda name: graph(name, 10_000, 100_000, 64),
    "chain of 50 images": lambda name: chain(name, 50, 16, 3, 32),
    "MDEQ, 2 branches": lambda name: mdeq(name, 16, 32, (24, 24), expansion=2),
    "MDEQ, 4 branches": lambda name: mdeq(name, 16, 32, (16, 24, 32, 48), expansion=2),
}
QUICK: dict[str, Callable[[str], Function]] = {
    "dense D=256": lambda name: dense(name, 4, 16),
    "dense D=1024": lambda name: dense(name, 4, 32),
    "dense D=4096": lambda name: dense(name, 4, 48),
    "tiny, 65536 x 64": lambda name: dense(name, 64, 8, gain=0.5),
    "transformer T=128 d=256": lambda name: transformer(name, 2, 8, 16),
    "graph, 10k nodes": lambda name: graph(name, 60, 300, 8),
    "chain of 50 images": lambda name: chain(name, 5, 8, 3, 8),
    "MDEQ, 2 branches": lambda name: mdeq(name, 2, 16, (16, 16), expansion=2),
    "MDEQ, 4 branches": lambda name: mdeq(name, 2, 32, (16, 16, 16, 16), expansion=2),
}
