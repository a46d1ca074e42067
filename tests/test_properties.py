"""Random problems in every shape: what a solve says of itself is true, whatever it was given."""

import dataclasses
import functools
import itertools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import jdeq
from jdeq import Status
from jdeq._loop import REL_EPS
from jdeq.backward.registry import BACKWARDS
from jdeq.solvers.registry import SOLVERS

from .machine import compiles_float16

# One compilation per signature is what random cases cost; values, kinds of f and limits are traced.
STRUCTURES: dict[str, Any] = {  # of feature shapes
    "vector": (3,),
    "scalar": (),
    "matrix": (2, 3),
    "nothing": (0,),
    "dict": {"a": (3,), "b": ()},
    "tuple": [(2,), (2, 2)],
    "nested": {"u": [(3,), ()], "v": [{"w": (1, 2)}]},
    "partly empty": {"a": (0,), "b": (2,), "c": (2, 0)},
    "mixed": {"wide": (2,), "leaf": (3,)},  # "wide" is float32 whatever the dtype
}
DTYPES = (jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64)
BATCHES = ((2,), (), (3,), (2, 3), (0,), (1,), (3, 1), (2, 0))
REFUSALS = r"cannot be unrolled: use backward="  # pairs that `deq` says it does not do
VARIANTS = {  # of solvers, by what their options change
    "bad": ("broyden", {"update": "bad", "memory": 4}),
    "line search": ("broyden", {"line_search": True}),
    "type I": ("anderson", {"kind": 1}),
}
AFFINE, TANH, EXPANDING, BREAKS, CONSTANT = range(5)


@dataclasses.dataclass(frozen=True)
class Signature:
    """What is fixed when a solve is compiled."""

    structure: str
    dtype: Any
    batch: tuple[int, ...]
    solver: str
    backward: str
    tol: float | None
    stop_mode: str
    max_iter: int

    def like(self, leaf) -> Any:
        """A tree of this structure, of `leaf(shape, dtype)`."""
        shapes, treedef = jax.tree.flatten(
            STRUCTURES[self.structure], is_leaf=lambda s: isinstance(s, tuple)
        )
        dtypes = [self.dtype] * len(shapes)
        if self.structure == "mixed":  # dict keys are sorted: "leaf", "wide"
            dtypes[1] = jnp.float32
        pairs = zip(shapes, dtypes, strict=True)
        return jax.tree.unflatten(treedef, [leaf((*self.batch, *s), d) for s, d in pairs])


def signatures(count: int) -> tuple[Signature, ...]:
    """Every value of every field in turn, in shuffled combinations."""
    rng = np.random.default_rng(0)
    fields = (
        tuple(STRUCTURES),
        DTYPES,
        BATCHES,
        (*SOLVERS.entries, *VARIANTS),
        tuple(BACKWARDS.entries),
        (None, 1e-2, 1e-6),
        ("rel", "abs"),
        (6, 6, 6, 1, 0),
    )

    def turns(values):
        while True:
            yield from (values[i] for i in rng.permutation(len(values)))

    rows = zip(*map(turns, fields), strict=True)
    made = (Signature(*row) for row in itertools.islice(rows, count))
    readable = itertools.cycle(("broyden", "anderson", "line search", "type I"))  # by SHINE
    return tuple(
        dataclasses.replace(s, solver=next(readable)) if s.backward == "shine" else s for s in made
    )


SIGNATURES = tuple(s for s in signatures(72) if s.dtype != jnp.float16 or compiles_float16())


def equilibrium(xp, case, z, batch_dims: int, *, breaks: bool = True):
    """f, in float32 or better (NumPy: float64), rounded to the leaves' dtypes at the end."""
    leaves, treedef = jax.tree.flatten(z)
    narrow = xp is jnp and not any(a.dtype == jnp.float64 for a in leaves)
    wide = jnp.float32 if narrow else jnp.float64
    z = [a.astype(wide) for a in leaves]
    inputs = [a.astype(wide) for a in jax.tree.leaves(case["x"])]
    gain, radius = case["gain"].astype(wide), case["radius"].astype(wide)
    features = lambda a: tuple(range(batch_dims, a.ndim))
    size = max(1, sum(int(np.prod(a.shape[batch_dims:])) for a in z))
    mean = sum(a.sum(features(a)) for a in z) / size
    norm = xp.sqrt(sum((a * a).sum(features(a)) for a in z))

    def leaf(a, x):
        spread = lambda s: s.reshape(s.shape + (1,) * (a.ndim - batch_dims))
        kind = spread(case["kind"])
        u = spread(gain) * (0.5 * a + 0.3 * spread(mean)) + x
        out = xp.where(kind == TANH, xp.tanh(u), u)
        out = xp.where((kind == EXPANDING) | (kind == BREAKS), 3 * u, out)
        out = xp.where(kind == CONSTANT, x, out)
        if breaks:
            out = xp.where((kind == BREAKS) & spread(norm > radius), xp.nan, out)
        return out

    out = [leaf(a, x).astype(a0.dtype) for a, x, a0 in zip(z, inputs, leaves, strict=True)]
    return jax.tree.unflatten(treedef, out)


@functools.cache
def compiled(signature: Signature):
    """`(case, z0, limit) -> z, info, gradient with respect to the case's x`."""
    name, options = VARIANTS.get(signature.solver, (signature.solver, {}))
    common = {"max_iter": signature.max_iter, "tol": signature.tol}
    solver = SOLVERS.resolve(name, {**common, "stop_mode": signature.stop_mode, **options})

    @jax.jit
    def solve(case, z0, limit):
        def state(x):
            return jdeq.deq(
                lambda z: equilibrium(jnp, {**case, "x": x}, z, len(signature.batch)),
                z0,
                solver=solver,
                backward=signature.backward,
                batch_dims=len(signature.batch),
                max_iter=limit,
            )

        z, pull, info = jax.vjp(state, case["x"], has_aux=True)
        return z, info, pull(jax.tree.map(jnp.ones_like, z))[0]

    return solver, solve


@st.composite
def cases(draw, choices: tuple[Signature, ...]):
    """A signature, and a case of it: values by a seed, one kind of f for each sample."""
    signature = draw(st.sampled_from(choices))
    samples = int(np.prod(signature.batch))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1.0, 1e-2, 30.0, 0.0]))
    array = lambda shape, dtype: jnp.asarray(scale * rng.normal(size=shape), dtype)
    per_sample = lambda values: np.reshape(np.array(values), signature.batch)
    kinds = draw(st.lists(st.integers(0, 4), min_size=samples, max_size=samples))
    case = {
        "x": signature.like(array),
        "kind": per_sample(kinds).astype(np.int32),
        "gain": per_sample(rng.uniform(-1, 1, samples)).astype(np.float32),
        "radius": per_sample(rng.choice([0.0, 1.0, 5.0, 100.0], samples)).astype(np.float32),
    }
    return signature, case, signature.like(array), draw(st.integers(0, 6))


def norms(tree, batch_dims: int) -> np.ndarray:
    """2-norm of each sample, in float64."""
    leaves = [np.asarray(a, np.float64) for a in jax.tree.leaves(tree)]
    return np.sqrt(sum((a**2).sum(tuple(range(batch_dims, a.ndim))) for a in leaves))


def check(signature: Signature, case, z0, limit: int) -> None:
    solver, solve = compiled(signature)
    try:
        z, info, gradient = jax.device_get(solve(case, z0, jnp.asarray(limit, jnp.int32)))
    except (TypeError, ValueError) as error:
        assert re.search(REFUSALS, str(error)), error
        return
    batch, n = signature.batch, len(signature.batch)
    limit = min(limit, signature.max_iter)

    jax.tree.map(
        lambda a, b: np.testing.assert_equal((a.shape, a.dtype), (b.shape, b.dtype)), z, z0
    )
    for field in ("abs_residual", "rel_residual", "steps", "status"):
        assert getattr(info, field).shape == batch, field
    assert info.abs_trace.shape == info.rel_trace.shape == (*batch, signature.max_iter)
    assert np.all((info.steps >= 0) & (info.steps <= limit))
    assert info.nfe.shape == () and (info.nfe >= 1 or 0 in batch)

    # the state is finite; so are residuals, unless f(z0) was not or only the end was measured
    size = norms(z, n)
    assert np.all(np.isfinite(size))
    met = np.isfinite(info.abs_residual)
    starts_broken = (case["kind"] == BREAKS) & (norms(z0, n) > 0.999 * case["radius"])
    only_the_end = (
        signature.solver == "simple_fixed_point_iter"
        or (signature.solver == "neumann" and signature.tol is None)
        or (signature.backward == "phantom" and signature.max_iter == 0)
    )
    breaks_unmeasured = only_the_end & (case["kind"] == BREAKS)
    assert np.all(met | starts_broken | breaks_unmeasured)
    assert np.all(info.status[~met] == Status.NONFINITE)

    # what is reported is what float64 finds at the returned state
    as64 = lambda tree: jax.tree.map(lambda a: np.asarray(a, np.float64), tree)
    fz = equilibrium(np, {**case, "x": as64(case["x"])}, as64(z), n, breaks=False)
    absolute = norms(jax.tree.map(np.subtract, fz, as64(z)), n)
    f_size = norms(fz, n)
    eps = max(float(jnp.finfo(a.dtype).eps) for a in jax.tree.leaves(z0))
    rounding = 8 * eps * (f_size + size + norms(case["x"], n) + norms(z0, n)) + 1e-30
    assert np.all(np.abs(info.abs_residual - absolute)[met] <= rounding[met])
    below = np.maximum(f_size + REL_EPS * np.minimum(f_size, 1), np.finfo(np.float32).tiny)
    relative = absolute / below
    slack = rounding / below * (1 + relative)
    assert np.all(np.abs(info.rel_residual - relative)[met] <= slack[met])
    inside = norms(z, n) <= case["radius"] * (1 + eps)
    assert np.all((inside | (case["kind"] != BREAKS))[met])

    # statuses follow from residuals
    now = info.abs_residual if signature.stop_mode == "abs" else info.rel_residual
    tol = solver.tolerance(*jax.tree.leaves(z0))
    assert np.all((now < tol)[info.converged])
    doubted = met & (now < tol) & ~info.converged
    assert np.all(info.status[doubted] != Status.NONFINITE)
    if signature.dtype in (jnp.float32, jnp.float64):
        assert np.all((info.status != Status.NONFINITE) | np.isin(case["kind"], (2, 3)))
    if limit > 0:
        assert np.all((info.converged | (info.abs_residual <= rounding))[case["kind"] == CONSTANT])

    # the trace of a solve ends in its residual, which a sample that has stopped holds
    if signature.backward != "phantom" and signature.max_iter:
        for trace, value in (
            (info.abs_trace, info.abs_residual),
            (info.rel_trace, info.rel_residual),
        ):
            moved = met & (info.steps > 0)
            found = np.take_along_axis(trace, np.maximum(info.steps - 1, 0)[..., None], -1)[..., 0]
            np.testing.assert_array_equal(found[moved], value[moved])
            held = np.broadcast_to(value[..., None], trace[..., limit:].shape)
            np.testing.assert_array_equal(trace[..., limit:], held)

    # gradients of sound samples are finite
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.dtype, b.dtype), gradient, case["x"])
    assert np.all(np.isfinite(norms(gradient, n))[met])


COMMON = settings(
    deadline=None,
    derandomize=True,
    print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.slow
@given(cases(SIGNATURES[:8]))
@settings(COMMON, max_examples=100)
def test_what_a_solve_says_is_true(case):
    check(*case)


@pytest.mark.slow
@pytest.mark.exhaustive
@given(cases(SIGNATURES))
@settings(COMMON, max_examples=2000)
def test_what_a_solve_says_is_true_of_many_random_cases(case):
    check(*case)
