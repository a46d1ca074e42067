"""A model on a whole data split."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from zoo.data.batches import eval_batches
from zoo.task import Batch, Task


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Means over a split: the task's metric, loss, relative residual, share converged, NFE.

    `trace` (N, max_iter) is every sample's residual after each iteration, NaN once it stopped.
    """

    metric: float
    loss: float
    residual: float
    converged: float
    nfe: float
    trace: np.ndarray

    def values(self) -> dict[str, float]:
        """The means by name."""
        return {k: v for k, v in vars(self).items() if isinstance(v, float)}

    def line(self, split: str, metric: str) -> str:
        """One line for people."""
        return (
            f"{split} {metric} {100 * self.metric:.2f} % "
            f"(mean relative residual {self.residual:.1e}, NFE {self.nfe:.1f}, "
            f"converged {100 * self.converged:.1f} %)"
        )


class Evaluator:
    """Evaluates parameters of one model; compiles on first use, then never again."""

    def __init__(self, task: Task, model: nnx.Module):
        self._task = task
        model = nnx.clone(model)
        model.eval()
        graphdef = nnx.graphdef(model)

        def evaluate(
            params: nnx.State, rest: nnx.State, batch: Mapping[str, jax.Array]
        ) -> dict[str, Any]:
            return task.evaluate(nnx.merge(graphdef, params, rest), batch)

        self._evaluate = jax.jit(evaluate)

    def __call__(
        self, params: nnx.State, rest: nnx.State, split: Batch, batch_size: int
    ) -> Evaluation:
        """All samples of `split`; a sample counts once, whatever the batch size."""
        outputs, weights = [], []
        for batch, n in eval_batches(split, batch_size):
            out = jax.device_get(self._evaluate(params, rest, batch))
            outputs.append({k: v if np.ndim(v) == 0 else v[:n] for k, v in out.items()})
            weights.append(n)
        mean = lambda name: float(np.mean(np.concatenate([o[name] for o in outputs])))
        return Evaluation(
            metric=mean(self._task.metric),
            loss=mean("loss"),
            residual=mean("residual"),
            converged=mean("converged"),
            nfe=float(np.average([o["nfe"] for o in outputs], weights=weights)),
            trace=np.concatenate([o["trace"] for o in outputs]),
        )
