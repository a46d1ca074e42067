"""Does this MDEQ compute what the PyTorch original computes, to the last digits?"""

import functools
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

import jdeq
from zoo.mdeq.full_stage import FullStage, State
from zoo.mdeq.model import MDEQ
from zoo.mdeq.reference import Maps, Reference
from zoo.mdeq.torch_names import torch_names
from zoo.upstream.reference import BELOW_ANY_RESIDUAL, FLOAT32, FLOAT64, Tolerances
from zoo.upstream.rows import Row, compare, compare_many
from zoo.upstream.transfer import export_arrays

TIGHT = {
    "f_solver": "fixed_point_iter",
    "f_max_iter": 2000,
    "f_stop_mode": "rel",
    "b_solver": "fixed_point_iter",
    "b_max_iter": 2000,
    "b_stop_mode": "rel",
}


class Pass(NamedTuple):
    """One forward pass: injections, equilibrium, logits (B, n_classes) and mean loss ()."""

    u: State
    z: State
    logits: Array
    loss: Array


def check(folder: pathlib.Path) -> list[Row]:
    """Compares every quantity of a reference folder, computing in float64.

    The tolerances are those of float64, or of float32 if the reference was made in it.

    Raises:
        UserError: the folder, or a file or key in it, is missing or cannot be read.
    """
    reference = Reference.read(pathlib.Path(folder))
    io = reference.files["io"]
    tolerances = FLOAT64 if io["eval_logits"].dtype == np.float64 else FLOAT32
    with jax.enable_x64(True):
        rows = _function_rows(reference, tolerances.function)
        rows += _eval_rows(reference, tolerances)
        rows += _train_rows(reference, tolerances)
        rows += _phantom_rows(reference, tolerances)
        rows += _short_rows(reference, tolerances)
    return rows


def _function_rows(reference: Reference, tolerance: float) -> list[Row]:
    model, n = reference.model(jnp.float64), reference.config.n_branches
    io, names = reference.files["io"], torch_names(reference.config)
    model.eval()
    cell = _folded(model)
    kernels = export_arrays(nnx.state(cell, _is_kernel), names)
    kernels = {f"full_stage.{name}": value for name, value in kernels.items()}
    effective = reference.files["effective_weights"].like(kernels, names.ignores)
    z, u = (jax.tree.map(jnp.asarray, io.maps(name, n)) for name in ("f_z", "eval_u"))
    branch, out, logits = _run_function(model, cell, z, u)
    return [
        compare_many("effective weights", kernels, effective, tolerance),
        *_map_rows("f: branch", branch, io.maps("f_branch", n), tolerance),
        *_map_rows("f: output", out, io.maps("f_out", n), tolerance),
        compare("head logits at f_z", logits, io["head_logits_at_f_z"], tolerance),
    ]


@nnx.jit
def _run_function(model: MDEQ, cell: FullStage, z: State, u: State):
    return cell.branch_outputs(z, u), cell(z, u), model.decode(z)


def _eval_rows(reference: Reference, tolerances: Tolerances) -> list[Row]:
    model = reference.model(jnp.float64, **_tight(tolerances), ift=True)
    model.eval()
    io, n = reference.files["io"], reference.config.n_branches
    got = nnx.jit(_forward)(model, *_batch(io))
    return _pass_rows("eval", got, io, n, tolerances)


def _train_rows(reference: Reference, tolerances: Tolerances) -> list[Row]:
    model = reference.model(jnp.float64, **_tight(tolerances), ift=True)
    got, grads, statistics = _train_pass(model, reference)
    io, names = reference.files["io"], torch_names(reference.config)
    prefix = "bn_after_one_train_forward/"
    buffers = {k: v for k, v in io.under(prefix).items() if not names.ignores(k)}
    return [
        *_pass_rows("train", got, io, reference.config.n_branches, tolerances),
        compare_many(
            "BN buffers after one train forward", statistics, buffers, tolerances.equilibrium
        ),
        _gradient_row("IFT gradient", reference, "grads_ift", grads, tolerances),
    ]


def _phantom_rows(reference: Reference, tolerances: Tolerances) -> list[Row]:
    model = reference.model(jnp.float64, **_tight(tolerances), ift=False, **reference.phantom)
    got, grads, _ = _train_pass(model, reference)
    io, tolerance = reference.files["io"], tolerances.equilibrium
    return [
        compare("phantom logits", got.logits, io["phantom_logits"], tolerance),
        compare("phantom loss", got.loss, io["phantom_loss"], tolerance),
        _gradient_row("phantom gradient", reference, "grads_phantom", grads, tolerances),
    ]


def _short_rows(reference: Reference, tolerances: Tolerances) -> list[Row]:
    options = TIGHT | {"f_max_iter": 6, "f_tol": BELOW_ANY_RESIDUAL}
    model = reference.model(jnp.float64, **options, ift=False, **reference.phantom)
    model.train()
    io, n = reference.files["io"], reference.config.n_branches
    got = nnx.jit(_forward)(model, *_batch(io))
    tolerance = tolerances.equilibrium
    return [
        *_map_rows("6 plain steps + phantom: z", got.z, io.maps("short6_z_out", n), tolerance),
        compare("6 plain steps + phantom: logits", got.logits, io["short6_logits"], tolerance),
        compare("6 plain steps + phantom: loss", got.loss, io["short6_loss"], tolerance),
    ]


def _forward(model: MDEQ, x: Array, y: Array) -> Pass:
    u = model.encode(x)
    z, _ = model.full_stage(u)
    logits = model.decode(z)
    loss = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))
    return Pass(u, z, logits, loss)


def _train_pass(model: MDEQ, reference: Reference):
    """Forward and backward in train mode; gradients and statistics under PyTorch's names."""
    model.train()
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    @functools.partial(jax.grad, has_aux=True)
    def gradient(params: nnx.State, rest: nnx.State, x: Array, y: Array):
        merged = nnx.merge(graphdef, params, rest, copy=True)
        out = _forward(merged, x, y)
        return out.loss, (out, nnx.state(merged, nnx.BatchStat))

    grads, (out, statistics) = jax.jit(gradient)(params, rest, *_batch(reference.files["io"]))
    names = torch_names(reference.config)
    return out, export_arrays(grads, names), export_arrays(statistics, names)


def _gradient_row(
    quantity: str,
    reference: Reference,
    file: str,
    grads: dict[str, np.ndarray],
    tolerances: Tolerances,
) -> Row:
    names = torch_names(reference.config)
    wanted = reference.files[file].like(grads, names.ignores)
    return compare_many(quantity, grads, wanted, tolerances.equilibrium, common_scale=True)


def _pass_rows(mode: str, got: Pass, io: Maps, n: int, tolerances: Tolerances) -> list[Row]:
    function, solved, _ = tolerances
    return [
        *_map_rows(f"{mode} injection", got.u, io.maps(f"{mode}_u", n), function),
        *_map_rows(f"{mode} z*", got.z, io.maps(f"{mode}_z_star", n), solved),
        compare(f"{mode} logits", got.logits, io[f"{mode}_logits"], solved),
        compare(f"{mode} loss", got.loss, io[f"{mode}_loss"], solved),
    ]


def _map_rows(label: str, got: State, want: tuple, tolerance: float) -> list[Row]:
    return [
        compare(f"{label} [{i}]", a, b, tolerance)
        for i, (a, b) in enumerate(zip(got, want, strict=True))
    ]


def _tight(tolerances: Tolerances) -> dict:
    return TIGHT | {"f_tol": tolerances.solve, "b_tol": tolerances.solve}


def _batch(io: Maps) -> tuple[Array, Array]:
    return jnp.asarray(io["x"].transpose(0, 2, 3, 1), jnp.float64), jnp.asarray(io["y"])


def _folded(model: MDEQ) -> FullStage:
    """The equilibrium function with its normalised kernels."""
    cell = model.full_stage.cell
    folded = cell.fold() if isinstance(cell, jdeq.nn.KernelNorm) else cell
    assert isinstance(folded, FullStage)
    return folded


def _is_kernel(path, value) -> bool:
    return isinstance(value, nnx.Param) and path[-1] == "kernel"
