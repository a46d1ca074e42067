"""Weight normalisation of every kind of kernel, against the formula in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jdeq

from ..nn.jaxprs import equations
from ..tolerances import rounding

RNGS = nnx.Rngs(0)
KINDS = {  # layer, and the axes that its norm sums over
    "Linear": (nnx.Linear(3, 4, rngs=RNGS), (0,)),
    "LinearGeneral": (nnx.LinearGeneral(3, (2, 4), rngs=RNGS), (0,)),
    "LinearGeneral, several axes in": (
        nnx.LinearGeneral((2, 3), 4, axis=(-2, -1), rngs=RNGS),
        (0, 1),
    ),
    "Einsum": (nnx.Einsum("abc,cde->abde", (3, 2, 4), rngs=RNGS), (0,)),
    "Conv 1D": (nnx.Conv(3, 4, kernel_size=(3,), rngs=RNGS), (0, 1)),
    "Conv 2D": (nnx.Conv(3, 4, kernel_size=(3, 3), rngs=RNGS), (0, 1, 2)),
    "Conv 3D": (nnx.Conv(3, 4, kernel_size=(2, 3, 3), rngs=RNGS), (0, 1, 2, 3)),
    "Conv, grouped": (nnx.Conv(4, 4, (3, 3), feature_group_count=2, rngs=RNGS), (0, 1, 2)),
    "ConvTranspose": (nnx.ConvTranspose(3, 4, kernel_size=(3, 3), rngs=RNGS), (0, 1, 2)),
    "ConvTranspose, transposed kernel": (
        nnx.ConvTranspose(3, 4, kernel_size=(3, 3), transpose_kernel=True, rngs=RNGS),
        (0, 1, 3),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_norm_per_output_channel(kind):
    layer, axes = KINDS[kind]
    v = np.asarray(layer.kernel[...], np.float64)
    norm = jdeq.nn.WeightNorm(layer, learn_scale=False, target_norm=0.7)
    got = np.asarray(norm.fold().kernel[...], np.float64)
    want = 0.7 * v / np.sqrt((v**2).sum(axes, keepdims=True))
    close = rounding(jnp.float32, terms=4 + np.prod([v.shape[i] for i in axes]))
    np.testing.assert_allclose(got, want, rtol=close, atol=1e-8)
    learned = jdeq.nn.WeightNorm(layer)  # starts as the same function
    np.testing.assert_allclose(learned.fold().kernel[...], v, rtol=close, atol=1e-8)
    (g,) = jax.tree.leaves(nnx.state(learned.scales, nnx.Param))
    np.testing.assert_allclose(np.asarray(g), np.sqrt((v**2).sum(axes, keepdims=True)), rtol=close)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.blocks = nnx.List([nnx.Linear(8, 8, rngs=rngs) for _ in range(2)])
        self.norm = nnx.LayerNorm(8, rngs=rngs)

    def __call__(self, x):
        x = self.norm(self.attention(x))
        for block in self.blocks:
            x = block(x)
        return x


def test_every_kernel_of_a_nested_module_is_covered():
    net = Net(nnx.Rngs(0))
    norm = jdeq.nn.WeightNorm(net)
    heads = {f"attention.{name}" for name in ("query", "key", "value", "out")}
    assert set(norm.paths) == heads | {"blocks.0", "blocks.1"}
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 8)), jnp.float32)
    close = rounding(x.dtype, terms=6 * (8 + 8), size=4)  # six layers, and their norms
    np.testing.assert_allclose(norm(x), net(x), rtol=0, atol=close)


@pytest.mark.parametrize(
    "filter_out, left",
    [
        ("attention", {"blocks.0", "blocks.1"}),
        (("attention", "blocks.1"), {"blocks.0"}),
        ([nnx.LinearGeneral], {"blocks.0", "blocks.1"}),
        (lambda path, module: path.endswith(".0") or "attention" in path, {"blocks.1"}),
    ],
)
def test_kernels_can_be_left_out(filter_out, left):
    assert set(jdeq.nn.WeightNorm(Net(nnx.Rngs(0)), filter_out=filter_out).paths) == left


def test_gradients_reach_direction_and_scale():
    linear = nnx.Linear(3, 4, use_bias=False, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    norm = jdeq.nn.WeightNorm(linear)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(5, 3)))
    v, g = linear.kernel[...], norm.scales["kernel"][...]
    grads = nnx.grad(lambda m: jnp.sum(jnp.tanh(m(x))))(norm)
    loss = lambda v, g: jnp.sum(jnp.tanh(x @ (g * v / jnp.sqrt(jnp.sum(v**2, 0, keepdims=True)))))
    want_v, want_g = jax.grad(loss, (0, 1))(v, g)
    np.testing.assert_allclose(grads["module"]["kernel"][...], want_v, atol=1e-12)
    np.testing.assert_allclose(grads["scales"]["kernel"][...], want_g, atol=1e-12)


def test_clip_bounds_the_factor():
    linear = nnx.Linear(2, 2, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    linear.kernel.set_value(jnp.array([[0.1, 10.0], [0.0, 0.0]]))
    norm = jdeq.nn.WeightNorm(linear, learn_scale=False, target_norm=2.0, clip=0.5)
    got = jnp.linalg.norm(norm.fold().kernel[...], axis=0)
    np.testing.assert_allclose(got, [0.05, 2.0])
    learned = jdeq.nn.WeightNorm(linear, clip=0.5)  # a factor of 1, but for the bound
    np.testing.assert_allclose(jnp.linalg.norm(learned.fold().kernel[...], axis=0), [0.05, 5.0])


def test_folding_leaves_the_wrapper_alone_and_gives_a_plain_module():
    norm = jdeq.nn.WeightNorm(Net(nnx.Rngs(0)), learn_scale=False)
    before = jax.tree.map(jnp.copy, nnx.state(norm))
    folded = norm.fold()
    assert type(folded) is Net and not any(
        isinstance(m, jdeq.nn.WeightNorm) for _, m in nnx.iter_modules(folded)
    )
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(norm))


def test_norms_are_computed_outside_the_loop():
    class Cell(nnx.Module):
        def __init__(self):
            self.linear = nnx.Linear(4, 4, rngs=nnx.Rngs(0))

        def __call__(self, z, x):
            return jnp.tanh(self.linear(z) + x)

    def roots(norm_type):
        """Where square roots are taken: in all, and in loops."""
        config = jdeq.DEQConfig(norm_type=norm_type, f_solver="simple_fixed_point_iter")
        graphdef, state = nnx.split(jdeq.nn.DEQ(Cell(), config))
        solve = lambda state, x: nnx.merge(graphdef, state)(x)[0]
        everywhere = list(equations(jax.make_jaxpr(solve)(state, jnp.ones((2, 4), jnp.float32))))
        loops = [eqn for eqn in everywhere if eqn.primitive.name == "while"]
        inside = [e for loop in loops for e in equations(loop.params["body_jaxpr"])]
        assert any(e.primitive.name == "tanh" for e in inside)
        return [sum(e.primitive.name == "sqrt" for e in eqns) for eqns in (everywhere, inside)]

    (everywhere, inside), (bare, bare_inside) = roots("weight_norm"), roots("none")
    assert everywhere > bare and inside == bare_inside


@pytest.mark.parametrize("options", [{"target_norm": 0}, {"clip": -1.0}])
def test_bad_options_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        jdeq.nn.WeightNorm(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), **options)


def test_a_module_without_kernels_is_refused():
    with pytest.raises(ValueError, match="no kernel"):
        jdeq.nn.WeightNorm(nnx.LayerNorm(3, rngs=nnx.Rngs(0)))
