"""Right and wrong predictions, and the figures made of their numbers."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoo.figures import Figure, Figures

COUNTS = ("tp", "fp", "fn")


def predicted(logits: Array, y: Array, labels: Literal["class", "any", "top"]) -> Array:
    """Logits (..., C) -> 0 or 1 for each class or label, (..., C).

    "class": 1 for the class of the highest logit, the first one of several. "any": for the labels
    with a logit above 0. "top": for the k highest ones, where y (..., C) has k labels; of equal
    logits, those of the lower numbers.
    """
    if labels == "any":
        return (logits > 0).astype(jnp.float32)
    if labels == "class":
        return jax.nn.one_hot(jnp.argmax(logits, -1), logits.shape[-1])
    place = jnp.argsort(jnp.argsort(-logits, -1, stable=True), -1)
    return (place < jnp.sum(y, -1, keepdims=True)).astype(jnp.float32)


def counts(logits: Array, y: Array, labels: Literal["class", "any", "top"]) -> dict[str, Array]:
    """Of each node or graph: `tp`, `fp`, `fn` (..., C), and `accuracy` (...), the share that is
    right: of nodes or graphs with one class, else of all labels.

    Logits (..., C); y (...) are classes, or (..., C) labels.
    """
    true = jax.nn.one_hot(y, logits.shape[-1]) if labels == "class" else y.astype(jnp.float32)
    said = predicted(logits, y, labels)
    right = said == true
    return {
        "tp": said * true,
        "fp": said * (1 - true),
        "fn": (1 - said) * true,
        "accuracy": jnp.mean(right, -1) if labels != "class" else jnp.all(right, -1) * 1.0,
    }


def pooled_f1(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.floating:
    """Of all classes together; 0 if nothing is predicted."""
    return mean_f1(*(np.sum(count) for count in (tp, fp, fn)))


def mean_f1(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.floating:
    """The mean over classes, of which one that neither is nor is predicted counts as 0."""
    both = 2 * tp + fp + fn
    return np.mean(np.where(both > 0, 2 * tp / np.where(both > 0, both, 1), 0))


F1: Figures = {
    "micro-F1": Figure(COUNTS, pooled_f1),
    "macro-F1": Figure(COUNTS, mean_f1),
}
