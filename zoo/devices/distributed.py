"""Runs of several processes, each with devices of its own."""

import argparse
from collections.abc import Sequence
from typing import Any

import jax

from zoo.errors import UserError

HEARTBEAT = 30  # seconds of silence after which a process counts as dead
SHUTDOWN = 20  # seconds that a process which is done waits for the others


def add_process_options(group: Any) -> None:
    """Adds `--distributed`, `--coordinator`, `--num_processes` and `--process_id`."""
    group.add_argument(
        "--distributed",
        action="store_true",
        help="one of several processes, as Slurm, Open MPI, Kubernetes or a TPU pod started them",
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0, elsewhere")
    group.add_argument("--num_processes", type=int, metavar="N", help="how many processes")
    group.add_argument("--process_id", type=int, metavar="I", help="which one this is, from 0 on")


def join_processes(argv: Sequence[str]) -> None:
    """Connects with the other processes that `argv` speaks of; must come before JAX has devices.

    When a process dies, the others end with an error within about a minute: at once if they wait
    for its data, else when its heartbeats are missed.

    Raises:
        UserError: the options do not fit together, or the others do not answer.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_process_options(parser)
    args = parser.parse_known_args(argv)[0]
    by_hand = (args.coordinator, args.num_processes, args.process_id)
    if not args.distributed and all(value is None for value in by_hand):
        return
    if args.distributed != all(value is None for value in by_hand) or (
        not args.distributed and None in by_hand
    ):
        raise UserError(
            "several processes: give --distributed alone, or --coordinator HOST:PORT, "
            "--num_processes N and --process_id I"
        )
    if not args.distributed and not 0 <= args.process_id < args.num_processes:
        raise UserError(
            f"--process_id must be from 0 to {args.num_processes - 1}, got {args.process_id}"
        )
    if jax.distributed.is_initialized():
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            *by_hand,
            initialization_timeout=120,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=SHUTDOWN,
        )
    except (RuntimeError, ValueError) as e:
        raise UserError(f"no connection with the other processes: {e}") from e


def is_first() -> bool:
    """Whether this process is the one that prints and writes logs."""
    return jax.process_index() == 0
