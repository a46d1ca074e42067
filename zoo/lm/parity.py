"""Does this language model compute what the PyTorch original computes, to the last digits?"""

import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

import jdeq
from zoo.lm.block import Context
from zoo.lm.memory import Memory
from zoo.lm.model import LanguageModel
from zoo.lm.parity_parts import (
    dropout_rows,
    folded_cell,
    function_rows,
    probed_jac_reg,
    vocabulary_rows,
)
from zoo.lm.reference import Reference
from zoo.lm.runs import Gradient, Run
from zoo.lm.torch_names import torch_names
from zoo.upstream.reference import BELOW_ANY_RESIDUAL, FLOAT32, FLOAT64, Arrays, Tolerances
from zoo.upstream.rows import Row, compare, compare_many
from zoo.upstream.transfer import export_arrays


class Segment(NamedTuple):
    """What a run makes of a segment: state (B, L, D), NLL (B, L), loss (), memory afterwards.

    `steps` (B,) of the solver; the Jacobian penalty (), unweighted, where a probe was given.
    """

    z: Array
    nll: Array
    loss: Array
    memory: Memory
    steps: Array
    penalty: Array


def check(folder: pathlib.Path) -> list[Row]:
    """Compares every quantity of a reference folder, computing in float64.

    The tolerances are those of float64, or of float32 if the reference was made in it.

    Raises:
        UserError: the folder, or a file, field or array in it, is missing, unknown or cannot be
            read.
    """
    reference = Reference.read(pathlib.Path(folder))
    double = reference.files["io"]["f_out"].dtype == np.float64
    tolerances = FLOAT64 if double else FLOAT32
    with jax.enable_x64(True):
        model = reference.model(jnp.float64)
        rows = function_rows(reference, model, tolerances.function)
        rows += dropout_rows(reference, model, tolerances.function)
        rows += vocabulary_rows(reference, model, tolerances.function)
        for run in reference.runs:
            rows += _run_rows(reference, run, tolerances)
    return rows


def _run_rows(reference: Reference, run: Run, tolerances: Tolerances) -> list[Row]:
    """Consecutive segments with their memory, and the gradients that are recorded of them."""
    model = reference.model(jnp.float64, **run.deq)
    model.train() if run.train else model.eval()
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    tolerance = tolerances.equilibrium if run.tight else tolerances.function

    def loss(params: nnx.State, memory: Memory, tokens: Array, targets: Array, weight, probe):
        merged = nnx.merge(graphdef, params, rest, copy=True)
        segment = _segment(merged, run, tokens, targets, memory, probe)
        return segment.loss + weight * segment.penalty, segment

    differentiated = jax.value_and_grad(loss, has_aux=True)
    step = jax.jit(differentiated if run.gradients else lambda *args: (loss(*args), None))
    io, rows = reference.files["io"], []
    batch = io["seg0_data"].shape[0]
    memory = Memory.empty(reference.config, batch, reference.config.mem_len, jnp.float64)
    for k in range(reference.n_segments):
        inputs = (params, memory, *reference.segment(k))
        (_, segment), grads = step(*inputs, 0.0, None)
        for gradient in run.gradients:
            if gradient.segment == k and gradient.jac_weight:
                probe = jnp.asarray(reference.sequence("jacreg_v"))
                (total, penalised), with_penalty = step(*inputs, gradient.jac_weight, probe)
                rows += [
                    compare("jacreg_jac_loss", penalised.penalty, io["jacreg_jac_loss"], tolerance),
                    compare("jacreg_total_loss", total, io["jacreg_total_loss"], tolerance),
                    _gradient_row(reference, gradient, with_penalty, tolerance),
                ]
            elif gradient.segment == k:
                rows.append(_gradient_row(reference, gradient, grads, tolerance))
        memory, name = segment.memory, f"{run.name}_seg{k}"
        kept = memory.z.shape[1] - int(memory.filled[0])
        got = {"z_out": segment.z, "mem_z": memory.z[:, kept:], "mem_u": memory.u[:, kept:]}
        rows += [
            compare(f"{name}_{key}", value, reference.sequence(f"{name}_{key}"), tolerance)
            for key, value in got.items()
        ]
        rows += [
            compare(f"{name}_nll", segment.nll, io[f"{name}_nll"], tolerance),
            compare(f"{name}_loss", segment.loss, io[f"{name}_loss"], tolerance),
        ]
    return rows + _last_segment_rows(reference, run, segment, tolerance)


def _last_segment_rows(
    reference: Reference, run: Run, segment: Segment, tolerance: float
) -> list[Row]:
    """What is recorded of the last segment alone."""
    io, rows = reference.files["io"], []
    steps, order = f"{run.name}_last_seg_nstep", "nll_in_upstream_order_last_seg"
    if steps in io:  # counted in evaluations of f
        rows.append(compare(steps, segment.steps + 1, io[steps], 0.0))
    if run is reference.main_run and order in io:
        _, targets = reference.segment(reference.n_segments - 1)
        cluster = np.searchsorted(reference.config.cutoffs, targets.ravel(), side="right")
        grouped = segment.nll.ravel()[np.argsort(cluster, kind="stable")]
        rows.append(compare(order, grouped.reshape(targets.shape), io[order], tolerance))
    return rows


def _segment(
    model: LanguageModel,
    run: Run,
    tokens: Array,
    targets: Array,
    memory: Memory,
    probe: Array | None,
) -> Segment:
    context = model.encode(tokens, memory)
    z, info = _solve(model, run, context)
    nlls = [model.vocabulary.nll(model.decode(s), targets) for s in info.states or (z,)]
    loss = model.equilibrium.correction(jnp.mean, nlls)
    penalty = jnp.zeros_like(loss)
    if probe is not None:
        penalty = probed_jac_reg(model.equilibrium.f(context), z, probe)
    return Segment(z, nlls[-1], loss, memory.extended(z, context.u), info.steps, penalty)


def _solve(model: LanguageModel, run: Run, context: Context) -> tuple[Array, jdeq.SolverInfo]:
    """The layer's own solve, or TorchDEQ's fixed point iteration where few steps are made.

    TorchDEQ hands back the image of the best state that it measured, and stops all samples when
    the worst one has converged; jdeq hands back the best state itself and stops each on its own.
    So one application of f follows upon one iteration less.
    """
    if run.solver_steps is None:
        return model.equilibrium(context)
    f = model.equilibrium.f(context)
    solver = jdeq.FixedPointIter(
        max_iter=run.solver_steps - 1, tol=BELOW_ANY_RESIDUAL, stop_mode="rel"
    )
    once = jdeq.PhantomGrad(1)
    z0 = folded_cell(model).initial_state(context)
    z, info = jdeq.deq(f, z0, solver=solver, backward=once)
    if run.tolerance:
        worst = jnp.max(info.rel_trace, axis=0)  # of z_1, z_2, ...
        stops = jnp.append(worst < run.tolerance, True)
        limit = jnp.minimum(jnp.argmax(stops) + 1, solver.max_iter)
        z, info = jdeq.deq(f, z0, solver=solver, backward=once, max_iter=limit)
    if not run.train:
        return z, info
    return jdeq.deq(
        f,
        jax.lax.stop_gradient(z),
        solver=jdeq.FixedPointIter(max_iter=0),
        backward=jdeq.PhantomGrad(run.deq["grad"], run.deq["tau"]),
    )


def _gradient_row(
    reference: Reference, gradient: Gradient, grads: nnx.State, tolerance: float
) -> Row:
    names = torch_names(reference.config)
    wanted, got = Arrays(gradient.path), export_arrays(grads, names)
    # PyTorch has no gradient, rather than one of zeros, for what a segment does not touch
    got = {name: value for name, value in got.items() if name in wanted or value.any()}
    want = wanted.like(got, names.ignores)
    title = f"gradients {gradient.path.stem.removeprefix('grads_')}"
    return compare_many(title, got, want, tolerance, common_scale=True)
