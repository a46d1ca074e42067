"""Norms in DEQ layers: once per solve, outside the loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jdeq
from jdeq.kernel_norms.mirror import entry_of

from ..nn.jaxprs import equations
from ..nn.training import train
from ..tolerances import rounding
from .cells import WRAPPERS, Cell, X, layer, names, wrappers


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
    plain = {"f_solver": "simple_fixed_point_iter"}  # evaluates f in one place of its loop
    if where == "around the cell":
        deq = layer(name, **plain)
    else:
        deq = layer("none", Cell(wrap=WRAPPERS[name]), **plain)
    everywhere, bare = traced(deq, mode), traced(layer("none", **plain), mode)

    def inside(eqns):
        loops = [eqn for eqn in eqns if eqn.primitive.name == "while"]
        return [e for loop in loops for e in equations(loop.params["body_jaxpr"])]

    count = lambda eqns, name: sum(e.primitive.name == name for e in eqns)
    assert count(inside(everywhere), "tanh") == 1
    for operation in ("dot_general", "sqrt", "div", "reduce_sum"):
        assert count(inside(everywhere), operation) == count(inside(bare), operation)
    roots = {"weight_norm": 1, "spectral_norm": 2 if mode == "train" else 0}
    assert count(everywhere, "sqrt") - count(bare, "sqrt") == roots[name]


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
    vectors = entry_of(norm.vectors, path)
    state = {"kernel": jdeq.norm.PowerVectors(vectors["u"][...], vectors["v"][...])}
    call = nnx.jit(lambda deq, x: deq(x)[0])

    deq.eval()
    call(deq, X)
    np.testing.assert_array_equal(vectors["u"][...], state["kernel"].u)
    deq.train()
    call(deq, X)
    _, want = jdeq.norm.spectral_norm({"kernel": fresh}, state, n_power_iterations=2)
    close = rounding(X.dtype, terms=4 * (4 + 4), size=4)  # two steps of two products and norms
    np.testing.assert_allclose(vectors["u"][...], want["kernel"].u, rtol=0, atol=close)
    np.testing.assert_allclose(vectors["v"][...], want["kernel"].v, rtol=0, atol=close)


def test_a_spectral_norm_learns_and_stays_a_contraction():
    deq = layer("spectral_norm", f_tol=1e-5, ift=True, norm_no_scale=True)
    losses = train(deq, X)
    assert losses[-1] < 0.8 * losses[0]
    deq.eval()
    kernel = deq.cell.fold().linear.kernel[...]
    assert np.linalg.norm(kernel, ord=2) == pytest.approx(1, rel=0.05)
    assert np.all(deq(X)[1].converged)


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


@wrappers
def test_a_wrapped_cell_stays_as_it_is(wrap):
    norm = wrap(Cell())
    assert layer("weight_norm", norm).cell is norm


@names
def test_functions_have_no_kernels(name):
    with pytest.raises(TypeError, match=f"{name} needs a cell that is an nnx.Module"):
        layer(name, lambda z, x: z)
