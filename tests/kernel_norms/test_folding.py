"""Folding: what modules have inside, share and write."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

import jdeq

from ..tolerances import rounding
from .cells import Cell, X, wrappers


class Pair(nnx.Module):
    """The same layer twice."""

    def __init__(self, layer):
        self.layers = nnx.List([layer, layer])

    def __call__(self, x):
        return self.layers[1](self.layers[0](x))


class Tied(nnx.Module):
    """Two layers, one kernel."""

    def __init__(self):
        self.first, self.second = (nnx.Linear(4, 4, rngs=nnx.Rngs(i)) for i in range(2))
        self.second.kernel = self.first.kernel

    def __call__(self, x):
        return self.second(self.first(x))


@wrappers
@pytest.mark.parametrize("make", [lambda: Pair(nnx.Linear(4, 4, rngs=nnx.Rngs(0))), Tied])
def test_what_is_shared_is_normalised_once(wrap, make):
    norm = wrap(make(), learn_scale=False, target_norm=0.5, **_steps(wrap))
    assert len(norm.paths) == 1
    norm.update()
    folded = norm.fold()
    kernels = jax.tree.leaves(nnx.state(folded, _is_kernel))
    assert len(kernels) == 1
    spectral = wrap is jdeq.nn.SpectralNorm
    size = np.linalg.norm(kernels[0], ord=2) if spectral else np.linalg.norm(kernels[0], axis=0)
    np.testing.assert_allclose(size, 0.5, rtol=1e-5)


def _steps(wrap):
    return {"n_power_iterations": 500} if wrap is jdeq.nn.SpectralNorm else {}


def _is_kernel(path, value):
    return isinstance(value, nnx.Param) and path[-1] == "kernel"


@wrappers
def test_folding_finds_norms_wherever_they_are(wrap):
    class Deep(nnx.Module):
        def __init__(self):
            linear = lambda i: nnx.Linear(4, 4, rngs=nnx.Rngs(i))
            self.one = wrap(linear(0))
            self.many = nnx.List([wrap(linear(1)), linear(2)])
            self.named = nnx.Dict({"a": wrap(linear(3))})
            self.plain = nnx.data([wrap(linear(4)), linear(5)])

        def __call__(self, x):
            for each in (self.one, *self.many, self.named["a"], *self.plain):
                x = each(x)
            return x

    deep = Deep()
    outer = wrap(deep)
    assert set(outer.paths) == {"many.1", "plain.1"}  # the others have a norm of their own
    outer.eval()
    folded = outer.fold()
    assert not [m for _, m in nnx.iter_modules(folded) if isinstance(m, jdeq.nn.KernelNorm)]
    assert type(folded) is Deep and type(folded.plain[0]) is nnx.Linear
    close = rounding(X.dtype, terms=6 * 8, size=10)  # six layers, two sums of four in each
    np.testing.assert_allclose(folded(X), outer(X), rtol=0, atol=close)
    assert isinstance(deep.one, wrap)  # the original is as it was


@pytest.mark.slow
@wrappers
def test_the_gradient_through_a_fold_is_that_of_the_wrapper(wrap):
    norm = wrap(nnx.Linear(4, 4, param_dtype=jnp.float64, rngs=nnx.Rngs(0)))
    norm.eval()
    cotangent = jnp.asarray(np.random.default_rng(1).normal(size=(8, 4)))
    x = X.astype(jnp.float64)
    graphdef, params, rest = nnx.split(norm, nnx.Param, ...)

    def loss(params):
        return jnp.sum(nnx.merge(graphdef, params, rest)(x) * cotangent)

    if wrap is jdeq.nn.WeightNorm:  # a spectral norm's vectors are constants
        check_grads(loss, (params,), order=1, modes=["rev"], rtol=1e-4)
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(jax.grad(loss)(params)))


@wrappers
def test_what_a_module_writes_is_kept(wrap):
    class Noisy(nnx.Module):
        def __init__(self):
            self.inner = wrap(nnx.Linear(4, 4, rngs=nnx.Rngs(0)))
            self.linear = nnx.Linear(4, 4, rngs=nnx.Rngs(1))
            self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(2))
            self.statistics = nnx.BatchNorm(4, rngs=nnx.Rngs(3))

        def __call__(self, x):
            return self.dropout(self.statistics(self.linear(self.inner(x))))

    norm = wrap(Noisy())
    call = nnx.jit(lambda norm, x: norm(x))
    first, second = call(norm, X), call(norm, X)
    assert np.any((first == 0) != (second == 0))  # masks differ
    assert np.any(norm.module.statistics.mean[...] != 0)
    norm.eval()
    close = rounding(X.dtype, terms=3 * 8, size=10)
    np.testing.assert_allclose(jax.jit(norm)(X), norm(X), rtol=0, atol=close)


def test_a_norm_must_say_how():
    with pytest.raises(TypeError, match="KernelNorm must define normalise"):
        jdeq.nn.KernelNorm(Cell()).fold()
