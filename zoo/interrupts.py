"""Ctrl-C, also while nothing of Python runs: a compilation, or a device that is waited for."""

import os
import signal
import threading
from collections.abc import Callable

_answers: list[Callable[[int], None]] = []  # what says that a first signal was heard


class SecondInterrupt:
    """While it is entered, the second of two signals ends the process at once if it is a SIGINT.

    Python's own handlers run between two of its instructions, which may be minutes away. What the
    first signal does is left to them; a thread of this one sees both as they come. Elsewhere than
    in the main thread it does nothing.

    Args:
        text: what to say at the end.
    """

    def __init__(self, text: str):
        self._text = text
        self._ends: tuple[int, int] | None = None

    def __enter__(self) -> "SecondInterrupt":
        if threading.current_thread() is threading.main_thread():
            self._ends = os.pipe()
            os.set_blocking(self._ends[1], False)
            self._before = signal.set_wakeup_fd(self._ends[1], warn_on_full_buffer=False)
            self._thread = threading.Thread(target=self._listen, args=self._ends[:1], daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        if self._ends is not None:
            signal.set_wakeup_fd(self._before)
            os.write(self._ends[1], b"\0")
            self._thread.join()
            for end in self._ends:
                os.close(end)

    def _listen(self, end: int) -> None:
        heard = False
        while True:
            for number in os.read(end, 1):
                if number == 0:
                    return
                if heard and number == signal.SIGINT:
                    os.write(2, f"\n{self._text}\n".encode())
                    os._exit(130)
                heard = True
                for answer in _answers:
                    answer(number)


def answer_first(answer: Callable[[int], None]) -> Callable[[], None]:
    """Has `answer` called, in a thread, when a signal comes; returns what ends that."""
    _answers.append(answer)
    return lambda: _answers.remove(answer)
