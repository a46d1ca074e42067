"""The operations in NumPy, float64: what solutions are verified with."""

import numpy as np

from .function import Graph

CHANNELS = -1
tanh, concat = np.tanh, np.concatenate


def relu(x):
    return np.maximum(x, 0)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def layer_norm(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def group_norm(x, groups, scale, bias):
    parts = x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    mean, var = parts.mean((1, 3), keepdims=True), parts.var((1, 3), keepdims=True)
    return ((parts - mean) / np.sqrt(var + 1e-5)).reshape(x.shape) * scale + bias


def upsample(x, factor):
    return x.repeat(factor, axis=1).repeat(factor, axis=2)


def conv(x, kernel, stride=1):
    """Padded by (size - 1) / 2: a sum over the kernel's places of shifted products."""
    size = kernel.shape[0]
    pad = (size - 1) // 2
    wide = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    high, across = (-(-n // stride) for n in x.shape[1:3])
    return sum(
        wide[:, i : i + stride * high : stride, j : j + stride * across : stride] @ kernel[i, j]
        for i in range(size)
        for j in range(size)
    )


def propagate(graph: Graph, z):
    starts = np.searchsorted(graph.rows, np.arange(graph.size))
    ends = np.append(starts[1:], len(graph.rows))
    picked = z[0, graph.cols] * graph.values[:, None].astype(z.dtype)
    sums = np.concatenate([0 * picked[:1], np.cumsum(picked, axis=0)])
    return (sums[ends] - sums[starts])[None]
