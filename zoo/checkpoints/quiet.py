"""What threads that nobody waits for print once a write has failed, which is said elsewhere."""

import functools
import logging
import sys


@functools.cache
def silence_failed_writes() -> None:
    """Leaves out, from now on, what Orbax's other writes have to say of one that failed.

    The first write that fails is what the program hears of. It ends the event loop to which all
    writes of a checkpoint report: each of the others, whenever it is done, prints a traceback that
    the loop is closed, or that nobody has asked for its error.
    """
    before = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            before(unraisable)

    sys.unraisablehook = hook
    logging.getLogger("asyncio").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    return not ("Task exception was never retrieved" in text and "orbax" in text)
