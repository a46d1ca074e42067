"""How much of the card a computation uses, beside what large ones reach."""

from collections.abc import Iterable

from .context import Row


class Ceilings:
    """The rates that the section `card` measured, if it has.

    Args:
        rows: of that section.
    """

    def __init__(self, rows: Iterable[Row]):
        self._rates = {row["what"]: row["rate"] for row in rows if "rate" in row}

    def share_of_arithmetic(self, flops: float, seconds: float, dtype: str) -> float | None:
        """In percent of a large matrix product's rate in the same dtype and default precision."""
        return self._share(flops / seconds / 1e12, f"matrix product, {dtype}, default")

    def share_of_bandwidth(self, moved: float, seconds: float) -> float | None:
        """In percent of a large copy's; `moved` are bytes."""
        return self._share(moved / seconds / 1e9, "copy")

    def _share(self, rate: float, name: str) -> float | None:
        return 100 * rate / self._rates[name] if name in self._rates else None
