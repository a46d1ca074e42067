"""Norms of kernels and batches that are spread over devices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType

import jdeq

from ..tolerances import rounding, solved
from .cells import X, layer, names, wrappers

pytestmark = pytest.mark.slow

CLOSE = rounding(jnp.float32, terms=16 + 8, size=4)  # a power step: sums of 16 and of 8


@wrappers
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("spec", [("data", "model"), (None, "model"), ("model", None)], ids=str)
def test_a_sharded_kernel_stays_sharded(wrap, axis_type, spec):
    def make(names):
        init = nnx.initializers.lecun_normal()
        if names is not None:
            init = nnx.with_partitioning(init, names)
        return wrap(nnx.Linear(16, 8, use_bias=False, kernel_init=init, rngs=nnx.Rngs(0)))

    @nnx.jit
    def step(norm):
        norm.update()
        return norm.fold()

    want, kernel = make(None), None
    want_kernel = step(want).kernel[...]
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(axis_type,) * 2)
    with jax.set_mesh(mesh):
        norm = make(spec)
        kernel = step(norm).kernel[...]
        assert kernel.sharding.is_equivalent_to(norm.module.kernel[...].sharding, 2)
        assert kernel.sharding.is_equivalent_to(jax.NamedSharding(mesh, jax.P(*spec)), 2)
        placed: Any = nnx.get_partition_spec(nnx.state(norm))
        assert placed["scales"]["kernel"].get_value() == (
            jax.P(None, spec[1]) if wrap is jdeq.nn.WeightNorm else jax.P(None, None)
        )
        if wrap is jdeq.nn.SpectralNorm:
            assert placed["vectors"]["kernel"]["u"].get_value() == jax.P(None, spec[1])
            assert placed["vectors"]["kernel"]["v"].get_value() == jax.P(spec[0], None)
            for name, where in (("u", (None, spec[1])), ("v", (spec[0], None))):
                vector, alone = (n.vectors["kernel"][name][...] for n in (norm, want))
                assert vector.sharding.is_equivalent_to(jax.NamedSharding(mesh, jax.P(*where)), 2)
                np.testing.assert_allclose(
                    vector, want.vectors["kernel"][name][...], rtol=0, atol=CLOSE
                )
    np.testing.assert_allclose(kernel, want_kernel, rtol=0, atol=CLOSE)


@names
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_a_layer_on_a_mesh(name, axis_type):
    make = lambda: layer(name, f_tol=1e-6, ift=True)
    grads = nnx.jit(nnx.value_and_grad(lambda m, x: jnp.mean(m(x)[0] ** 2)))
    want, want_grads = grads(make(), X)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(axis_type,))
    with jax.set_mesh(mesh):
        x = jax.device_put(X, jax.NamedSharding(mesh, jax.P("data")))
        deq = make()
        replicated = jax.device_put(nnx.state(deq), jax.NamedSharding(mesh, jax.P()))
        nnx.update(deq, replicated)
        got, got_grads = grads(deq, x)
    close = 4 * solved(1e-6, rate=0.8)  # two solves, squared
    np.testing.assert_allclose(got, want, rtol=close)
    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=close)
    jax.tree.map(same, got_grads, want_grads)


@wrappers
def test_names_of_axes_need_no_mesh(wrap):
    names = {"out_sharding": ("embed", "hidden"), "eager_sharding": False}
    norm = wrap(nnx.Linear(16, 8, use_bias=False, kernel_metadata=names, rngs=nnx.Rngs(0)))
    specs: Any = nnx.get_partition_spec(nnx.state(norm))
    assert specs["module"]["kernel"].get_value() == jax.P("embed", "hidden")
    last = "hidden" if wrap is jdeq.nn.WeightNorm else None  # a scale per channel, or one
    assert specs["scales"]["kernel"].get_value() == jax.P(None, last)
    assert norm.fold().kernel.get_metadata("out_sharding") == ("embed", "hidden")
