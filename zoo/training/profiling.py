"""Where the time of a step goes."""

import pathlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

WARM_UP, TRACED = 3, 10  # steps: those before are compiled and fill the queues


class Profiler:
    """Traces some steps with `jax.profiler`, and times what the host does between them.

    The traced steps are waited for one by one; all others run as ever.

    Args:
        folder: gets the trace, to be opened with TensorBoard's profiler, XProf or Perfetto; None:
            there is nothing to be done.
    """

    def __init__(self, folder: pathlib.Path | None):
        self.folder = folder
        self._made = 0
        self._in_steps, self._between = [], []
        self._ended: float | None = None
        self._tracing = False

    @contextmanager
    def step(self) -> Iterator[list[Any]]:
        """Around one step; what it makes is to be put into the list, to be waited for."""
        if self._made == WARM_UP and self.folder is not None:
            jax.profiler.start_trace(str(self.folder))
            self._tracing = True
        started = time.perf_counter()
        if self._tracing and self._ended is not None:
            self._between.append(started - self._ended)
        made: list[Any] = []
        yield made
        self._made += 1
        if self._tracing:
            jax.block_until_ready(made)
            self._ended = time.perf_counter()
            self._in_steps.append(self._ended - started)
        if self._made == WARM_UP + TRACED:
            self._stop()

    def forget(self) -> None:
        """What the host does now, an evaluation say, is no part of a step."""
        self._ended = None

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(self, *_) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()

    def line(self) -> str | None:
        """The figures for people, if there is a profile."""
        if self.folder is None:
            return None
        if not self._between:
            return f"profile: the run has too few steps, {WARM_UP + 2} are needed"
        step, between = _mean(self._in_steps), _mean(self._between)
        return (
            f"profile: {1e3 * (step + between):.1f} ms per step, of which the host between steps "
            f"{1e3 * between:.2f} ms ({100 * between / (step + between):.1f} %); "
            f"trace in {self.folder}"
        )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
