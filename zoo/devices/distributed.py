"""Runs of several processes, each with devices of its own."""

import argparse
import dataclasses
from collections.abc import Sequence

import jax

from jdeq.command_line import add_options, read_options
from jdeq.options import Options, option
from zoo.errors import UserError

HEARTBEAT = 30  # seconds of silence after which a process counts as dead
SHUTDOWN = 20  # seconds that a process which is done waits for the others


@dataclasses.dataclass(frozen=True)
class Processes(Options, what="process option"):
    """Which process of how many this is; by default there are no others.

    Raises:
        TypeError, ValueError: an option is out of range, or they do not fit together.
    """

    distributed: bool = option(
        False, "one of several processes, as Slurm, Open MPI, Kubernetes or a TPU pod started them"
    )
    coordinator: str | None = option(None, "address of process 0, elsewhere", metavar="HOST:PORT")
    num_processes: int | None = option(None, "how many processes", low=1, metavar="N")
    process_id: int | None = option(None, "which one this is, from 0 on", low=0, metavar="I")

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [value is not None for value in self.by_hand]
        if any(given) and (self.distributed or not all(given)):
            raise ValueError(
                "several processes: give --distributed alone, or --coordinator HOST:PORT, "
                "--num_processes N and --process_id I"
            )
        _, number, index = self.by_hand
        if number is not None and index is not None and index >= number:
            raise ValueError(f"process_id must be from 0 to {number - 1}, got {index}")

    @property
    def by_hand(self) -> tuple[str | None, int | None, int | None]:
        """Coordinator, number and index; None each: the surroundings know."""
        return self.coordinator, self.num_processes, self.process_id


def add_process_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--distributed`, `--coordinator`, `--num_processes` and `--process_id`."""
    add_options(parser, Processes(), "several processes")


def join_processes(argv: Sequence[str]) -> None:
    """Connects with the other processes that `argv` speaks of; must come before JAX has devices.

    When a process dies, the others end with an error within about a minute: at once if they wait
    for its data, else when its heartbeats are missed.

    Raises:
        UserError: the options do not fit together, or the others do not answer.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_process_options(parser)
    try:
        processes = read_options(parser.parse_known_args(argv)[0], Processes())
    except ValueError as e:
        raise UserError(str(e)) from e
    if processes == Processes():
        return
    if jax.distributed.is_initialized():
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            *processes.by_hand,
            initialization_timeout=120,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=SHUTDOWN,
        )
    except (RuntimeError, ValueError) as e:
        raise UserError(f"no connection with the other processes: {e}") from e


def is_first() -> bool:
    """Whether this process is the one that prints and writes logs."""
    return jax.process_index() == 0
