"""`python -m benchmarks.gpu.child`: one part of the plan, in a process with flags of its own."""

import argparse
import importlib
import pathlib
import time
import traceback
from collections.abc import Sequence

import jax

from benchmarks.speed.timing import QUICK, Effort

from .context import Context, Jobs, Row, Skip
from .machine import machine
from .plan import PARTS
from .records import Records

EFFORT = Effort(seconds=1.0, least=5, most=15, waking=1)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command hands on to the processes of its parts."""
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/gpu"))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--data", type=pathlib.Path, help="folder with CIFAR-10, for `train`")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", type=int)
    parser.add_argument("--seconds", type=float, required=True)
    add_options(parser)
    args = parser.parse_args(argv)
    end = time.monotonic() + args.seconds
    part = PARTS[args.part]
    backend = jax.default_backend()
    if (backend == "cpu") != (args.device == "cpu"):
        raise SystemExit(f"JAX runs on {backend}, not on {args.device}: see --device")
    records = Records(args.out / "gpu.json")
    records.add({"machine": machine()})
    context = Context(
        device=args.device,
        effort=QUICK if args.quick else EFFORT,
        quick=args.quick,
        seconds_left=lambda: end - time.monotonic(),
        data=args.data,
        found=records.rows(),
    )
    made = importlib.import_module(f"{__package__}.{part.module}").jobs(context)
    run(made, part.section, part.flags, records, context)


def run(jobs: Jobs, section: str, flags: str, records: Records, context: Context) -> None:
    """Makes the jobs that are not done yet, for as long as there is time."""
    about = {"section": section, "flags": flags}
    title = " ".join(filter(None, (section, flags)))
    done = records.done(section, flags)
    try:
        for name, job in jobs:
            if name in done:
                continue
            record = about | {"job": name}
            if context.seconds_left() < 0:
                records.add(record | {"skipped": "no time was left"})
                say(f"{title} | {name}: skipped, no time was left")
                continue
            start = time.perf_counter()
            try:
                made = job()
            except Exception as error:  # the next job may fare better
                traceback.print_exc()
                records.add(record | {"failed": f"{type(error).__name__}: {error}"[:500]})
                continue
            seconds = time.perf_counter() - start
            records.add(record | {"seconds": round(seconds, 2), "rows": made})
            say(f"{title} | {name} ({seconds:.1f} s)")
            for row in made:
                say(f"    {brief(row)}")
    except Skip as reason:
        records.add(about | {"job": section, "skipped": str(reason)})
        say(f"{title}: skipped, {reason}")


def say(line: str) -> None:
    print(line, flush=True)


def brief(row: Row) -> str:
    shown = (f"{v:.4g}" if isinstance(v, float) else f"{v}" for v in row.values() if v is not None)
    return " | ".join(shown)


if __name__ == "__main__":
    main()
