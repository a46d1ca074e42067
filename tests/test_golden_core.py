"""Solvers, gradients and weight normalisation, against numbers that TorchDEQ 0.1.0 made.

Where the conventions differ, the translation is spelled out here: TorchDEQ numbers its steps by
the calls of f, so fixed point iteration and Anderson measure our z_k in step k + 1 and hand back
the image of z_k; Broyden measures z_k in step k and hands back z_k.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jdeq

from .golden import fields, load

pytestmark = pytest.mark.slow


class Method(NamedTuple):
    solver: Any
    ahead: int  # their step that measures z_k is k + ahead
    column: int  # column j of their trace belongs to z_(j + column)


absolute = functools.partial(jdeq.Anderson, m=6, lam_mode="absolute")
METHODS = {
    "fp": Method(jdeq.FixedPointIter(), 1, -1),
    "fp_damped": Method(jdeq.FixedPointIter(tau=0.7), 1, -1),
    "anderson": Method(absolute(lam=1e-4), 1, 1),
    "anderson_damped": Method(absolute(lam=1e-4, tau=0.8), 1, 1),
    "anderson_lam0": Method(absolute(lam=0.0), 1, 1),
    "broyden": Method(jdeq.Broyden(), 0, 0),
}


class Problem(NamedTuple):
    f: Callable  # f(params, z)
    params: dict
    z0: Any
    newton: Any  # flat, where there is one
    golden: dict


def network(p, z):
    return jnp.tanh(z @ p["W"].T + p["x"] @ p["U"].T + p["b"][None])


def coupled(p, z):
    z1, z2 = z
    z1_next = jnp.tanh(z1 @ p["A"].T + z2.mean(1) @ p["C"].T + p["x1"])
    return z1_next, jnp.tanh(z2 @ p["M"].T + (z1 @ p["E"].T).reshape(z2.shape) + p["x2"])


def with_gain(p, z):
    return jnp.tanh(p["gain"] * (z @ p["W"].T) + p["x"])


def problem(name):
    golden, _ = load(name)
    if "multi" in name:
        z0 = golden["z1_0"], golden["z2_0"]
        return Problem(
            coupled, pick(golden, "A C M E x1 x2"), z0, golden["zstar_newton_flat"], golden
        )
    f, names = (with_gain, "W gain x") if "gain" in golden else (network, "W U b x")
    return Problem(f, pick(golden, names), golden["z0"], golden.get("zstar_newton"), golden)


def pick(golden, names):
    return {k: golden[k] for k in names.split()}


def flat(z):
    return np.concatenate([np.reshape(x, (x.shape[0], -1)) for x in jax.tree.leaves(z)], -1)


PROBLEMS = {
    name: problem(name)
    for name in (
        *("solver_single_a", "solver_single_b", "solver_multi", "solver_batch_coupling"),
        *("grad_ift_single", "grad_ift_multi", "grad_phantom", "grad_states"),
    )
}
PLAIN = ("fp", "anderson", "broyden")
RUNS = [
    (name, method)
    for name in ("solver_single_a", "solver_single_b", "solver_multi")
    for method in (PLAIN if name == "solver_multi" else METHODS)
]
RUNS_BY_MODE = [(*run, "abs") for run in RUNS] + [
    (name, method, "rel") for name, method in RUNS if method in PLAIN and name != "solver_multi"
]
runs = pytest.mark.parametrize("name, method", RUNS)
runs_by_mode = pytest.mark.parametrize("name, method, mode", RUNS_BY_MODE)
modes = pytest.mark.parametrize("mode", ["abs", "rel"])


@functools.partial(jax.jit, static_argnames=("f", "solver", "indexing"))
def solve(f, params, z0, limit, *, solver, indexing):
    """At most `limit` iterations; the states come as they are, JFB leaves values alone."""
    return jdeq.deq(
        functools.partial(f, params),
        z0,
        solver=solver,
        backward="jfb",
        indexing=indexing,
        max_iter=limit,
    )


def run(name, method, limit, indexing=(1, 4, 7), **settings):
    p = PROBLEMS[name]
    solver = dataclasses.replace(METHODS[method].solver, **settings)
    return solve(p.f, p.params, p.z0, jnp.array(limit), solver=solver, indexing=indexing)


def as_theirs(name, method, z):
    """What TorchDEQ hands back where we hand back z."""
    p, tau = PROBLEMS[name], METHODS[method].solver.tau
    if method.startswith("broyden"):
        return flat(z)
    fz = flat(p.f(p.params, z))
    return fz if method.startswith("anderson") else (1 - tau) * flat(z) + tau * fz


def factor(method):
    """TorchDEQ measures |z_(k+1) - z_k| in damped fixed point iteration, we |f(z_k) - z_k|."""
    return 0.7 if method == "fp_damped" else 1.0


@functools.cache
def nine_iterations(name, method):
    """z_0 ... z_9 and what was measured, without looking for the best."""
    z, info = run(name, method, 9, tuple(range(1, 10)), tol=1e-14, max_iter=25, return_final=True)
    return [PROBLEMS[name].z0, *info.states[:-1]], z, info


@runs
def test_f_is_called_at_the_same_points(name, method):
    iterates, _, _ = nine_iterations(name, method)
    want = PROBLEMS[name].golden[f"{method}__capped__abs__f_inputs"]
    got = np.stack([flat(z) for z in iterates])[: len(want)]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-11)


@runs
def test_residuals_along_the_way(name, method):
    _, _, info = nine_iterations(name, method)
    want = fields(PROBLEMS[name].golden, f"{method}__capped_final__abs")
    column = METHODS[method].column
    for key, scale in {"abs_trace": factor(method), "rel_trace": 1}.items():
        if key == "rel_trace" and method == "fp_damped":
            continue  # theirs divides by the damped image
        theirs = want[key][:, max(1, 1 - column) :]  # what comes before measures z_0, or nothing
        first = max(1, 1 + column)
        ours = getattr(info, key)[:, first - 1 : first - 1 + theirs.shape[1]]
        np.testing.assert_allclose(scale * ours, theirs, rtol=0, atol=1e-11)


@runs
def test_the_last_state_when_asked_for(name, method):
    iterates, _, _ = nine_iterations(name, method)
    last = iterates[9 - METHODS[method].ahead]
    want = PROBLEMS[name].golden[f"{method}__capped_final__abs__z"]
    np.testing.assert_allclose(as_theirs(name, method, last), want, rtol=0, atol=1e-11)


@runs_by_mode
def test_the_best_state_when_the_cap_ends_a_solve(name, method, mode):
    ahead = METHODS[method].ahead
    z, info = run(name, method, 9 - ahead, tol=1e-12, max_iter=400, stop_mode=mode)
    want = fields(PROBLEMS[name].golden, f"{method}__capped__{mode}")
    np.testing.assert_allclose(as_theirs(name, method, z), want["z"], rtol=0, atol=1e-11)
    np.testing.assert_array_equal(info.steps + ahead, want["nstep"])
    np.testing.assert_allclose(
        factor(method) * info.abs_residual, want["abs_lowest"], rtol=0, atol=1e-11
    )
    states = [as_theirs(name, method, s) for s in info.states[:-1]]
    theirs = want["states"]  # at their steps 2, 5, 8; Anderson's have none before step 3
    np.testing.assert_allclose(states[-len(theirs) :], theirs, rtol=0, atol=1e-11)
    assert not info.converged.any()


LONG = "{1}__capped_long__{2}__z"


@pytest.mark.parametrize(
    "name, method, mode",
    [run for run in RUNS_BY_MODE if LONG.format(*run) in PROBLEMS[run[0]].golden],
)
def test_the_best_state_after_25_steps(name, method, mode):
    limit = 25 - METHODS[method].ahead
    z, _ = run(name, method, limit, tol=1e-12, max_iter=400, stop_mode=mode)
    want = PROBLEMS[name].golden[LONG.format(name, method, mode)]
    np.testing.assert_allclose(as_theirs(name, method, z), want, rtol=0, atol=1e-11)


@runs_by_mode
def test_the_solution_is_newtons(name, method, mode):
    z, info = run(name, method, 400, tol=1e-12, max_iter=400, stop_mode=mode)
    np.testing.assert_allclose(flat(z), PROBLEMS[name].newton, rtol=0, atol=1e-9)
    assert info.converged.all()


@pytest.mark.parametrize("name", ["solver_single_a", "solver_single_b", "solver_multi"])
def test_limited_memory_broyden_reaches_newtons_solution(name):
    z, info = run(name, "broyden", 400, tol=1e-12, max_iter=400, memory=5)
    np.testing.assert_allclose(flat(z), PROBLEMS[name].newton, rtol=0, atol=1e-9)
    assert info.converged.all()


@pytest.mark.parametrize("name", ["solver_single_a", "solver_single_b"])
@pytest.mark.parametrize("method", PLAIN)
def test_a_loose_tolerance_stops_the_slowest_sample_where_torchdeq_stops(name, method):
    z, info = run(name, method, 30, tol=1e-3, max_iter=30, stop_mode="abs")
    want = fields(PROBLEMS[name].golden, f"{method}__loose__abs")
    slowest = np.asarray(info.steps == info.steps.max())
    theirs = want["nstep"][slowest]
    np.testing.assert_array_equal(info.steps[slowest] + METHODS[method].ahead, theirs)
    got = as_theirs(name, method, z)[slowest]
    np.testing.assert_allclose(got, want["z"][slowest], rtol=0, atol=1e-11)


@pytest.mark.parametrize("method", PLAIN)
@modes
def test_a_batch_gives_what_torchdeq_gives_sample_by_sample(method, mode):
    name = "solver_batch_coupling"
    z, info = run(name, method, 200, tol=1e-4, max_iter=200, stop_mode=mode)
    want = fields(PROBLEMS[name].golden, f"{method}__single__{mode}")
    np.testing.assert_array_equal(info.steps + METHODS[method].ahead, want["nstep"])
    np.testing.assert_allclose(as_theirs(name, method, z), want["z"], rtol=0, atol=1e-10)


SOLVERS = {
    "fixed_point_iter": jdeq.FixedPointIter(max_iter=500, tol=1e-12),
    "simple_fixed_point_iter": jdeq.SimpleFixedPointIter(max_iter=400),
    "anderson": jdeq.Anderson(max_iter=200, tol=1e-12),
    "broyden": jdeq.Broyden(max_iter=60, tol=1e-12),
}


def weighted_squares(golden):
    """The loss of all gradient files: sum(z^2 c), over the leaves of z."""
    weights = [golden["c"]] if "c" in golden else [golden["c1"], golden["c2"]]
    return lambda z: sum(
        jnp.sum(x**2 * c) for x, c in zip(jax.tree.leaves(z), weights, strict=True)
    )


@functools.cache
def gradient(name, **settings):
    """(params, z0) -> (loss over the states asked for, (z, info)), gradients; compiled once."""
    p = PROBLEMS[name]
    loss = weighted_squares(p.golden)

    def total(params, z0):
        z, info = jdeq.deq(functools.partial(p.f, params), z0, **settings)
        return sum(map(loss, info.states or (z,))), (z, info)

    return jax.jit(jax.value_and_grad(total, has_aux=True))


def check_gradients(got, want, atol):
    for k, g in got.items():
        np.testing.assert_allclose(g, want["g" + k], rtol=0, atol=atol, err_msg=k)


@functools.cache
def solution(solver):
    p = PROBLEMS["grad_ift_single"]
    return jax.jit(lambda: jdeq.deq(functools.partial(p.f, p.params), p.z0, solver=solver)[0])()


@pytest.mark.parametrize("backward", SOLVERS)
@pytest.mark.parametrize("forward", SOLVERS)
def test_implicit_gradient(forward, backward):
    """The forward solver enters by its solution only: each gradient is compiled once, there."""
    p = PROBLEMS["grad_ift_single"]
    here = jdeq.FixedPointIter(max_iter=0)
    run = gradient("grad_ift_single", solver=here, backward=jdeq.IFT(SOLVERS[backward]))
    (loss, (z, _)), grads = run(p.params, solution(SOLVERS[forward]))
    want = fields(p.golden, "exact")
    np.testing.assert_allclose(z, p.newton, rtol=0, atol=1e-9)
    np.testing.assert_allclose(loss, want["loss"], rtol=0, atol=1e-9)
    check_gradients(grads, want, atol=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
def test_implicit_gradient_of_two_coupled_states(solver):
    p = PROBLEMS["grad_ift_multi"]
    run = gradient("grad_ift_multi", solver=SOLVERS[solver], backward=jdeq.IFT(SOLVERS[solver]))
    (_, (z, _)), grads = run(p.params, p.z0)
    np.testing.assert_allclose(flat(z), p.newton, rtol=0, atol=1e-9)
    check_gradients(grads, fields(p.golden, "exact"), atol=1e-9)


@pytest.mark.parametrize("tau", [1.0, 0.5])
@pytest.mark.parametrize("steps", [1, 3, 5])
def test_phantom_gradient(steps, tau):
    p = PROBLEMS["grad_phantom"]
    solver = jdeq.FixedPointIter(max_iter=500, tol=1e-13, stop_mode="abs")
    run = gradient("grad_phantom", solver=solver, backward=jdeq.PhantomGrad(steps, tau))
    (loss, (z, _)), grads = run(p.params, p.z0)
    want = fields(p.golden, f"phantom_k{steps}_tau{tau}")
    np.testing.assert_allclose(z, want["z"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(loss, want["loss"], rtol=0, atol=1e-9)
    check_gradients(grads, want, atol=1e-9)


@pytest.mark.parametrize("core", ["sliced", "indexing"])
def test_twelve_steps_of_backpropagation_through_time(core):
    p = PROBLEMS["grad_phantom"]
    solver = jdeq.FixedPointIter(max_iter=0)
    run = gradient("grad_phantom", solver=solver, backward=jdeq.PhantomGrad(12, 1.0))
    (loss, _), grads = run(p.params, p.z0)
    want = fields(p.golden, f"bptt12_{core}")
    np.testing.assert_allclose(loss, want["loss"], rtol=0, atol=1e-11)
    check_gradients(grads, want, atol=1e-11)


SAMPLINGS = {"nstates": {"n_states": 3}, "indexing": {"indexing": (3, 6)}}
TEN = jdeq.FixedPointIter(max_iter=10, tol=1e-14)


@pytest.mark.parametrize("kind", SAMPLINGS)
def test_sampled_states_with_phantom_gradients(kind):
    p = PROBLEMS["grad_states"]
    run = gradient("grad_states", solver=TEN, backward=jdeq.PhantomGrad(1), **SAMPLINGS[kind])
    (loss, (_, info)), grads = run(p.params, p.z0)
    want = fields(p.golden, f"indexing__fixed_point_iter__{kind}__full__pg1")
    np.testing.assert_allclose(np.stack(info.states), want["states"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(loss, want["loss"], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(info.steps, want["nstep"])
    check_gradients(grads, want, atol=1e-9)


def pull(p, z, cotangent):
    """(df/dparams)^T cotangent at z, in numpy."""
    pre = cotangent * (1 - np.asarray(network(p, z)) ** 2)
    return {"W": pre.T @ z, "U": pre.T @ p["x"], "b": pre.sum(0), "x": pre @ p["U"]}


@pytest.mark.parametrize("kind", SAMPLINGS)
def test_sampled_states_with_an_implicit_gradient_for_the_last(kind):
    """TorchDEQ takes the last state's derivatives at two points, z and f(z); we at z alone."""
    p = PROBLEMS["grad_states"]
    backward = jdeq.IFT(SOLVERS["fixed_point_iter"])
    run = gradient("grad_states", solver=TEN, backward=backward, **SAMPLINGS[kind])
    (_, (z, info)), grads = run(p.params, p.z0)
    want = fields(p.golden, f"indexing__fixed_point_iter__{kind}__full__ift")
    np.testing.assert_allclose(np.stack(info.states[:-1]), want["states"][:-1], rtol=0, atol=1e-9)

    z, c, w = np.asarray(z), p.golden["c"], p.params["W"]
    slope = 1 - np.asarray(network(p.params, z)) ** 2
    jacobians = slope[:, :, None] * w
    adjoint = np.linalg.solve(np.eye(16) - jacobians.transpose(0, 2, 1), (2 * c * z)[..., None])
    terms = [pull(p.params, z, adjoint[..., 0])]
    picked = {"nstates": (4, 7), "indexing": (3, 6)}[kind]
    before = np.asarray(p.z0)
    for k in range(1, 8):
        before = np.asarray(network(p.params, before))
        if k in picked:
            terms.append(pull(p.params, before, 2 * c * np.asarray(network(p.params, before))))
    check_gradients(grads, {"g" + k: sum(t[k] for t in terms) for k in grads}, atol=1e-9)


SLICES = {"nstates": {"n_states": 3, "f_max_iter": 9}, "indexing": SAMPLINGS["indexing"]}


@pytest.mark.parametrize("kind", SLICES)
def test_a_solve_in_slices(kind):
    """TorchDEQ drops the last of 10 iterations that 3 slices do not share: asked for 9 of us."""
    p = PROBLEMS["grad_states"]
    options = {"core": "sliced", "f_tol": 1e-14, "f_max_iter": 10} | SLICES[kind]
    layer, loss = jdeq.get_deq(options), weighted_squares(p.golden)

    def total(params, z0):
        z, info = layer(functools.partial(p.f, params), z0)
        return sum(map(loss, info.states)), (z, info)

    (value, (z, info)), grads = jax.jit(jax.value_and_grad(total, has_aux=True))(p.params, p.z0)
    want = fields(p.golden, f"sliced__fixed_point_iter__{kind}__full__pg1")
    np.testing.assert_allclose(np.stack(info.states), want["states"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(value, want["loss"], rtol=0, atol=1e-9)
    check_gradients(grads, want, atol=1e-9)
    np.testing.assert_array_equal(info.states[-1], z)
    assert info.abs_trace.shape == (4, layer.config.f_max_iter)
    np.testing.assert_array_equal(info.steps, layer.config.f_max_iter)
    assert info.nfe == layer.config.f_max_iter + 3


MODULES = {  # how to make it, and where the axes of PyTorch's weight go
    "linear": (lambda: nnx.Linear(7, 5, param_dtype=jnp.float64, rngs=nnx.Rngs(0)), (1, 0)),
    "conv2d": (
        lambda: nnx.Conv(3, 4, (3, 3), param_dtype=jnp.float64, rngs=nnx.Rngs(0)),
        (2, 3, 1, 0),
    ),
    "convtranspose2d": (
        lambda: nnx.ConvTranspose(3, 4, (3, 3), param_dtype=jnp.float64, rngs=nnx.Rngs(0)),
        (2, 3, 0, 1),
    ),
}
WEIGHTS, WEIGHT_CASES = load("weight_norm")


@pytest.mark.parametrize("case", WEIGHT_CASES, ids=lambda case: case["prefix"])
def test_weight_norm(case):
    make, axes = MODULES[case["module"]]
    want = {k: v.transpose(axes) for k, v in fields(WEIGHTS, case["prefix"]).items()}
    module = make()
    module.kernel.set_value(jnp.asarray(want["w"]))
    norm = jdeq.nn.WeightNorm(
        module,
        learn_scale=case["learn_scale"],
        target_norm=1.0 if case["learn_scale"] else case["target_norm"],
        clip=case["clip_value"] if case["clip"] else None,
    )
    if case["learn_scale"]:
        (scale,) = norm.scales.values()
        np.testing.assert_allclose(scale[...], want["g_init"], rtol=0, atol=1e-12)
        scale.set_value(jnp.asarray(want["g"]))
    np.testing.assert_allclose(norm.fold().kernel[...], want["w_eff"], rtol=0, atol=1e-12)

    cotangent = jnp.asarray(want["cotangent"])
    grads = nnx.grad(lambda norm: jnp.sum(norm.fold().kernel[...] * cotangent))(norm)
    np.testing.assert_allclose(grads["module"]["kernel"][...], want["grad_w"], rtol=0, atol=1e-12)
    if case["learn_scale"]:
        (grad_g,) = jax.tree.leaves(grads["scales"])
        np.testing.assert_allclose(grad_g, want["grad_g"], rtol=0, atol=1e-12)


SUPERVISED = {  # how to ask for them, and which of our states TorchDEQ returns
    "gap_even": (jdeq.PhantomGrad(6, sup_gap=2), (0, 1, 2)),
    "gap_ragged": (jdeq.PhantomGrad(5, sup_gap=2), (0, 1)),  # theirs leave out the last
    "loc": (jdeq.PhantomGrad(5, sup_loc=(2, 4)), (0, 1, 2)),
    "loc_with_last": (jdeq.PhantomGrad(5, sup_loc=(2, 5)), (0, 1, 1)),  # theirs repeat it
}


@pytest.mark.parametrize("tau", [1.0, 0.5])
@pytest.mark.parametrize("name", SUPERVISED)
def test_states_between_phantom_steps(name, tau):
    p = PROBLEMS["grad_phantom"]
    backward, theirs = SUPERVISED[name]
    solver = jdeq.SimpleFixedPointIter(max_iter=2)

    @functools.partial(jax.jit, static_argnums=1)
    def run(params, backward):
        z, info = jdeq.deq(functools.partial(p.f, params), p.z0, solver=solver, backward=backward)
        states = [info.states[i] for i in theirs]
        return sum(map(weighted_squares(p.golden), states)), (z, info.states)

    backward = dataclasses.replace(backward, tau=tau)
    (_, (z, states)), grads = jax.value_and_grad(run, has_aux=True)(p.params, backward)
    want = fields(p.golden, f"{name}_tau{tau}")
    np.testing.assert_array_equal(states[-1], z)
    got = np.stack([states[i] for i in theirs])
    np.testing.assert_allclose(got, want["states"], rtol=0, atol=1e-11)
    check_gradients(grads, want, atol=1e-11)
