"""`python -m benchmarks`: jdeq beside TorchDEQ, jaxopt and optimistix.

The same solves on the same arrays, to the same residual, with the same number of threads. Every row
is verified before it is timed. The limit of a solve is `NFE x time of f`; the table tells how far
from it each library is. Rows are written to `speed.json` as they are done, then come `speed.md` and
`speed.png`.
"""

import argparse
import pathlib
from collections.abc import Sequence

from .speed import report
from .speed.context import Context
from .speed.libraries import NAMES, load
from .speed.picture import draw
from .speed.results import Results
from .speed.sections import SECTIONS
from .speed.timing import QUICK, Effort

HERE = pathlib.Path(__file__).parent


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--sections", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--libraries", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--repeats", type=int, help="rounds of each row (by time)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--resume", action="store_true", help="keep the rows that are there")
    parser.add_argument("--out", type=pathlib.Path, help="folder of the results")
    args = parser.parse_args(argv)
    if args.repeats is not None and args.repeats < 1:
        parser.error("--repeats must be at least 1")
    if args.out is None:  # tiny sizes must not replace the published figures
        args.out = pathlib.Path("runs/bench-quick") if args.quick else HERE / "results"
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    results = Results(args.out / "speed.json", resume=args.resume, sections=args.sections)
    print(", ".join(f"{key} {value}" for key, value in results.machine.items()))
    libraries = load(args.libraries, results.machine["threads"])
    effort = QUICK if args.quick else Effort()
    if args.repeats is not None:
        effort = Effort(repeats=args.repeats)
    for name in args.sections:
        done = results.rows(name)
        wanted = lambda row, done=done: args.only in row and row not in done
        context = Context(libraries, effort, args.quick, wanted)
        for row, values in SECTIONS[name].rows(context):
            results.add(name, row, values)
            print(f"{name} | {row}", flush=True)
            for line in report.brief(values):
                print(f"    {line}", flush=True)
    text = report.markdown(results)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "speed.md").write_text(text)
    draw(args.out / "speed.png", results)
    print(f"\n{text}")


if __name__ == "__main__":
    main()
