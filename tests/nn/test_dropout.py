"""Variational dropout: whose masks they are, and that a solve sees one."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jdeq
from jdeq.nn.dropout import dropout_layers

from ..golden import load_cases
from ..tolerances import rounding, solved

KEY = jax.random.key(0)
X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 6)), jnp.float32)
TWO_SOLVES = 2 * solved(1e-6, rate=0.8)
# ten iterations, for these, whatever the residual; three more at most; forward and backward
TEN = {"f_max_iter": 10, "f_tol": 1e-30}
TWO_PROGRAMS = rounding(X.dtype, terms=2 * 13 * 8)


class Cell(nnx.Module):
    def __init__(self, rate=0.4, rngs=None):
        rngs = rngs or nnx.Rngs(0)
        self.linear = nnx.Linear(6, 6, rngs=rngs)
        self.drop = jdeq.nn.VariationalDropout(rate, rngs=rngs)
        self.out = jdeq.nn.VariationalDropout(rate, rngs=rngs)

    def __call__(self, z, x):
        return self.out(jnp.tanh(0.15 * self.linear(self.drop(z)) + x))


def layer(cell=None, **options):
    options = {"f_max_iter": 60, "f_tol": 1e-6, "f_stop_mode": "abs"} | options
    return jdeq.nn.DEQ(cell or Cell(), jdeq.DEQConfig(**options))


@pytest.mark.slow
@pytest.mark.parametrize("case", load_cases("dropout"), ids=lambda case: case["cls"])
def test_golden_shapes_and_values(case):
    options = {} if case["token_first"] is None else {"token_first": case["token_first"]}
    drop = getattr(jdeq.nn, case["cls"])(case["p"], rngs=nnx.Rngs(0), **options)
    shape = tuple(case["input_shape"])
    mask_shape = drop.mask_shape(shape)
    assert mask_shape == tuple(case["mask_shape"])
    x = jnp.ones(shape)
    y = drop(x)
    np.testing.assert_array_equal(y, drop(x))
    first = y[tuple(slice(n) for n in mask_shape)]
    np.testing.assert_array_equal(y, jnp.broadcast_to(first, shape))
    np.testing.assert_allclose(np.unique(y), [0, case["kept_value"]], rtol=1e-12)
    large = drop(jnp.ones(tuple(8 * n for n in shape[:2]) + shape[2:]))
    kept = np.asarray(large[tuple(slice(n) for n in drop.mask_shape(large.shape))] > 0)
    assert abs(kept.mean() - 0.7) < 5 * np.sqrt(0.21 / kept.size)
    assert any(not np.array_equal(kept[0], sample) for sample in kept[1:])
    drop.eval()
    np.testing.assert_array_equal(drop(x), x)


def test_all_axes_before_the_tokens_are_samples():
    drop = jdeq.nn.VariationalDropout1d(0.5, rngs=nnx.Rngs(0))
    assert drop.mask_shape((5, 6)) == (1, 6) and drop.mask_shape((2, 3, 5, 6)) == (2, 3, 1, 6)
    with pytest.raises(ValueError, match="VariationalDropout1d wants at least 2 axes"):
        drop(jnp.ones(3))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_dtype_follows_the_input(dtype):
    drop = jdeq.nn.VariationalDropout(0.5, rngs=nnx.Rngs(0))
    y = drop(jnp.ones((4, 100), dtype))
    assert y.dtype == dtype and set(np.unique(y).tolist()) == {0, 2}


@pytest.mark.parametrize("rate", [-0.1, 1, 1.0, float("nan")])
def test_bad_rates_are_named(rate):
    with pytest.raises(ValueError, match="rate"):
        jdeq.nn.VariationalDropout(rate, rngs=nnx.Rngs(0))
    assert jdeq.nn.VariationalDropout(0, rngs=nnx.Rngs(0))(X) is X


def test_redraw_changes_all_masks_and_not_the_module():
    cell = Cell()
    before = [m(X) for m in (cell.drop, cell.out)]
    new = jdeq.nn.redraw(cell, KEY)
    masks = [m(X) for m in (new.drop, new.out, cell.drop, cell.out)]
    assert all(
        not np.array_equal(a, b) for i, a in enumerate(masks) for b in masks[:i]
    ) and np.array_equal(before, masks[2:])
    old_kind = jdeq.nn.redraw(cell, jax.random.PRNGKey(0))
    np.testing.assert_array_equal(old_kind.drop(X), new.drop(X))
    np.testing.assert_array_equal(jdeq.nn.redraw(old_kind, KEY).drop(X), new.drop(X))
    grads = nnx.grad(lambda m: jdeq.nn.redraw(m, KEY)(X, X).sum())(cell)
    assert np.abs(grads["linear"]["kernel"][...]).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver, norm_type",
    [("fixed_point_iter", "none"), ("anderson", "weight_norm"), ("broyden", "none")],
)
def test_the_solution_is_a_fixed_point_under_one_mask(solver, norm_type):
    deq = layer(f_solver=solver, norm_type=norm_type)
    z, info = nnx.jit(lambda deq, key: deq(X, key=key))(deq, KEY)
    assert info.converged.all()
    np.testing.assert_allclose(deq.f(X, key=KEY)(z), z, atol=1e-5)
    dropped = np.asarray(z == 0)
    assert 0.2 < dropped.mean() < 0.6 and not np.array_equal(dropped[0], dropped[1])
    again, _ = deq(X, key=KEY)
    other, _ = deq(X, key=jax.random.key(1))
    np.testing.assert_allclose(again, z, rtol=0, atol=TWO_SOLVES)
    assert not np.array_equal(other == 0, dropped)


def test_evaluation_drops_nothing_and_training_wants_a_key():
    deq = layer()
    with pytest.raises(ValueError, match="key="):
        deq(X)
    deq.eval()
    z, _ = deq(X)
    plain = layer(Cell(rate=0))
    plain.eval()
    np.testing.assert_array_equal(z, plain(X)[0])
    np.testing.assert_array_equal(z, deq(X, key=KEY)[0])
    deq.train()
    assert np.any(deq(X, key=KEY)[0] == 0)


@pytest.mark.slow
def test_another_batch_size_is_no_trouble():
    deq = layer()
    assert [deq(X[:n], key=KEY)[0].shape for n in (8, 3, 0)] == [(8, 6), (3, 6), (0, 6)]


BACKWARDS = {
    "ift": {"ift": True, "b_solver": "broyden", "b_tol": 1e-12, "f_solver": "broyden"},
    "phantom": {"grad": 60, "f_max_iter": 0},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKWARDS)
def test_gradients_are_those_of_the_function_with_this_mask(name):
    rngs = nnx.Rngs(0)
    cell = Cell(rngs=rngs)
    cell.linear = nnx.Linear(6, 6, rngs=rngs, param_dtype=jnp.float64)
    x = X.astype(float)
    deq = layer(cell, **BACKWARDS[name] | {"f_tol": 1e-13})
    grads = nnx.jit(nnx.grad(lambda deq: jnp.sum(deq(x, key=KEY)[0] ** 2)))(deq)
    masks = [m(jnp.ones_like(x)) for m in dropout_layers(deq._masked(deq.cell, KEY))]

    def plain(kernel):
        z = jnp.zeros_like(x)
        for _ in range(80):
            z = masks[1] * jnp.tanh(0.15 * ((masks[0] * z) @ kernel) + x)
        return jnp.sum(z**2)

    want = jax.grad(plain)(cell.linear.kernel[...])
    np.testing.assert_allclose(grads["cell"]["linear"]["kernel"][...], want, atol=1e-9)


@pytest.mark.slow
def test_under_vmap_each_key_has_its_masks():
    deq = layer()
    keys = jax.random.split(KEY, 3)
    lanes = jax.vmap(lambda key: deq(X, key=key)[0])(keys)
    for z, key in zip(lanes, keys, strict=True):
        np.testing.assert_allclose(z, deq(X, key=key)[0], rtol=0, atol=TWO_SOLVES)
    single = jdeq.nn.DEQ(deq.cell, deq.config, batch_dims=0)
    rows = jax.vmap(lambda x, key: single(x, key=key)[0])(X[:3], keys)
    assert rows.shape == (3, 6) and not np.array_equal(rows[0] == 0, rows[1] == 0)


def test_rematerialised_blocks_see_the_same_mask():
    class Remat(Cell):
        def __call__(self, z, x):
            return jax.checkpoint(lambda m, z: Cell.__call__(m, z, x))(self, z)

    value = nnx.jit(nnx.value_and_grad(lambda deq: jnp.sum(deq(X, key=KEY)[0] ** 2)))
    want, got = value(layer(grad=3, **TEN)), value(layer(Remat(), grad=3, **TEN))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=TWO_PROGRAMS, atol=TWO_PROGRAMS)


def test_a_stack_of_layers_has_a_mask_each():
    class Deep(nnx.Module):
        def __init__(self):
            make = nnx.vmap(lambda rngs: jdeq.nn.VariationalDropout(0.5, rngs=rngs), in_axes=(0,))
            self.layers = make(nnx.Rngs(0).split(4))

        def __call__(self, z, x):
            step = lambda z, drop: (0.4 * drop(z) + 0.2 * drop(x), None)
            return jax.lax.scan(step, z, self.layers)[0]

    deep = Deep()
    masks = jax.vmap(lambda drop: drop(X))(jdeq.nn.redraw(deep, KEY).layers)
    assert len(np.unique(masks == 0, axis=0)) == 4
    assert nnx.jit(layer(deep))(X, key=KEY)[1].converged.all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit])
def test_masks_do_not_depend_on_the_mesh(kind):
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(kind,))
    graphdef, state = nnx.split(layer(grad=2, **TEN))

    @jax.jit
    def value(state, x):
        def loss(x):
            z, _ = nnx.merge(graphdef, state)(x, key=KEY)
            return jnp.sum(z**2), z

        return jax.value_and_grad(loss, has_aux=True)(x)

    (want, z_one), grad_one = value(state, X)
    with jax.set_mesh(mesh):
        everywhere = jax.device_put(state, jax.NamedSharding(mesh, jax.P()))
        spread = jax.device_put(X, jax.NamedSharding(mesh, jax.P("batch")))
        (got, z), grad = value(everywhere, spread)
    assert z.sharding.spec[0] == "batch"
    np.testing.assert_array_equal(z == 0, z_one == 0)
    for a, b in ((got, want), (z, z_one), (grad, grad_one)):
        np.testing.assert_allclose(a, b, rtol=TWO_PROGRAMS, atol=TWO_PROGRAMS)


def test_the_mask_is_drawn_once_and_not_in_the_loop():
    """XLA takes the random bits out of the solver's loop, as nothing in there changes them."""
    graphdef, state = nnx.split(layer())
    solve = lambda state, key: nnx.merge(graphdef, state)(X, key=key)[0]
    text = str(jax.jit(solve).lower(state, KEY).compile().as_text())
    bodies = {}
    for block in re.split(r"\n\n", text):
        if head := re.match(r"\s*(?:ENTRY )?%?([\w.-]+) ", block):
            bodies[head[1]] = block

    def reachable(name, seen):
        seen.add(name)
        called = r"(?:calls|body|condition|to_apply)=%?([\w.-]+)"
        for other in re.findall(called, bodies.get(name, "")):
            if other not in seen:
                reachable(other, seen)
        return seen

    draws = lambda name: any(" xor(" in bodies.get(n, "") for n in reachable(name, set()))
    solvers = [
        body
        for block in bodies.values()
        for body, rest in re.findall(r" while\(.*body=%?([\w.-]+)(.*)", block)
        if "known_trip_count" not in rest
    ]
    assert len(solvers) == 1 and " xor(" in text
    assert not draws(solvers[0])


@pytest.mark.slow
def test_the_penalty_of_the_configuration():
    deq = layer(jac_loss_weight=0.5)
    z, _ = deq(X, key=KEY)
    loss = deq.jac_loss(X, z, KEY)
    close = rounding(X.dtype, terms=2 * z.size)  # of squares, each of a sum
    np.testing.assert_allclose(loss, 0.5 * deq.jac_loss(X, z, KEY, weight=1.0), rtol=close)
    traced = jax.jit(lambda w: deq.jac_loss(X, z, KEY, weight=w))(0.5)
    np.testing.assert_allclose(traced, loss, rtol=close)
    assert layer().jac_loss(X, z, KEY) == 0 and loss.dtype == jnp.float32

    def draws(deq):
        some = jax.random.split(KEY, 300)
        return jax.jit(lambda: jax.lax.map(lambda key: deq.jac_loss(X, z, key), some))()

    assert np.all(draws(deq) > 0)
    assert 0.1 < np.mean(draws(layer(jac_loss_weight=0.5, jac_loss_freq=0.2)) > 0) < 0.3

    def total(deq):
        z, _ = deq(X, key=KEY)
        return deq.jac_loss(X, z, KEY)

    grads = nnx.grad(total)(deq)
    assert np.abs(grads["cell"]["linear"]["kernel"][...]).max() > 1e-3


def test_the_penalty_sees_the_masks_of_the_call():
    deq = layer(jac_loss_weight=1.0)
    z, _ = deq(X, key=KEY)
    kernel = deq._masked(deq.cell, KEY).linear.kernel[...]
    dead = 0 * X  # with tanh'(0) = 1 the Jacobian is known
    f = deq.f(dead, key=KEY)
    drop, out = (m(jnp.ones_like(X)) for m in dropout_layers(deq._masked(deq.cell, KEY)))
    want = jnp.einsum("bi,ij,bj->b", drop**2, (0.15 * kernel) ** 2, out**2)
    many = jdeq.jac_reg(f, dead, KEY, n_samples=4000, per_sample=True)
    np.testing.assert_allclose(many, want / 6, rtol=0.1)


@pytest.mark.parametrize(
    "option, value",
    [("jac_loss_weight", -1.0), ("jac_loss_freq", 1.5), ("jac_loss_freq", float("nan"))],
)
def test_bad_penalty_options_are_named(option, value):
    with pytest.raises(ValueError, match=option):
        jdeq.DEQConfig(**{option: value})
