"""Mistakes in f, z0 and batch_dims are told at once, by name, with what would be right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jdeq

from .cases import halve

TREE = {"a": jnp.ones((2, 3)), "b": (jnp.ones((2, 4)),)}


@pytest.mark.parametrize(
    "f, message",
    [
        (lambda z: z["a"], "structure of z0"),
        (lambda z: (z["a"], z["b"]), "structure of z0"),
        (lambda z: {**z, "c": z["a"]}, "structure of z0"),
        (lambda z: None, "structure of z0"),
        (lambda z: {**z, "a": z["a"].T}, r"z0\['a'\] of float64\[2, 3\] to float64\[3, 2\]"),
        (lambda z: {**z, "b": (z["b"][0][:1],)}, r"z0\['b'\]\[0\] .* to float64\[1, 4\]"),
        (lambda z: {**z, "a": z["a"].sum()}, r"z0\['a'\] of float64\[2, 3\] to float64\[\]"),
        (
            lambda z: {**z, "b": (z["b"][0].astype(jnp.float32),)},
            r"z0\['b'\]\[0\] of float64\[2, 4\] to float32\[2, 4\]",
        ),
        (lambda z: {**z, "a": z["a"] > 0}, r"z0\['a'\] of float64\[2, 3\] to bool"),
    ],
    ids=["leaf", "tuple", "more leaves", "nothing", "shape", "batch", "rank", "dtype", "bool"],
)
@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_f_must_return_what_it_gets(f, message, jit):
    solve = lambda z0: jdeq.deq(f, z0)
    with pytest.raises(TypeError, match=message):
        (jax.jit(solve) if jit else solve)(TREE)


@pytest.mark.parametrize(
    "z0, error, message",
    [
        ({"n": jnp.ones((2, 3), int)}, TypeError, r"z0\['n'\] must be floating, got int64\[2, 3\]"),
        ([jnp.ones(2), jnp.ones(2, bool)], TypeError, r"z0\[1\] must be floating, got bool"),
        (jnp.ones(2, complex), TypeError, "z0 must be floating, got complex128"),
        (np.array(["a"]), TypeError, "z0 must be"),
        ((jnp.ones(2), "a"), TypeError, r"z0\[1\] must be a floating array, got str"),
        ({"n": 3}, TypeError, r"z0\['n'\] must be"),
        (jax.random.split(jax.random.key(0), 2), TypeError, "z0 must be floating"),
        ({}, ValueError, "z0 holds no arrays"),
        (None, ValueError, "z0 holds no arrays"),
        ({"s": jnp.ones(())}, ValueError, r"z0\['s'\] has shape \(\).* batch_dims=0"),
        (
            {"a": jnp.ones((2, 3)), "b": jnp.ones((4, 3))},
            ValueError,
            r"z0\['b'\] has batch axes \(4,\), but z0\['a'\] has \(2,\)",
        ),
    ],
    ids=[
        "integers",
        "booleans",
        "complex",
        "strings",
        "string",
        "python int",
        "keys",
        "empty",
        "none",
        "too few axes",
        "batch axes",
    ],
)
def test_z0_must_be_floating_arrays_that_agree_on_the_batch(z0, error, message):
    with pytest.raises(error, match=message):
        jdeq.deq(halve, z0)


def test_two_batch_axes_must_agree():
    z0 = {"a": jnp.ones((2, 3, 1)), "b": jnp.ones((2, 4, 1))}
    with pytest.raises(ValueError, match=r"z0\['b'\] has batch axes \(2, 4\)"):
        jdeq.deq(halve, z0, batch_dims=2)


@pytest.mark.parametrize("batch_dims", [-1, 1.0, True, None])
def test_batch_dims_must_count_axes(batch_dims):
    with pytest.raises(ValueError, match=f"batch_dims must be an int >= 0, got {batch_dims}"):
        jdeq.deq(halve, jnp.ones(2), batch_dims=batch_dims)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: nnx.Dropout(0.5, rngs=nnx.Rngs(0)),
        lambda: nnx.BatchNorm(3, rngs=nnx.Rngs(0)),
    ],
    ids=["Dropout", "BatchNorm"],
)
@pytest.mark.parametrize("transform", [lambda f: f, nnx.jit, nnx.grad], ids=["", "jit", "grad"])
def test_a_module_that_writes_to_its_state_inside_f(make, transform):
    module = make()
    z0 = jnp.ones((2, 3), jnp.float32)
    solve = lambda module: jdeq.deq(lambda z: 0.5 * module(z), z0)[0].sum()
    with pytest.raises(TypeError, match="writes to the state of a Flax module.*before the solve"):
        transform(solve)(module)
    module.eval()
    transform(solve)(module)


@pytest.mark.parametrize("derive", [jax.jacfwd, jax.hessian])
def test_forward_mode_through_a_plain_implicit_gradient(derive):
    solve = lambda a: jdeq.deq(lambda z: 0.5 * z + a, jnp.zeros(()), batch_dims=0)[0]
    with pytest.raises(TypeError, match=r"IFT\(forward_mode=True\)"):
        derive(solve)(1.0)
