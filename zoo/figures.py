"""What a model is judged by, and what an evaluation found."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Figure:
    """A number that says how good a model is on a whole split.

    It is made of means: each output in `of` is summed over all samples (or tokens) of the split,
    and divided by their number. A ratio of sums is the ratio of these means, so micro-F1 is made
    of the counts of each sample, and PSNR of its squared errors.

    Args:
        of: outputs of a task's `evaluate`, and of its `loss` if it is to be logged in training.
        value: the figure, of the means of these in this order: NumPy's numbers, or arrays of the
            further axes of an output, its classes say. Dividing by zero is no error; NaN says
            nothing.
        text: the figure for people.
        higher_is_better: what a good figure is.

    Example:
        >>> f1 = Figure(("tp", "fp", "fn"), lambda tp, fp, fn: 2 * tp / (2 * tp + fp + fn))
        >>> f1.made({"tp": 0.5, "fp": 0.25, "fn": 0.25, "loss": 1.0})
        0.6666666666666666
        >>> psnr = Figure(("mse",), lambda mse: -10 * np.log10(mse), "{:.2f} dB".format)
        >>> psnr.text(psnr.made({"mse": 0.001}))
        '30.00 dB'
    """

    of: tuple[str, ...]
    value: Callable[..., Any]
    text: Callable[[float], str] = "{:.3f}".format
    higher_is_better: bool = True

    def made(self, means: Mapping[str, Any]) -> float:
        """The figure, of the means of a split or of one batch."""
        with np.errstate(all="ignore"):  # a diverged model is judged too
            return float(self.value(*(np.asarray(means[name], np.float64)[()] for name in self.of)))

    def score(self, figure: float) -> float | None:
        """The greater the better; None for a figure that says nothing."""
        return (figure if self.higher_is_better else -figure) if math.isfinite(figure) else None


def mean(of: str, text: Callable[[float], str], *, higher_is_better: bool = True) -> Figure:
    """The mean of one output, over all its axes."""
    return Figure((of,), np.mean, text, higher_is_better)


Figures = Mapping[str, Figure]  # by the name that is printed and logged; the first one judges
ACCURACY: Figures = {"accuracy": mean("accuracy", lambda x: f"{100 * x:.2f} %")}
PERPLEXITY: Figures = {"perplexity": Figure(("nll",), np.exp, "{:.1f}".format, False)}


def judging(figures: Figures) -> str:
    """The name of the figure by which the best checkpoint is chosen."""
    return next(iter(figures))


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Over a split: the task's figures; mean loss, relative residual, share converged, NFE.

    `trace` (N, max_iter) is every sample's residual after each iteration; once it had stopped, that
    of the state it stopped with. `predicted` is (N,) what a model of images says of each. Where
    nothing is solved for, `unrolled` is how many steps are made instead.
    """

    figures: Mapping[str, float]
    loss: float
    residual: float
    converged: float
    nfe: float
    trace: np.ndarray
    predicted: np.ndarray | None = None
    unrolled: int | None = None

    def values(self) -> dict[str, float]:
        """Everything that is one number, by name."""
        own = {k: v for k, v in vars(self).items() if isinstance(v, float)}
        return what_is_solved(own, self.unrolled) | dict(self.figures)

    def line(self, split: str, figures: Figures) -> str:
        """One line for people."""
        texts = (f"{name} {figures[name].text(value)}" for name, value in self.figures.items())
        how = f"NFE {self.nfe:.1f}, converged {100 * self.converged:.1f} %"
        if self.unrolled is not None:
            how = unrolled_text(self.unrolled)
        return f"{split} {', '.join(texts)} (mean relative residual {self.residual:.1e}, {how})"


def what_is_solved(values: Mapping[str, T], unrolled: int | None) -> dict[str, Any]:
    """Figures by name; where nothing is solved for nothing converges, and the steps count."""
    if unrolled is None:
        return dict(values)
    kept = {k: v for k, v in values.items() if k not in ("converged", "solver_converged")}
    return kept | {"nfe": float(unrolled)}


def unrolled_text(steps: int) -> str:
    """For people."""
    return f"unrolled: {steps} step{'s' * (steps > 1)}, no solver"
