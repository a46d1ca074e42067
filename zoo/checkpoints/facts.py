"""What a checkpoint's manifest says, once it is sure that it says it."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from zoo.checkpoints.manifest import Damaged
from zoo.errors import UserError

# 1, whose manifest does not say so, had arrays by their number; 2 had other names in norms
LAYOUTS = (2, 3)
LAYOUT = LAYOUTS[-1]  # that is written
LAST_STEP = 2**31 - 1  # steps are counted in int32


@dataclasses.dataclass(frozen=True)
class Facts:
    """Of the state after a step, judged by `score`: the run's configuration and its data's meta.

    `arrays` says of each array of the state, by its name, which dtype and shape it has.
    """

    layout: int
    step: int
    score: float | None
    config: Mapping[str, Any]
    meta: Mapping[str, Any]
    arrays: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(vars(self))

    @classmethod
    def of(cls, said: Any) -> "Facts":
        """The inverse, of what a manifest says.

        Raises:
            Damaged: a fact is missing, or is not what it should be.
            UserError: it is of another version of this program; the text says what to do.
        """
        if not isinstance(said, Mapping):
            raise Damaged("the facts are no JSON object")
        _check_layout(said.get("layout", 1))
        names = [field.name for field in dataclasses.fields(cls)]
        if unknown := sorted(set(said) - set(names)):
            raise UserError(f"is of a later version, with facts unknown here: {_listed(unknown)}")
        if missing := [name for name in names if name not in said]:
            raise Damaged(f"facts are missing: {_listed(missing)}")
        facts = cls(**said)
        right = {
            "step": _is(facts.step, int) and 0 <= facts.step <= LAST_STEP,
            "score": facts.score is None or _is_finite(facts.score),
            "config": isinstance(facts.config, Mapping),
            "meta": isinstance(facts.meta, Mapping),
            "arrays": isinstance(facts.arrays, Mapping)
            and all(isinstance(text, str) for text in facts.arrays.values()),
        }
        if wrong := [name for name, so in right.items() if not so]:
            raise Damaged(f"facts are not what they should be: {_listed(wrong)}")
        return facts


def _check_layout(layout: Any) -> None:
    if layout == 1:  # its order says nothing if something was renamed since: never guess
        raise UserError(
            "is of an earlier version, which did not save the names of arrays, so "
            "that one's values could be taken for another's: there, write its weights with "
            "`python -m zoo export MODEL weights.npz --checkpoint DIR`; here, read them with "
            "`python -m zoo import MODEL weights.npz --config DIR/config.json --out NEW`"
        )
    if not _is(layout, int) or layout < LAYOUTS[0]:
        raise Damaged("facts are not what they should be: layout")
    if layout > LAYOUT:
        raise UserError(
            f"is of a later version, with layout {layout}; this one reads up to {LAYOUT}"
        )


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    try:
        return _is(value, int | float) and math.isfinite(value)  # pyright: ignore
    except OverflowError:
        return False


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name)[:80] for name in names[:8])
