"""Fixed arrays that belong to a model's weights."""

from flax import nnx


class Buffer(nnx.Variable):
    """A fixed array that PyTorch keeps with a module's weights, and so does its state dict."""
