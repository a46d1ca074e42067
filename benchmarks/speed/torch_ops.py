"""The operations in PyTorch; images NCHW, the layout that TorchDEQ's models use."""

import numpy as np
import torch
from torch.nn import functional

from .function import Graph, State

CHANNELS = -3
tanh, relu = torch.tanh, torch.relu


def concat(parts, axis):
    return torch.cat(parts, dim=axis)


def gelu(x):
    return functional.gelu(x, approximate="tanh")


def softmax(x):
    return torch.softmax(x, -1)


def layer_norm(x):
    return functional.layer_norm(x, x.shape[-1:])


def group_norm(x, groups, scale, bias):
    return functional.group_norm(x, groups, scale, bias)


def upsample(x, factor):
    return functional.interpolate(x, scale_factor=factor, mode="nearest")


def conv(x, kernel, stride=1):
    return functional.conv2d(x, kernel, stride=stride, padding=(kernel.shape[-1] - 1) // 2)


def propagate(matrix, z):
    return (matrix @ z[0])[None]


def place_graph(graph: Graph | None):
    """As a CSR matrix, torch's fastest."""
    if graph is None:
        return None
    starts = torch.searchsorted(torch.as_tensor(graph.rows), torch.arange(graph.size + 1))
    cols, values = torch.as_tensor(graph.cols), torch.as_tensor(graph.values)
    return torch.sparse_csr_tensor(starts, cols, values, size=(graph.size, graph.size))


def tensor(a: np.ndarray) -> torch.Tensor:
    """A copy on the current device; NumPy's bfloat16 is none that torch knows."""
    if a.dtype.kind == "f":
        return torch.tensor(a.copy())
    return torch.tensor(a.astype(np.float32)).to(getattr(torch, a.dtype.name))


def array(a: torch.Tensor) -> np.ndarray:
    """Back, from any device; bfloat16 in float32."""
    a = a.detach().cpu()
    return (a.float() if a.dtype == torch.bfloat16 else a).numpy()


def place_theta(theta):
    """Weights and injections, in torch's layouts."""

    def place(name, a):
        if a.ndim < 4 or name.startswith("x"):
            return tensor(to_nchw(a))
        return tensor(a.transpose(3, 2, 0, 1))

    return {name: place(name, a) for name, a in theta.items()}


def place_state(z: State):
    return tuple(tensor(to_nchw(a)) for a in z)


def state_of(z) -> State:
    """Back to NumPy, in the layouts of `Function`."""
    arrays = map(array, z)
    return tuple(a if a.ndim < 4 else a.swapaxes(-3, -2).swapaxes(-2, -1) for a in arrays)


def gradient_of(theta):
    """The gradients of placed `theta`, in NumPy and the layouts of `Function`."""

    def back(name, a):
        if a.ndim == 4 and not name.startswith("x"):
            return array(a.permute(2, 3, 1, 0))
        return state_of((a,))[0]

    return {name: back(name, a.grad) for name, a in theta.items()}


def to_nchw(a):
    return a if a.ndim < 4 else a.swapaxes(-1, -2).swapaxes(-2, -3)
