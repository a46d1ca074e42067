"""Mistakes are told at once, by name, with what would be right."""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jdeq
from jdeq.gradients.registry import BACKWARDS
from jdeq.solvers.registry import SOLVERS

halve = lambda z: jax.tree.map(lambda x: 0.5 * x, z)
TREE = {"a": jnp.ones((2, 3)), "b": (jnp.ones((2, 4)),)}


def cases(names, rows):
    """Parametrises by rows; the first column, a dict, is the id."""
    return pytest.mark.parametrize(names, rows, ids=[str(row[0]) for row in rows])


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


@cases(
    "settings, error, message",
    [
        ({"solver": "andersen"}, ValueError, "'andersen'.*mean 'anderson'.*'fixed_point_iter'"),
        ({"solver": "xyz"}, ValueError, "unknown solver 'xyz': use one of .*'broyden'"),
        ({"solver": jdeq.Broyden}, TypeError, "solver must be a name or a Solver object"),
        ({"solver": None}, TypeError, "solver must be a name or a Solver object, got None"),
        ({"backward": "iff"}, ValueError, "backward 'iff'.*did you mean 'ift'.*'phantom'"),
        ({"backward": jdeq.Broyden()}, TypeError, "backward must be a name or a Backward object"),
        ({"maxiter": 3}, TypeError, "no option 'maxiter'.*did you mean 'max_iter'.*tol"),
        ({"memory": 3}, TypeError, "'fixed_point_iter' has no option 'memory'.*it takes .*tau"),
        ({"solver": "broyden", "m": 3}, TypeError, "'broyden' has no option 'm'.*memory"),
        ({"solver": jdeq.Broyden(), "tol": 1e-3}, TypeError, "is an object: set tol there"),
        ({"solver": jdeq.Broyden(), "max_iter": 3}, TypeError, "is an object: set max_iter there"),
        ({"on_failure": "raise"}, ValueError, "on_failure must be 'ignore' or 'warn'"),
    ],
)
def test_names_and_options(settings, error, message):
    with pytest.raises(error, match=message):
        jdeq.deq(halve, jnp.ones(2), **settings)


ALL = [jdeq.FixedPointIter, jdeq.SimpleFixedPointIter, jdeq.Anderson, jdeq.Broyden]
DAMPED = [*ALL, jdeq.PhantomGrad]


@cases(
    "options, classes, error, message",
    [
        ({"tol": 0}, ALL, ValueError, "tol must be > 0, got 0"),
        ({"tol": -1e-3}, ALL, ValueError, "tol must be > 0"),
        ({"tol": float("nan")}, ALL, ValueError, "tol must be > 0, got nan"),
        ({"max_iter": -1}, ALL, ValueError, "max_iter must be >= 0, got -1"),
        ({"max_iter": 10.0}, ALL, TypeError, "max_iter must be an int, got 10.0"),
        ({"max_iter": True}, ALL, TypeError, "max_iter must be an int, got True"),
        ({"stop_mode": "relative"}, ALL, ValueError, "stop_mode must be 'rel' or 'abs'.*relative"),
        ({"tau": 0}, DAMPED, ValueError, r"tau must be in \(0, 2\], got 0"),
        ({"tau": -0.5}, DAMPED, ValueError, "tau must be in"),
        ({"tau": 2.5}, DAMPED, ValueError, "tau must be in"),
        ({"tau": float("nan")}, DAMPED, ValueError, "tau must be in .* got nan"),
        ({"m": 0}, [jdeq.Anderson], ValueError, "m must be >= 1, got 0"),
        ({"m": 2.0}, [jdeq.Anderson], TypeError, "m must be an int, got 2.0"),
        ({"lam": -1e-4}, [jdeq.Anderson], ValueError, "lam must be >= 0"),
        ({"lam": float("nan")}, [jdeq.Anderson], ValueError, "lam must be >= 0, got nan"),
        ({"lam_mode": "rel"}, [jdeq.Anderson], ValueError, "lam_mode must be 'relative' or"),
        ({"memory": 0}, [jdeq.Broyden], ValueError, "memory must be >= 1, got 0"),
        ({"memory": 2.5}, [jdeq.Broyden], TypeError, "memory must be an int, got 2.5"),
        ({"steps": 0}, [jdeq.PhantomGrad], ValueError, "steps must be >= 1, got 0"),
        ({"steps": 1.0}, [jdeq.PhantomGrad], TypeError, "steps must be an int, got 1.0"),
        ({"solver": "gmress"}, [jdeq.IFT], ValueError, "unknown solver 'gmress'"),
        ({"tol": 0}, [jdeq.IFT], ValueError, "tol must be > 0"),
        ({"max_iter": -1}, [jdeq.IFT], ValueError, "max_iter must be >= 0"),
        ({"solver": jdeq.Broyden(), "tol": 1e-3}, [jdeq.IFT], TypeError, "set tol there"),
        ({"phantom": 3}, [jdeq.IFT], TypeError, "phantom must be a jdeq.PhantomGrad, got 3"),
    ],
)
def test_settings_out_of_range(options, classes, error, message):
    for make in classes:
        with pytest.raises(error, match=message):
            make(**options)


@cases(
    "settings, error, message",
    [
        ({"max_iter": jnp.array(3.0)}, TypeError, "max_iter must be an int"),
        ({"max_iter": jnp.array([3, 4])}, ValueError, r"max_iter .*\(2,\)"),
        ({"max_iter": "3"}, TypeError, "max_iter must be an int, got '3'"),
    ],
)
def test_numbers_of_iterations(settings, error, message):
    with pytest.raises(error, match=message):
        jdeq.deq(halve, jnp.ones(2), **settings)


@cases(
    "sampling, error, message",
    [
        ({"indexing": [3, 2]}, ValueError, r"indexing must ascend, got \(3, 2\)"),
        ({"indexing": [2, 2]}, ValueError, "indexing must ascend"),
        ({"indexing": [0, 2]}, ValueError, "indexing must be >= 1, got 0"),
        ({"indexing": [1.5]}, TypeError, "indexing must be an int, got 1.5"),
        ({"indexing": [2, 11]}, ValueError, "iteration 11, beyond max_iter=10"),
        ({"n_states": 11}, ValueError, "n_states=11 needs max_iter >= 11, got 10"),
        ({"n_states": 0}, ValueError, "n_states must be >= 1, got 0"),
        ({"n_states": 2.0}, TypeError, "n_states must be an int, got 2.0"),
        ({"n_states": 2, "indexing": [3]}, ValueError, "n_states or indexing, not both"),
    ],
)
def test_samplings_that_cannot_be(sampling, error, message):
    with pytest.raises(error, match=message):
        jdeq.deq(halve, jnp.ones(2), max_iter=10, **sampling)


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


@pytest.mark.parametrize(
    "register, registry, name, factory",
    [
        (jdeq.register_solver, SOLVERS, "broyden", jdeq.Anderson),
        (jdeq.register_backward, BACKWARDS, "ift", jdeq.JFB),
    ],
    ids=["solver", "backward"],
)
def test_a_taken_name(register, registry, name, factory, monkeypatch):
    monkeypatch.setattr(registry, "entries", dict(registry.entries))
    with pytest.raises(ValueError, match=f"'{name}' is registered already.*overwrite=True"):
        register(name, factory)
    register(name, factory, overwrite=True)
    assert isinstance(registry.resolve(name, {}), factory)


def test_a_factory_that_makes_something_else(monkeypatch):
    monkeypatch.setattr(SOLVERS, "entries", dict(SOLVERS.entries))
    jdeq.register_solver("mine", lambda max_iter=3: max_iter)
    with pytest.raises(TypeError, match="'mine' made 3, not a Solver"):
        jdeq.deq(halve, jnp.ones(2), solver="mine")


@cases(
    "options, error, message",
    [
        ({"f_solver": "andersen"}, ValueError, "f_solver must be one of .*'anderson'"),
        ({"b_solver": "xyz"}, ValueError, "b_solver must be one of .*'broyden'.*got 'xyz'"),
        ({"f_stop_mode": "l2"}, ValueError, "f_stop_mode must be one of 'abs', 'rel'; got 'l2'"),
        ({"b_stop_mode": "l2"}, ValueError, "b_stop_mode must be one of"),
        ({"norm_type": "batch"}, ValueError, "norm_type must be one of .*'weight_norm'"),
        ({"f_max_iter": -1}, ValueError, "f_max_iter must be >= 0, got -1"),
        ({"f_max_iter": 3.0}, TypeError, "f_max_iter must be an int, got 3.0"),
        ({"b_max_iter": "9"}, TypeError, "b_max_iter must be an int, got '9'"),
        ({"eval_f_max_iter": -1}, ValueError, "eval_f_max_iter must be >= 0"),
        ({"grad": 0}, ValueError, "grad must be >= 1, got 0"),
        ({"n_states": 0}, ValueError, "n_states must be >= 1, got 0"),
        ({"f_tol": 0}, ValueError, "f_tol must be > 0, got 0"),
        ({"b_tol": -1}, ValueError, "b_tol must be > 0, got -1"),
        ({"eval_factor": 0}, ValueError, "eval_factor must be > 0"),
        ({"tau": 0}, ValueError, "tau must be"),
        ({"tau": 3}, ValueError, "tau must be"),
        ({"norm_target_norm": 0}, ValueError, "norm_target_norm must be > 0"),
        ({"norm_clip_value": -1}, ValueError, "norm_clip_value must be > 0"),
        ({"indexing": (5, 3)}, ValueError, "indexing must ascend"),
        ({"indexing": (3,), "f_max_iter": 2}, ValueError, "indexing .*beyond"),
        ({"n_states": 9, "f_max_iter": 2}, ValueError, "n_states=9"),
        ({"n_states": 2, "indexing": (3,)}, ValueError, "n_states or indexing"),
        ({"f_maxiter": 3}, TypeError, "f_maxiter"),
    ],
)
def test_configuration_names_the_option(options, error, message):
    with pytest.raises(error, match=message):
        jdeq.DEQConfig(**options)
    with pytest.raises(error, match=message):
        jdeq.DEQConfig.from_dict(options)


@pytest.mark.parametrize(
    "line, message",
    [("--f_max_iter x", "--f_max_iter: invalid int"), ("--f_maxiters 3", "unrecognized")],
)
def test_command_line_options(line, message, capsys):
    parser = jdeq.add_deq_args(argparse.ArgumentParser())
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(line.split())
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_layers():
    with pytest.raises(TypeError, match="weight_norm needs a cell that is an nnx.Module"):
        jdeq.nn.DEQ(halve, jdeq.DEQConfig(norm_type="weight_norm"))
    with pytest.raises(TypeError, match="start state is unknown: pass z0"):
        jdeq.nn.DEQ(lambda z, x: z)({"a": jnp.ones(2)})
    linear = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="target_norm must be > 0, got 0"):
        jdeq.nn.WeightNorm(linear, learn_scale=False, target_norm=0)
    with pytest.raises(ValueError, match="clip must be > 0, got -1"):
        jdeq.nn.WeightNorm(linear, clip=-1)
    with pytest.raises(ValueError, match="Linear has no kernel to normalise"):
        jdeq.nn.WeightNorm(linear, filter_out=nnx.Linear)


SOLVER_NAMES = ["fixed_point_iter", "simple_fixed_point_iter", "anderson", "broyden"]


@pytest.mark.parametrize("solver", SOLVER_NAMES)
def test_an_empty_batch_is_solved(solver):
    def total(a):
        z, info = jdeq.deq(lambda z: a * z, jnp.zeros((0, 3)), solver=solver, max_iter=5)
        return z.sum(), (z, info)

    slope, (z, info) = jax.jit(jax.grad(total, has_aux=True))(0.5)
    assert z.shape == (0, 3)
    assert info.status.shape == info.abs_residual.shape == info.steps.shape == (0,)
    assert info.abs_trace.shape == (0, 5)
    assert info.nfe == 0 and slope == 0
    assert repr(info) == "SolverInfo(<empty batch>)"


@pytest.mark.parametrize("solver", SOLVER_NAMES)
def test_no_iterations_measure_z0(solver):
    z, info = jdeq.deq(lambda z: 0.5 * z, jnp.full((2, 1), 4.0), solver=solver, max_iter=0)
    np.testing.assert_array_equal(z, [[4.0], [4.0]])
    np.testing.assert_allclose(info.abs_residual, 2)
    np.testing.assert_allclose(info.rel_residual, 1)
    np.testing.assert_array_equal(info.status, [jdeq.Status.MAX_ITER] * 2)
    assert info.nfe == 1 and info.abs_trace.shape == (2, 0)


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "uint8"])
def test_iterations_at_run_time_are_integers_of_any_width(dtype):
    solve = jax.jit(lambda limit: jdeq.deq(lambda z: 0.5 * z + 1, jnp.zeros(1), max_iter=limit))
    z, info = solve(jnp.array(3, dtype))
    np.testing.assert_array_equal(z, [1.75])
    np.testing.assert_array_equal(info.steps, [3])
