"""What the original computes of a graph, and this model again, to the last digits."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from zoo.ignn.graph import Graph
from zoo.ignn.layer import RHO_EPS
from zoo.ignn.losses import losses, masked_mean
from zoo.ignn.model import IGNN
from zoo.ignn.optimizer import IGNNTrainConfig, adam
from zoo.ignn.radius import spectral_radius
from zoo.ignn.recorded import Comparison, Inputs
from zoo.ignn.trained import TRAINED
from zoo.upstream.reference import Reference
from zoo.upstream.rows import Row, verdict
from zoo.upstream.torchdeq import solved_by
from zoo.upstream.transfer import export_arrays

RADIUS = 1e-7  # absolute: the original's eigen-solver starts at random
TIGHT = 1e-13  # relative residual
AT_REST = 1e-13  # about what rounding leaves of one
AFTER = "train_after_forward/state/"
ADAM_STEPS = 3
SAID = ("nstep", "at_rest")  # by the solver, of each channel


def quantities(reference: Reference) -> Iterator[Row]:
    """Evaluation, then training passes by three kinds of gradients, then steps of Adam."""
    compared = Comparison(reference)
    evaluated, inputs = (Inputs.read(reference, f"input/adj_{of}") for of in ("test", "train"))
    yield _radius_row(reference, evaluated)
    yield from _evaluation_rows(compared, evaluated)
    phantom = {"ift": False, "grad": reference.deq["grad"], "tau": reference.deq["tau"]}
    yield from _training_rows(compared, "train_pg", inputs, _TIGHTLY | phantom)
    yield from _training_rows(compared, "train_ift", inputs, _TIGHTLY | {"ift": True})
    yield from _training_rows(compared, "train_upstream", inputs)
    yield from _adam_rows(compared, inputs)


_TIGHTLY: dict[str, Any] = solved_by("fixed_point_iter", TIGHT)


def _radius_row(reference: Reference, inputs: Inputs) -> Row:
    """The spectral radius that weights are projected by; of graphs that are classified, 1."""
    want, got = float(reference["eval/adj_rho"]), 1.0
    if reference.sizes.measures:
        sources, targets, weights = (np.asarray(a[0]) for a in inputs.edges[:3])
        graph = Graph(inputs.x.shape[1], sources, targets, weights)
        got = spectral_radius(graph) + RHO_EPS
    return Row("eval/adj_rho", abs(got - want), RADIUS)


def _evaluation_rows(compared: Comparison, inputs: Inputs) -> Iterator[Row]:
    """The output; of each layer its weights, start and fixed point, and f at a recorded state."""
    reference, close = compared.reference, compared.close.values
    layers = range(len(reference.sizes.layers))
    f_in = [jnp.asarray(reference[f"eval/layer{i}/f_in"]) for i in layers]
    step = reference.step(_passed, train=False, gradients=False, deq=_TIGHTLY)
    out = step(inputs, f_in).out
    yield from compared.rows({"eval/output": out["output"]}, close)
    for i, layer in enumerate(out["layers"]):
        layer["z_star"] = layer.pop("z_out")
        got = {f"eval/layer{i}/{k}": a for k, a in layer.items() if k not in SAID}
        yield from compared.rows(got, close)


def _training_rows(
    compared: Comparison, name: str, inputs: Inputs, deq: dict[str, Any] | None = None
) -> Iterator[Row]:
    """Output, loss, states, gradients, and what a pass changes; without `deq`, as published."""
    reference, close = compared.reference, compared.close
    values, gradients = close.values, close.gradients
    if deq is None:
        reference = _as_published(reference)
        values, gradients = close.stopped, close.stopped_gradients
    step = reference.step(_passed, train=True, gradients=True, deq=deq or {})
    outcome = step(inputs, None)
    out = outcome.out
    got = {f"{name}/output": out["output"], f"{name}/loss": outcome.loss}
    yield from compared.rows(got, values)
    for i, layer in enumerate(out["layers"]):
        steps, at_rest = (layer.pop(k) for k in SAID)
        got = {f"{name}/layer{i}/{k}": a for k, a in layer.items()}
        yield from compared.rows({k: a for k, a in got.items() if k in reference}, values)
        if deq is None:  # channels that are at rest differ by their rounding alone
            same = (steps == reference[f"{name}/layer{i}/nstep"]) | at_rest
            yield verdict(f"{name}/layer{i}/nstep", bool(np.all(same)))
    model = reference.model(**deq or {})
    grads: Any = outcome.grads
    made = export_arrays(grads, reference.original.names(model))
    yield compared.row_of_all(f"{name}/grad/", made, gradients)
    if name == "train_pg" and compared.has(AFTER):
        nnx.update(model, out["state"])
        yield compared.row_of_all(AFTER, reference.original.state_dict(model), values)


def _adam_rows(compared: Comparison, inputs: Inputs) -> Iterator[Row]:
    """Losses before each step, and everything after the last."""
    reference = _as_published(compared.reference)
    told = reference.entry("adam3")
    train = IGNNTrainConfig(
        lr=reference.entry("adam3", "lr"),
        weight_decay=told.get("weight_decay", 0.0),
        clip_each=told.get("clip", 0.0),
    )
    optimizer = adam(train)
    model = reference.model()
    model.train()
    graphdef, params, rest = nnx.split(model, TRAINED, ...)

    @jax.jit
    def step(params: Any, rest: Any, opt_state: Any):
        def loss(params: Any):
            merged = nnx.merge(graphdef, params, rest, copy=True)
            value, _ = _passed(merged, inputs, None)
            return value, nnx.state(merged, nnx.Not(TRAINED))

        (value, rest_after), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return value, optax.apply_updates(params, updates), rest_after, opt_state

    before, opt_state = [], optimizer.init(params)
    for _ in range(ADAM_STEPS):
        value, params, rest, opt_state = step(params, rest, opt_state)
        before.append(value)
    close = compared.close.adam
    yield from compared.rows({"adam3/loss": jnp.stack(before)}, close)
    state = reference.original.state_dict(nnx.merge(graphdef, params, rest))
    yield compared.row_of_all("adam3/state/", state, close)


def _as_published(reference: Reference) -> Reference:
    """The same with the original's way to count samples and to stop."""
    sizes = dataclasses.replace(reference.sizes, channel_samples=True)
    return dataclasses.replace(reference, sizes=sizes)


def _passed(model: IGNN, inputs: Inputs, f_in: list[Array] | None) -> tuple[Array, dict[str, Any]]:
    """The loss; the output, what was recorded of each layer, and the model's state afterwards."""
    n_graphs = None if inputs.graph is None else inputs.y.shape[1]
    h, solved = model.encode(inputs.x, inputs.edges)
    logits = model.decode(h, inputs.graph, n_graphs)
    loss = masked_mean(losses(logits, inputs.y), inputs.mask)
    layers = []
    for i, (layer, (equation, z, info)) in enumerate(zip(model.layers, solved, strict=True)):
        weights = layer.plain_weights()
        told = {
            "z_out": z,
            "W_eff": equation.kernel.reshape(equation.kernel.shape[-2:]),
            "Omega_1_eff": weights.omega_1.kernel[...],
            "Omega_2_eff": (weights.omega_2 or weights.unread).kernel[...],
            "nstep": info.steps[0],
            "at_rest": info.rel_residual[0] < AT_REST,
        }
        if f_in is not None:
            told |= {"z_init": layer.start(equation), "f_out": equation(f_in[i])}
        layers.append(told)
    output = jax.nn.log_softmax(logits) if inputs.graph is not None else logits
    return loss, {"output": output[0], "layers": layers, "state": nnx.state(model)}
