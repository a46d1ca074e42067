"""Initial weights that several models share."""

from jax.nn import initializers

torch_uniform = initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # U(+-fan_in**-0.5)
small_normal = initializers.normal(0.01)
