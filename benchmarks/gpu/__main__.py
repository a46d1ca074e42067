"""`python -m benchmarks.gpu`: what there is to know of a GPU, within minutes.

Sections in order of worth: `card` (copy, matrix products, empty loops), `correct` (every solver and
gradient against dense float64 solves), `overhead` (microseconds per iteration beyond `f`), `flags`
(the same with XLA's command buffers around loops), `peers` (TorchDEQ beside), `zoo` (training
steps), `train` (CIFAR-10 for the rest of the time). Each has a share of the minutes; time that one
leaves goes to the next. A row is in `gpu.json` (a JSON line each) as soon as it is measured;
`gpu.md` is written at the end, also when the program is told to stop.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from .child import add_options
from .plan import PARTS, SECTIONS, environment
from .records import Records
from .report import markdown

GRACE = 30.0  # seconds that a row which has begun may take beyond its section's time


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--minutes", type=float, help="for all of it (6; 60 with --quick)")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--resume", action="store_true", help="keep the rows that are there")
    add_options(parser)
    args = parser.parse_args(argv)
    if args.minutes is None:
        args.minutes = 60.0 if args.quick else 6.0
    if not args.minutes > 0:
        parser.error("--minutes must be positive")
    return args


class Stopped(Exception):
    """A signal asked to stop."""


def stop(*_: object) -> None:
    raise Stopped


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    path = args.out / "gpu.json"
    if not args.resume:
        path.unlink(missing_ok=True)
    before = signal.signal(signal.SIGTERM, stop)
    try:
        run_parts(args, time.monotonic() + 60 * args.minutes)
    except (Stopped, KeyboardInterrupt):
        print("stopped; --resume goes on", flush=True)
    finally:
        signal.signal(signal.SIGTERM, before)
        text = markdown(Records(path))
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "gpu.md").write_text(text)
    print(f"\n{text}", flush=True)


def run_parts(args: argparse.Namespace, end: float) -> None:
    """One after the other: nothing else may run while something is timed."""
    chosen = [i for i, part in enumerate(PARTS) if part.section in args.only]
    for n, i in enumerate(chosen):
        shares = [PARTS[j].share for j in chosen[n:]]
        seconds = (end - time.monotonic()) * shares[0] / sum(shares)
        run_part(i, seconds, args)


def run_part(i: int, seconds: float, args: argparse.Namespace) -> None:
    part = PARTS[i]
    name = " ".join(filter(None, (part.section, part.flags)))
    print(f"== {name}: {seconds:.0f} s", flush=True)
    command = [sys.executable, "-m", f"{__package__}.child", str(i), "--seconds", str(seconds)]
    command += ["--out", str(args.out), "--device", args.device]
    command += ["--data", str(args.data)] * (args.data is not None) + ["--quick"] * args.quick
    process = subprocess.Popen(command, env=environment(part, os.environ, args.device))
    try:
        code = process.wait(max(0.0, seconds) + GRACE)
        failure = f"its process ended with {code}" if code else None
    except subprocess.TimeoutExpired:
        failure = f"it took more than {GRACE:.0f} s beyond its time"
    finally:
        process.kill()
        process.wait()
    if failure is not None:
        print(f"{name}: {failure}", flush=True)
        record = {"section": part.section, "flags": part.flags, "job": "the whole section"}
        Records(args.out / "gpu.json").add(record | {"failed": failure})


if __name__ == "__main__":
    main()
