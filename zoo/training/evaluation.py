"""A model on a whole data split."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from zoo.devices.layout import Layout
from zoo.logs.metrics import Metric
from zoo.nn.carry import Carry, fresh_carry
from zoo.task import Split, Task


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Over a split: the task's metric; mean loss, relative residual, share converged, NFE.

    `trace` (N, max_iter) is every sample's residual after each iteration, NaN once it stopped.
    """

    metric: float
    loss: float
    residual: float
    converged: float
    nfe: float
    trace: np.ndarray

    def values(self) -> dict[str, float]:
        """The figures by name."""
        return {k: v for k, v in vars(self).items() if isinstance(v, float)}

    def line(self, split: str, metric: Metric) -> str:
        """One line for people."""
        return (
            f"{split} {metric.name} {metric.text(self.metric)} "
            f"(mean relative residual {self.residual:.1e}, NFE {self.nfe:.1f}, "
            f"converged {100 * self.converged:.1f} %)"
        )


class Evaluator:
    """Evaluates parameters of one model; compiles on first use, then never again.

    Args:
        task: the model's task.
        model: the model; only its structure is used.
        layout: where arrays live; on one device by default.
    """

    def __init__(self, task: Task, model: nnx.Module, layout: Layout | None = None):
        self._task = task
        self._layout = layout = layout or Layout()
        model = nnx.clone(model)
        model.eval()
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)
        carry = nnx.filter_state(rest, Carry)  # its shapes may be others than in training
        carry = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), carry)
        self._placed = (layout.params(params), layout.replicated)
        self._fresh = jax.jit(
            lambda rows: fresh_carry(carry, rows),
            static_argnums=0,
            out_shardings=layout.rest(carry),
        )

        def evaluate(
            params: nnx.State, rest: nnx.State, batch: Mapping[str, jax.Array]
        ) -> tuple[dict[str, Any], nnx.State]:
            # a copy, because variables of an outer trace cannot be written to
            whole = jax.lax.with_sharding_constraint(params, layout.params(params, whole=True))
            model = nnx.merge(graphdef, whole, rest, copy=True)
            outputs = task.evaluate(model, batch)
            return outputs, nnx.state(model, nnx.Not(nnx.Param))

        self._evaluate = jax.jit(evaluate, out_shardings=(layout.replicated, layout.rest(rest)))

    def __call__(
        self, params: nnx.State, rest: nnx.State, split: Split, batch_size: int
    ) -> Evaluation:
        """All of `split`; each sample or token counts once, whatever the batch size.

        What the model carries goes from batch to batch, starting with nothing; `rest` stays as
        it is.
        """
        # without what was carried in training, by as many rows as there were then
        state = (params, nnx.filter_state(rest, nnx.Not(Carry)))
        params, others = jax.device_put(state, self._placed)
        outputs, weights = [], []
        for batch, weight in split.eval_batches(batch_size):
            batch, weight = self._layout.filled(batch, weight)
            rows = len(weight)
            if not weights:
                rest = nnx.merge_state(others, self._fresh(rows))
            mine = {k: a[self._layout.my_rows(rows)] if a.ndim else a for k, a in batch.items()}
            out, rest = self._evaluate(params, rest, self._layout.batch(mine, rows))
            outputs.append(jax.device_get(out))
            weights.append(weight.astype(np.float64))
        counted = sum(weight.sum() for weight in weights)

        def mean(name: str) -> float:
            pairs = [(out[name], weight) for out, weight in zip(outputs, weights, strict=True)]
            return float(sum(np.sum(v * _per(w, np.ndim(v))) for v, w in pairs) / counted)

        trace = [o["trace"][_per(w, 1) > 0] for o, w in zip(outputs, weights, strict=True)]
        metric = self._task.metric
        return Evaluation(
            metric=metric.transform(mean(metric.of)),
            loss=mean("loss"),
            residual=mean("residual"),
            converged=mean("converged"),
            nfe=mean("nfe"),
            trace=np.concatenate(trace),
        )


def _per(weight: np.ndarray, ndim: int) -> np.ndarray:
    """Weights of values with the first `ndim` axes of `weight`: a row counts for its tokens."""
    return weight.sum(axis=tuple(range(ndim, weight.ndim)))
