"""Norms inside modules and DEQ layers: folding, names, configuration, meshes."""

import argparse
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType
from jax.test_util import check_grads

import jdeq
from jdeq.nn.norms import NORMS

from .test_weight_norm import equations

WRAPPERS = {"weight_norm": jdeq.nn.WeightNorm, "spectral_norm": jdeq.nn.SpectralNorm}
X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 4)), jnp.float32)


class Cell(nnx.Module):
    def __init__(self, *, wrap=lambda module: module):
        self.linear = wrap(nnx.Linear(4, 4, rngs=nnx.Rngs(0)))

    def __call__(self, z, x):
        return jnp.tanh(0.5 * self.linear(z) + x)


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


def layer(norm_type, cell=None, **options):
    return jdeq.nn.DEQ(cell or Cell(), jdeq.DEQConfig(norm_type=norm_type, **options))


wrappers = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
names = pytest.mark.parametrize("name", WRAPPERS)


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
    np.testing.assert_allclose(folded(X), outer(X), rtol=1e-5)
    assert isinstance(deep.one, wrap)  # the original is as it was


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


@names
@pytest.mark.parametrize("backward", [{"ift": True}, {"grad": 2}])
def test_the_layer_is_the_solve_of_the_folded_cell(name, backward):
    deq = layer(name, f_tol=1e-6, norm_target_norm=0.5, norm_no_scale=True, **backward)
    z, info = nnx.jit(lambda deq, x: deq(x))(deq, X)
    cell = deq.cell.fold()
    np.testing.assert_allclose(cell(z, X), z, atol=1e-5)
    assert np.all(info.converged)
    if name == "spectral_norm":
        assert np.linalg.norm(cell.linear.kernel[...], ord=2) == pytest.approx(0.5, rel=0.05)


def traced(deq, mode):
    """All equations of a call in that mode."""
    getattr(deq, mode)()
    graphdef, state = nnx.split(deq)

    def solve(state, x):
        deq = nnx.merge(graphdef, state, copy=True)
        z, _ = deq(x)
        return z, nnx.state(deq)

    return list(equations(jax.make_jaxpr(solve)(state, X).jaxpr))


@names
@pytest.mark.parametrize("where", ["around the cell", "inside the cell"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_norms_are_computed_outside_the_loop(name, where, mode):
    # a solver that takes no norms itself
    plain = {"f_solver": "simple_fixed_point_iter"}
    if where == "around the cell":
        deq = layer(name, **plain)
    else:
        deq = layer("none", Cell(wrap=WRAPPERS[name]), **plain)
    everywhere = traced(deq, mode)
    loops = [eqn for eqn in everywhere if eqn.primitive.name == "while"]
    inside = [e for loop in loops for e in equations(loop.params["body_jaxpr"])]
    count = lambda eqns, name: sum(e.primitive.name == name for e in eqns)
    assert count(inside, "tanh") == count(inside, "dot_general") == 1
    assert {e.primitive.name for e in inside} & {"sqrt", "div", "reduce_sum"} == set()
    roots = {"weight_norm": 1, "spectral_norm": 2 if mode == "train" else 0}
    without = count(traced(layer("none", **plain), mode), "sqrt")
    assert count(everywhere, "sqrt") - without == roots[name]


@pytest.mark.parametrize("where", ["around the cell", "inside the cell"])
def test_a_layer_moves_the_power_iteration_once_per_call_in_training_only(where):
    if where == "around the cell":
        deq = layer("spectral_norm", sn_n_power_iters=2)
        norm = deq.cell
    else:
        cell = Cell(wrap=functools.partial(jdeq.nn.SpectralNorm, n_power_iterations=2))
        deq, norm = layer("none", cell), cell.linear
    fresh = jax.random.normal(jax.random.key(5), (4, 4), jnp.float32)
    raw = norm.module.linear if where == "around the cell" else norm.module
    raw.kernel.set_value(fresh)
    (path,) = norm.paths
    vectors = norm.vectors[path]
    state = {"kernel": jdeq.norm.PowerVectors(vectors["u"][...], vectors["v"][...])}
    call = nnx.jit(lambda deq, x: deq(x)[0])

    deq.eval()
    call(deq, X)
    np.testing.assert_array_equal(vectors["u"][...], state["kernel"].u)
    deq.train()
    call(deq, X)
    _, want = jdeq.norm.spectral_norm({"kernel": fresh}, state, n_power_iterations=2)
    np.testing.assert_allclose(vectors["u"][...], want["kernel"].u, rtol=1e-5)
    np.testing.assert_allclose(vectors["v"][...], want["kernel"].v, rtol=1e-5)


def test_a_spectral_norm_learns_and_stays_a_contraction():
    deq = layer("spectral_norm", f_tol=1e-5, ift=True, norm_no_scale=True)
    optimizer = nnx.Optimizer(deq, optax.sgd(0.5, momentum=0.9), wrt=nnx.Param)

    @nnx.jit
    def step(deq, optimizer):
        loss, grads = nnx.value_and_grad(lambda m: jnp.mean((m(X)[0] - 0.3) ** 2))(deq)
        optimizer.update(deq, grads)
        return loss

    losses = [step(deq, optimizer) for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]
    deq.eval()
    kernel = deq.cell.fold().linear.kernel[...]
    assert np.linalg.norm(kernel, ord=2) == pytest.approx(1, rel=0.05)
    assert np.all(deq(X)[1].converged)


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
    np.testing.assert_allclose(jax.jit(norm)(X), norm(X), atol=1e-5)


@names
def test_a_random_start_differs_at_each_call(name):
    class Random(Cell):
        def __init__(self):
            super().__init__()
            self.rngs = nnx.Rngs(5)

        def initial_state(self, x):
            return jax.random.normal(self.rngs(), x.shape, x.dtype)

    deq = layer(name, Random(), f_max_iter=1)
    call = nnx.jit(lambda deq, x: deq(x)[0])
    assert np.any(call(deq, X) != call(deq, X))


OPTIONS = {  # what an option changes in the wrapper
    "norm_no_scale": (True, lambda norm: len(norm.scales)),
    "norm_target_norm": (0.5, lambda norm: norm.target_norm),
    "norm_clip": (True, lambda norm: norm.clip),
    "norm_clip_value": (0.5, lambda norm: norm.clip),
}


@names
@pytest.mark.parametrize("option", OPTIONS)
def test_options_reach_the_norm(name, option):
    value, seen = OPTIONS[option]
    base = {"norm_clip": True} if option == "norm_clip_value" else {}
    before, after = layer(name, **base).cell, layer(name, **base | {option: value}).cell
    assert type(after) is WRAPPERS[name]
    assert seen(before) != seen(after)


def test_power_iterations_reach_the_norm():
    assert layer("spectral_norm", sn_n_power_iters=3).cell.n_power_iterations == 3
    assert layer("weight_norm", sn_n_power_iters=3).cell  # an option of another norm
    with pytest.raises(ValueError, match="sn_n_power_iters must be >= 1, got 0"):
        jdeq.DEQConfig(sn_n_power_iters=0)


def test_command_line():
    parser = jdeq.add_deq_args(argparse.ArgumentParser())
    line = "--norm_type spectral_norm --norm_clip --norm_clip_value 0.9 --norm_no_scale"
    config = jdeq.DEQConfig.from_args(parser.parse_args([*line.split(), "--sn_n_power_iters", "2"]))
    norm = config.norm(Cell())
    assert (norm.clip, norm.n_power_iterations, len(norm.scales)) == (0.9, 2, 0)
    assert jdeq.DEQConfig.from_dict(config.to_dict()) == config
    assert "weight_norm, spectral_norm" in " ".join(parser.format_help().split())


@wrappers
def test_a_wrapped_cell_stays_as_it_is(wrap):
    norm = wrap(Cell())
    assert layer("weight_norm", norm).cell is norm


class Scaled(jdeq.nn.KernelNorm):
    """A norm of one's own: a constant factor."""

    def __init__(self, module, *, target_norm=1.0):
        super().__init__(module)
        self.target_norm = target_norm

    def normalise(self, kernels):
        return {path: self.target_norm * kernel for path, kernel in kernels.items()}


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(NORMS, "entries", dict(NORMS.entries))


@pytest.mark.usefixtures("registry")
class TestRegistration:
    def test_a_registered_norm_is_accepted_by_name(self):
        with pytest.raises(ValueError, match="norm_type must be one of 'none', 'weight_norm'"):
            jdeq.DEQConfig(norm_type="scaled")
        jdeq.register_norm("scaled", Scaled)
        deq = layer("scaled", norm_target_norm=0.25)
        raw = deq.cell.module.linear.kernel[...]
        np.testing.assert_allclose(deq.cell.fold().linear.kernel[...], raw / 4, rtol=1e-6)
        assert np.all(deq(X)[1].converged)

    def test_an_option_that_it_does_not_take(self):
        jdeq.register_norm("scaled", Scaled)
        for options in ({"norm_clip": True}, {"norm_no_scale": True}):
            with pytest.raises(TypeError, match=f"{next(iter(options))}=True has no effect"):
                layer("scaled", **options)

    def test_names(self):
        with pytest.raises(ValueError, match="'weight_norm' is registered already.*overwrite"):
            jdeq.register_norm("weight_norm", Scaled)
        with pytest.raises(ValueError, match='"none"'):
            jdeq.register_norm("none", Scaled)
        jdeq.register_norm("weight_norm", Scaled, overwrite=True)
        assert isinstance(layer("weight_norm").cell, Scaled)

    def test_a_partial_keeps_what_it_fixes(self):
        jdeq.register_norm("mine", functools.partial(jdeq.nn.SpectralNorm, clip=0.5))
        assert layer("mine", norm_target_norm=2.0).cell.clip == 0.5
        assert layer("mine", norm_target_norm=2.0).cell.target_norm == 2
        with pytest.raises(TypeError, match="norm_clip=True has no effect"):
            layer("mine", norm_clip=True)

    def test_a_factory_that_makes_something_else(self):
        jdeq.register_norm("odd", lambda module: module)
        with pytest.raises(TypeError, match="'odd' made a Cell, not a KernelNorm"):
            layer("odd")


def test_a_norm_must_say_how():
    with pytest.raises(TypeError, match="KernelNorm must define normalise"):
        jdeq.nn.KernelNorm(Cell()).fold()


@names
def test_functions_have_no_kernels(name):
    with pytest.raises(TypeError, match=f"{name} needs a cell that is an nnx.Module"):
        layer(name, lambda z, x: z)


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
        assert placed["scales"][""].get_value() == (
            jax.P(None, spec[1]) if wrap is jdeq.nn.WeightNorm else jax.P(None, None)
        )
        if wrap is jdeq.nn.SpectralNorm:
            assert placed["vectors"][""]["u"].get_value() == jax.P(None, spec[1])
            assert placed["vectors"][""]["v"].get_value() == jax.P(spec[0], None)
            for name, where in (("u", (None, spec[1])), ("v", (spec[0], None))):
                vector = norm.vectors[""][name][...]
                assert vector.sharding.is_equivalent_to(jax.NamedSharding(mesh, jax.P(*where)), 2)
                np.testing.assert_allclose(vector, want.vectors[""][name][...], atol=1e-5)
    np.testing.assert_allclose(kernel, want_kernel, atol=1e-6)


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
    np.testing.assert_allclose(got, want, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got_grads, want_grads)
