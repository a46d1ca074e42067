"""Medians of interleaved calls."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping

LONG_ROUND = 5.0  # seconds; one round more than the first call of each is enough then
SHORTEST = 5e-3  # seconds; shorter calls are timed several at once
SETTLE = 5e-3  # seconds for the threads of one library to sleep before another one is timed


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long to measure: rounds in which each call is made once, or a time for all of them.

    `waking` calls after each pause are not timed: a device that has slept is slow at first.
    """

    seconds: float = 1.5
    least: int = 2
    most: int = 31
    repeats: int | None = None
    waking: int = 0

    def rounds(self, seconds_per_round: float) -> int:
        if self.repeats is not None:
            return self.repeats
        least = 1 if seconds_per_round > LONG_ROUND else self.least
        return min(self.most, max(least, round(self.seconds / seconds_per_round)))


QUICK = Effort(seconds=0.02, most=3)


def seconds_of(call: Callable[[], object], times: int = 1) -> float:
    """Seconds per call."""
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


def interleave(calls: Mapping[str, Callable[[], object]], effort: Effort) -> dict[str, float]:
    """The median seconds of each call, taking turns; they have been called before."""
    single = {name: seconds_of(call) for name, call in calls.items()}
    times = {name: max(1, min(200, round(SHORTEST / s))) for name, s in single.items()}
    a_round = sum(times[name] * s + SETTLE for name, s in single.items())
    # a long call is a measurement as it is
    found = {name: [s] if times[name] == 1 else [] for name, s in single.items()}
    for i in range(effort.rounds(a_round)):
        names = list(calls)[:: 1 if i % 2 == 0 else -1]  # so that drift cancels
        for name in names:
            time.sleep(SETTLE)
            for _ in range(effort.waking):
                calls[name]()
            found[name].append(seconds_of(calls[name], times[name]))
    return {name: statistics.median(values) for name, values in found.items()}
