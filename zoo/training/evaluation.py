"""A model on a whole data split."""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from zoo.data.split import Split, parted
from zoo.devices.layout import Layout
from zoo.figures import Evaluation, Figures
from zoo.nn.carry import Carry, fresh_carry
from zoo.task import Task

ROWS = ("trace", "predicted")  # outputs that are kept of every sample
SOLVE = ("loss", "residual", "converged", "nfe")  # of every model


class Evaluator:
    """Evaluates parameters of one model; compiles once for each shape of a batch.

    Args:
        task: the model's task.
        model: the model; only its structure is used.
        layout: where arrays live; on one device by default.
        unrolled: of an unrolled model, its steps; see `Task.unrolled`.

    Raises:
        UserError: nothing of the model can be split over the layout's mesh.
    """

    def __init__(
        self,
        task: Task,
        model: nnx.Module,
        layout: Layout | None = None,
        *,
        unrolled: int | None = None,
    ):
        self._task, self._unrolled = task, unrolled
        self._layout = layout = layout or Layout()
        layout.check_model(model)
        model = nnx.clone(model)
        model.eval()
        graphdef, params, carry, others = nnx.split(model, task.trained, Carry, ...)
        # its shapes may be others than in training
        carry = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), carry)
        self._placed = (layout.params(params), layout.rest(others))
        self._fresh = jax.jit(
            lambda rows: fresh_carry(carry, rows),
            static_argnums=0,
            out_shardings=layout.rest(carry),
        )

        def evaluate(
            state: tuple[nnx.State, nnx.State], carry: nnx.State, batch: Mapping[str, jax.Array]
        ) -> tuple[dict[str, Any], nnx.State]:
            # a copy, because variables of an outer trace cannot be written to
            model = nnx.merge(graphdef, *map(layout.gathered, state), carry, copy=True)
            outputs = task.evaluate(model, batch)
            return outputs, nnx.state(model, Carry)

        self._evaluate = jax.jit(evaluate, out_shardings=(layout.replicated, layout.rest(carry)))

    def __call__(
        self, params: nnx.State, rest: nnx.State, split: Split, batch_size: int
    ) -> Evaluation:
        """All of `split`; each sample or token counts once, whatever the batch size.

        What the model carries goes from batch to batch, starting with nothing.

        Raises:
            ValueError: it carries something, and the batches have not all as many rows.
        """
        # without what was carried in training, by as many rows as there were then
        state = (params, nnx.filter_state(rest, nnx.Not(Carry)))
        state = jax.device_put(state, self._placed)
        means, carry, carried_by = Means(), None, 0
        for batch, weight in split.eval_batches(batch_size):
            batch, weight = self._layout.filled(batch, weight, split.shared)
            rows = len(weight)
            if carry is None:
                carry, carried_by = self._fresh(rows), rows
            if rows != carried_by and jax.tree.leaves(carry):
                raise ValueError(f"{rows} rows cannot go on with what {carried_by} rows carried")
            mine, whole = parted(batch, split.shared)
            mine = {name: a[self._layout.my_rows(rows)] for name, a in mine.items()}
            inputs = self._layout.batch(mine | whole, rows, split.shared)
            outputs, carry = self._evaluate(state, carry, inputs)
            means.add(jax.device_get(outputs), weight)
        evaluation = means.evaluation(self._task.figures)
        return dataclasses.replace(evaluation, unrolled=self._unrolled)


class Means:
    """The means of what a model puts out for one batch after the other.

    A batch's weights (B,) or (B, L) say what counts: a row of it for all its tokens, in outputs
    that have no axis for tokens. What does not count may be NaN.
    """

    def __init__(self):
        self._sums: dict[str, Any] = collections.defaultdict(float)
        self._weight = 0.0
        self._rows: dict[str, list[np.ndarray]] = {name: [] for name in ROWS}

    def add(self, outputs: Mapping[str, np.ndarray], weight: np.ndarray) -> None:
        """Adds a batch: outputs (B, ...), (B, L, ...), or () for the mean of the whole batch."""
        weight = weight.astype(np.float64)
        self._weight += weight.sum()
        for name, values in outputs.items():
            if name in ROWS:
                self._rows[name].append(values[_leading(weight, 1) > 0])
            else:
                self._sums[name] = self._sums[name] + _weighted_sum(values, weight)

    def evaluation(self, figures: Figures) -> Evaluation:
        """What follows from all of it.

        Raises:
            ValueError: an output that it is made of is not there.
        """
        made_of = {name: figure.of for name, figure in figures.items()} | {"an evaluation": SOLVE}
        for name, of in made_of.items():
            if missing := [output for output in of if output not in self._sums]:
                raise ValueError(f"{name} is made of {', '.join(of)}: no output {missing[0]!r}")
        means = {name: value / self._weight for name, value in self._sums.items()}
        mean = lambda name: float(np.mean(means[name]))
        return Evaluation(
            figures={name: figure.made(means) for name, figure in figures.items()},
            loss=mean("loss"),
            residual=mean("residual"),
            converged=mean("converged"),
            nfe=mean("nfe"),
            trace=np.concatenate(self._rows["trace"]),
            predicted=np.concatenate(predicted) if (predicted := self._rows["predicted"]) else None,
        )


def _weighted_sum(values: np.ndarray, weight: np.ndarray) -> Any:
    """Over the axes of the weight; what `values` has besides stays."""
    axes = min(np.ndim(values), weight.ndim)
    weight = _leading(weight, axes)
    weight = weight.reshape(weight.shape + (1,) * (np.ndim(values) - axes))
    return np.sum(np.where(weight > 0, values, 0) * weight, axis=tuple(range(axes)))


def _leading(weight: np.ndarray, n: int) -> np.ndarray:
    """Weights of values that have the first n axes only."""
    return weight.sum(axis=tuple(range(n, weight.ndim)))
