"""Stopping a run from outside so that nothing is lost."""

import os
import signal
import threading
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from zoo.data.split import Batch, Split
from zoo.errors import Interrupted
from zoo.interrupts import answer_first


class StopSignal:
    """Notes SIGTERM and SIGINT instead of dying of them; a SIGINT after that interrupts at once.

    As a context manager: the handlers before it are put back. Elsewhere than in the main thread,
    where Python takes no handlers, it notes nothing.
    """

    def __init__(self):
        self.received: signal.Signals | None = None
        self._before = {}
        self._said = threading.Lock()
        self._end_answers = lambda: None

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
            self._end_answers = answer_first(self._answer)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._end_answers()

    def stoppable(self, split: Split) -> Split:
        """A split whose evaluation ends with `Interrupted` once a signal came.

        Not where there are other processes, which would wait for this one.
        """
        return split if jax.process_count() > 1 else _Stoppable(split, self)

    def _note(self, number: int, _) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        self._answer(number)

    def _answer(self, number: int) -> None:
        """Says, once, that the signal was heard: the first who gets to it, here or in a thread."""
        if self._said.acquire(blocking=False):
            name = signal.Signals(number).name
            text = f"\n{name}: finishing this step and saving (Ctrl-C: stop at once)\n"
            os.write(2, text.encode())  # print() could be what the signal interrupts


class _Stoppable:
    """Passes everything on to a split; see `StopSignal.stoppable`."""

    def __init__(self, split: Split, stop: StopSignal):
        self._split, self._stop = split, stop
        self.check_batch_size, self.train_batches = split.check_batch_size, split.train_batches
        self.shared = split.shared

    def eval_batches(self, batch_size: int) -> Iterator[tuple[Batch, np.ndarray]]:
        for batch in self._split.eval_batches(batch_size):
            if self._stop.received:
                raise Interrupted("the evaluation was cut short")
            yield batch


def agreed(wanted: bool) -> bool:
    """Whether any process wants it; all of them must ask at the same step."""
    if jax.process_count() == 1:
        return wanted
    return bool(np.any(multihost_utils.process_allgather(np.asarray(wanted))))
