"""Mistakes in names and settings are told at once, by name, with what would be right."""

import jax.numpy as jnp
import numpy as np
import pytest

import jdeq

from .cases import cases, halve


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
        ({"tol": -1e-3}, ALL, ValueError, "tol must be >= 0, got -0.001"),
        ({"tol": float("nan")}, ALL, ValueError, "tol must be >= 0, got nan"),
        ({"tol": True}, ALL, TypeError, "tol must be a number, got True"),
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
        ({"unroll": 0}, [jdeq.PhantomGrad], ValueError, "unroll must be >= 1, got 0"),
        ({"steps": 1.0}, [jdeq.PhantomGrad], TypeError, "steps must be an int, got 1.0"),
        ({"solver": "gmress"}, [jdeq.IFT], ValueError, "unknown solver 'gmress'"),
        ({"tol": -1}, [jdeq.IFT], ValueError, "tol must be >= 0"),
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
        ({"max_iter": True}, TypeError, "max_iter must be an int, got True"),
        ({"max_iter": np.True_}, TypeError, "max_iter must be an int, got"),
        ({"max_iter": jnp.array(True)}, TypeError, "max_iter must be an int, got"),
        ({"max_iter": 3.0}, TypeError, "max_iter must be an int, got 3.0"),
    ],
)
def test_numbers_of_iterations(settings, error, message):
    layer = jdeq.nn.DEQ(lambda z, x: halve(z))
    for solve in (jdeq.deq, jdeq.get_deq(), lambda f, z0, **more: layer(z0, **more)):
        with pytest.raises(error, match=message):
            solve(halve, jnp.ones(2), **settings)


@pytest.mark.parametrize("three", [3, np.int64(3), np.array(3), jnp.array(3)], ids=type)
def test_numbers_of_iterations_of_any_kind(three):
    for solve in (jdeq.deq, jdeq.get_deq()):
        assert np.all(solve(halve, jnp.ones(2), max_iter=three)[1].steps == 3)


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
