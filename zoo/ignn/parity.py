"""What the original computes of a graph, and this model again, to the last digits."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from zoo.ignn.layer import RHO_EPS
from zoo.ignn.losses import losses, masked_mean
from zoo.ignn.model import IGNN
from zoo.ignn.optimizer import IGNNTrainConfig, adam
from zoo.ignn.propagation import Edges
from zoo.ignn.trained import TRAINED
from zoo.upstream.reference import Reference
from zoo.upstream.rows import Row, verdict
from zoo.upstream.torchdeq import solved_by
from zoo.upstream.transfer import export_arrays

RADIUS = 1e-7  # absolute: the original's eigen-solver starts at random
TIGHT = 1e-13  # relative residual
SAID = ("nstep", "at_rest")  # by the solver, of each channel
AT_REST = 1e-13  # relative residual, about what rounding leaves
ADAM_STEPS = 3


class Close(NamedTuple):
    """How close a number must be: `rtol |want| + atol`."""

    rtol: float
    atol: float


class Tolerances(NamedTuple):
    """Of the sheet: for what is solved tightly, for the published stop rule, and after Adam."""

    values: Close
    gradients: Close
    stopped: Close
    stopped_gradients: Close
    adam: Close


FLOAT64 = Tolerances(
    values=Close(1e-9, 1e-10),
    gradients=Close(1e-6, 1e-9),
    stopped=Close(1e-7, 1e-10),
    stopped_gradients=Close(1e-7, 1e-9),
    adam=Close(1e-5, 1e-9),
)
FLOAT32 = Tolerances(*(Close(1e-4, 1e-5), Close(1e-3, 1e-5)) * 2, Close(1e-3, 1e-5))


class Inputs(NamedTuple):
    """One pack: features (1, N, p), edges, y, mask; `graph` (1, N) of each node, for graphs."""

    x: Array
    edges: Edges
    y: Array
    mask: Array
    graph: Array | None


class Comparison:
    """A folder and its tolerances."""

    def __init__(self, reference: Reference):
        self.reference = reference
        double = reference["eval/output"].dtype == np.float64
        self.close = FLOAT64 if double else FLOAT32

    def row(self, quantity: str, got: Any, want: np.ndarray, close: Close) -> Row:
        """The largest error beside what is allowed for it."""
        got, floor = np.asarray(got), close.atol / close.rtol
        error = np.inf
        if got.shape == want.shape:
            error = np.max(np.abs(got - want) / (np.abs(want) + floor), initial=0.0)
        return Row(quantity, float(error), close.rtol)

    def rows(self, got: Mapping[str, Any], close: Close) -> Iterator[Row]:
        """Of arrays that are recorded under these names."""
        for name, value in got.items():
            yield self.row(name, value, self.reference[name], close)

    def row_of_all(self, prefix: str, got: Mapping[str, np.ndarray], close: Close) -> Row:
        """The worst of all arrays under a prefix: each must be there."""
        want = self.reference.files["io"].under(prefix)
        of = lambda name: self.row(name, got.get(name, np.empty(0)), want[name], close)
        worst = max(map(of, want), key=lambda row: np.nan_to_num(row.error, nan=np.inf))
        title = f"{prefix.rstrip('/')}: {len(want)} arrays, worst {worst.quantity}"
        return dataclasses.replace(worst, quantity=title)


def quantities(reference: Reference) -> Iterator[Row]:
    """Evaluation, then training passes by three kinds of gradients, then steps of Adam."""
    compared = Comparison(reference)
    close, sizes = compared.close, reference.sizes
    adjacency = ("input/adj_test", "input/adj_train")
    eval_inputs, inputs = (
        _inputs(reference, each if each in reference else "input/adj") for each in adjacency
    )
    yield _radius_row(reference, eval_inputs.edges)

    phantom = {name: reference.deq[name] for name in ("grad", "tau")} | {"ift": False}
    tight = solved_by("fixed_point_iter", TIGHT)
    one_by_one = dataclasses.replace(sizes, channel_samples=True)
    as_published = dataclasses.replace(reference, sizes=one_by_one)

    step = reference.step(_passed, train=False, gradients=False, deq=tight)
    f_in = [jnp.asarray(reference[f"eval/layer{i}/f_in"]) for i in range(len(sizes.layers))]
    out = step(eval_inputs, f_in).out
    yield from compared.rows({"eval/output": out["output"]}, close.values)
    for i, layer in enumerate(out["layers"]):
        layer["z_star"] = layer.pop("z_out")
        got = {f"eval/layer{i}/{k}": a for k, a in layer.items() if k not in SAID}
        yield from compared.rows(got, close.values)

    for name, source, deq in (
        ("train_pg", reference, tight | phantom),
        ("train_ift", reference, tight | {"ift": True}),
        ("train_upstream", as_published, {}),
    ):
        stopped = source is as_published
        values = close.stopped if stopped else close.values
        outcome = source.step(_passed, train=True, gradients=True, deq=deq)(inputs, None)
        out = outcome.out
        got = {"output": out["output"], "loss": outcome.loss}
        yield from compared.rows({f"{name}/{k}": a for k, a in got.items()}, values)
        for i, layer in enumerate(out["layers"]):
            got = {f"{name}/layer{i}/{k}": a for k, a in layer.items()}
            # channels that have come to rest differ by their rounding alone
            steps, at_rest = (got.pop(f"{name}/layer{i}/{k}") for k in SAID)
            got = {k: a for k, a in got.items() if k in reference}
            yield from compared.rows(got, values)
            if stopped:
                same = (steps == reference[f"{name}/layer{i}/nstep"]) | at_rest
                yield verdict(f"{name}/layer{i}/nstep", bool(np.all(same)))
        model = source.model(**deq)
        grads = export_arrays(outcome.grads, reference.original.names(model))
        gradients = close.stopped_gradients if stopped else close.gradients
        yield compared.row_of_all(f"{name}/grad/", grads, gradients)
        nnx.update(model, out["state"])
        after = "train_after_forward/state/"
        if name == "train_pg" and any(k.startswith(after) for k in reference.files["io"]):
            state = reference.original.state_dict(model)
            yield compared.row_of_all(after, state, close.values)
    yield from _adam_rows(compared, as_published, inputs)


def _adam_rows(compared: Comparison, reference: Reference, inputs: Inputs) -> Iterator[Row]:
    """Losses before each step, and everything after the last."""
    told = reference.entry("adam3")
    train = IGNNTrainConfig(
        lr=told["lr"],
        weight_decay=told.get("weight_decay", 0.0),
        clip_each=told.get("clip", 0.0),
    )
    optimizer = adam(train)
    model = reference.model()
    model.train()
    graphdef, params, rest = nnx.split(model, TRAINED, ...)
    opt_state = optimizer.init(params)

    @jax.jit
    def step(params, rest, opt_state):
        def loss(params):
            merged = nnx.merge(graphdef, params, rest, copy=True)
            value, _ = _passed(merged, inputs, None)
            return value, nnx.state(merged, nnx.Not(TRAINED))

        (value, rest_after), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state_after = optimizer.update(grads, opt_state, params)
        params = jax.tree.map(lambda p, u: p + u, params, updates)
        return value, params, rest_after, opt_state_after

    losses = []
    for _ in range(ADAM_STEPS):
        value, params, rest, opt_state = step(params, rest, opt_state)
        losses.append(value)
    yield from compared.rows({"adam3/loss": jnp.stack(losses)}, compared.close.adam)
    model = nnx.merge(graphdef, params, rest)
    state = reference.original.state_dict(model)
    yield compared.row_of_all("adam3/state/", state, compared.close.adam)


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
            "nstep": info.steps[0],
            "at_rest": info.rel_residual[0] < AT_REST,
            "W_eff": equation.kernel[0] if equation.kernel.ndim > 2 else equation.kernel,
            "Omega_1_eff": weights.omega_1.kernel[...],
            "Omega_2_eff": (weights.omega_2 or weights.unread).kernel[...],
        }
        if f_in is not None:
            told |= {"z_init": layer.start(equation), "f_out": equation(f_in[i])}
        layers.append(told)
    output = jax.nn.log_softmax(logits) if inputs.graph is not None else logits
    return loss, {"output": output[0], "layers": layers, "state": nnx.state(model)}


def _inputs(reference: Reference, adjacency: str) -> Inputs:
    """One pack, of a recorded matrix."""
    matrix = reference[adjacency]
    nodes = len(matrix)
    sources, targets = np.nonzero(matrix)
    rho = reference["eval/adj_rho"] - RHO_EPS
    of = lambda name: jnp.asarray(reference[name])[None]
    y = of("input/y")
    mask = jnp.ones(y.shape[:2])
    if "input/idx_train" in reference:
        mask = jnp.zeros(y.shape[:2]).at[0, reference["input/idx_train"]].set(1)
    one = lambda a, dtype: jnp.asarray(a, dtype)[None]
    return Inputs(
        x=of("input/x") if "input/x" in reference else jnp.zeros((1, nodes, 0)),
        edges=Edges(
            one(sources, jnp.int32),
            one(targets, jnp.int32),
            one(matrix[sources, targets], matrix.dtype),
            one(rho, matrix.dtype),
        ),
        y=y,
        mask=mask,
        graph=of("input/batch").astype(jnp.int32) if "input/batch" in reference else None,
    )


def _radius_row(reference: Reference, edges: Edges) -> Row:
    want = float(reference["eval/adj_rho"])
    got = 1.0
    if reference.sizes.measures:
        a = np.abs(reference["input/adj"])
        got = float(np.max(np.abs(np.linalg.eigvals(a)))) + RHO_EPS
    return Row("eval/adj_rho", abs(got - want), RADIUS)
