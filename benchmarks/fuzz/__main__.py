"""The command line of the fuzzer."""

import argparse
import json
import pathlib
import time
from collections.abc import Sequence

import jax

from .campaign import DIRECTIONS, Solve, programs, replay, solves
from .report import Key, Tally


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fuzz",
        description="Random problems with known answers, or with none; solves are judged by both.",
    )
    parser.add_argument("--solves", type=int, default=40000, help="how many, of 16 samples each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/fuzz"))
    parser.add_argument("--only", nargs="+", default=[], help="programs whose names hold all these")
    parser.add_argument("--family", default="", help="families whose names hold this")
    parser.add_argument("--directions", nargs="+", choices=DIRECTIONS, default=list(DIRECTIONS))
    parser.add_argument("--stride", type=int, default=1, help="one program in so many")
    parser.add_argument("--replay", metavar="NAME", help="one solve, as a fault's line names it")
    args = parser.parse_args(argv)
    if args.solves < 1 or args.stride < 1:
        parser.error("--solves and --stride must be at least 1")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """1 if there was a fault."""
    args = parse(argv)
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)  # compiling is what takes time
    if args.replay is not None:
        try:
            solve = replay(args.replay)
        except ValueError:
            raise SystemExit(f"no solve is named {args.replay!r}") from None
        print(solve.describe())
        return int(bool(solve.faults.size))
    chosen = [
        p
        for p in programs(args.directions)[:: args.stride]
        if all(part in p.name for part in args.only)
    ]
    args.out.mkdir(parents=True, exist_ok=True)
    tally, begun = Tally(), time.process_time()
    with (args.out / "faults.jsonl").open("w") as log:
        for i, program in enumerate(chosen):
            count = args.solves * (i + 1) // len(chosen) - args.solves * i // len(chosen)
            for solve in solves(program, args.seed, count, args.family):
                record(tally, solve)
                for line in solve.fault_lines():
                    log.write(json.dumps(line) + "\n")
            log.flush()
            print(
                f"{i + 1}/{len(chosen)} {program.name}: {tally.faults()} faults so far", flush=True
            )
            jax.clear_caches()  # a program is not needed again
    for name, full in (("fuzz.md", False), ("fuzz_full.md", True)):
        title = "What solves say of random problems"
        (args.out / name).write_text(tally.markdown(title, full=full))
    print(tally.brief(), f"{time.process_time() - begun:.0f} s of CPU time", sep="\n")
    return int(bool(tally.faults()))


def record(tally: Tally, solve: Solve) -> None:
    key = Key(solve.program.direction, solve.case.family.name, solve.program.variant)
    tally.add(key, solve.verdict, solve.converged, solve.outcome.nfe)


if __name__ == "__main__":
    raise SystemExit(main())
