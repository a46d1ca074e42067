"""Which of a model's variables are trained."""

from flax import nnx

TRAINED = nnx.All(nnx.Param, nnx.Not(nnx.PathContains("unread")))
