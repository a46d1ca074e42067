"""Medians of interleaved calls."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping

SHORTEST = 5e-3  # seconds; shorter calls are timed several at once
SETTLE = 5e-3  # seconds for the threads of one library to sleep before another one is timed


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long to measure: rounds in which each call is made once, or a time for all of them."""

    seconds: float = 2.0
    least: int = 3
    most: int = 31
    repeats: int | None = None

    def rounds(self, seconds_per_round: float) -> int:
        if self.repeats is not None:
            return self.repeats
        return min(self.most, max(self.least, round(self.seconds / seconds_per_round)))


QUICK = Effort(seconds=0.02, least=2, most=3)


def seconds_of(call: Callable[[], object], times: int = 1) -> float:
    """Seconds per call."""
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


def interleave(calls: Mapping[str, Callable[[], object]], effort: Effort) -> dict[str, float]:
    """The median seconds of each call, all of them warm and taking turns."""
    for call in calls.values():
        call()
    single = {name: seconds_of(call) for name, call in calls.items()}
    times = {name: max(1, min(200, round(SHORTEST / s))) for name, s in single.items()}
    a_round = sum(times[name] * s + SETTLE for name, s in single.items())
    found: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(effort.rounds(a_round)):
        names = list(calls) if i % 2 == 0 else list(reversed(calls))  # so that drift cancels
        for name in names:
            time.sleep(SETTLE)
            found[name].append(seconds_of(calls[name], times[name]))
    return {name: statistics.median(values) for name, values in found.items()}
