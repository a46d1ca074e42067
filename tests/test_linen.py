"""Linen modules in `f`: read freely; parameters made or variables written there are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax import core

import jdeq

X = jnp.linspace(-1, 1, 8, dtype=jnp.float32).reshape(2, 4)
KEY = jax.random.key(0)
NORMAL = linen.initializers.normal()


def solve(f):
    return jdeq.deq(lambda z: jnp.tanh(0.3 * f(z) + X), jnp.zeros_like(X), tol=1e-6)[0]


class Dense(linen.Module):
    """Parameters of its own, and those of a layer that is made when it is called."""

    @linen.compact
    def __call__(self, z):
        return linen.Dense(4)(z) + self.param("shift", NORMAL, (1, 4), jnp.float32)


class Compact(linen.Module):
    @linen.compact
    def __call__(self, x):
        cell = Dense()
        return solve(lambda z: cell(z))


class Inline(linen.Module):
    @linen.compact
    def __call__(self, x):
        return solve(lambda z: linen.Dense(4)(z))


class Raw(linen.Module):
    @linen.compact
    def __call__(self, x):
        kernel = lambda: self.param("kernel", NORMAL, (4, 4), jnp.float32)
        return solve(lambda z: z @ kernel())


class Setup(linen.Module):
    def setup(self):
        self.cell = Dense()

    def __call__(self, x):
        return solve(self.cell)


class Lifted(linen.Module):
    @linen.compact
    def __call__(self, x):
        cell = linen.jit(linen.remat(linen.Dense))(4)
        if self.is_initializing():
            cell(x)  # not enough: a lifted module makes all of its variables anew in each call
        return solve(cell)


class Layer(linen.Module):
    @linen.compact
    def __call__(self, x):
        cell = Dense()
        return jdeq.nn.DEQ(lambda z, x: jnp.tanh(cell(z) + x))(x)[0]


class Scanned(linen.Module):
    @linen.compact
    def __call__(self, x):
        layers = linen.scan(
            lambda cell, x, _: (cell(x), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=2,
        )
        return layers(Compact(), x, None)[0]


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("net", [Compact, Inline, Raw, Setup, Lifted, Layer, Scanned])
def test_parameters_that_f_would_create(net, jit):
    init = jax.jit(net().init) if jit else net().init
    with pytest.raises(TypeError, match=r"creates parameters .*\(params/.*is_initializing"):
        init(KEY, X)


def test_the_variables_are_named():
    with pytest.raises(TypeError, match=r"\(params/Dense_0/Dense_0/bias, .*Dense_0/shift\) while"):
        Compact().init(KEY, X)


class Right(linen.Module):
    """As the message says; the cell's parameters are those of a plain `Dense`."""

    cell: linen.Module

    @linen.compact
    def __call__(self, x):
        return self.cell(x) if self.is_initializing() else solve(self.cell)


@pytest.mark.slow
@pytest.mark.parametrize("cell", [Dense(), linen.jit(Dense)(), linen.remat(Dense)()])
def test_parameters_made_before_the_solve(cell):
    net = Right(cell)
    variables = net.init(KEY, X)
    assert not any(isinstance(x, core.Tracer) for x in jax.tree.leaves(variables))

    def by_apply(variables):
        own = {"params": variables["params"]["cell"]}
        return jnp.sum(jnp.square(solve(lambda z: Dense().apply(own, z))))

    want = jax.grad(by_apply)(variables)
    loss = lambda v: jnp.sum(jnp.square(jnp.asarray(net.apply(v, X))))
    got = jax.jit(jax.grad(loss))(variables)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-3, atol=1e-6), got, want)


class Normalised(linen.Module):
    average: bool

    @linen.compact
    def __call__(self, x):
        norm = linen.BatchNorm(use_running_average=self.average)
        return norm(x) if self.is_initializing() else solve(norm)


class Sown(linen.Module):
    @linen.compact
    def __call__(self, x):
        def f(z):
            self.sow("intermediates", "z", z)
            return z

        return solve(f)


def test_variables_that_f_would_write():
    variables = Normalised(False).init(KEY, X)
    with pytest.raises(TypeError, match=r"writes to .*\(batch_stats/BatchNorm_0/mean, .*var\)"):
        Normalised(False).apply(variables, X, mutable=["batch_stats"])
    with pytest.raises(TypeError, match=r"writes to .*\(intermediates/z/0\).*sow outside"):
        Sown().apply({}, X, mutable=["intermediates"])
    for settled, mutable in ((Normalised(True), ["batch_stats"]), (Sown(), False)):
        settled.apply(variables, X, mutable=mutable)


def test_what_f_makes_for_itself_is_its_own():
    norm, dense = linen.BatchNorm(use_running_average=False), linen.Dense(4)
    variables = norm.init(KEY, X)
    solve(lambda z: norm.apply(variables, z, mutable=["batch_stats"])[0])
    solve(lambda z: dense.apply(dense.init(KEY, z), z))
    solve(dense.bind(dense.init(KEY, X)))


def test_a_module_without_parameters_is_no_cell():
    with pytest.raises(TypeError, match=r"Linen module without its parameters.*cell\.apply"):
        jdeq.nn.DEQ(Dense())
