"""`python -m benchmarks.graphs`: what an iteration on a graph costs, beside `torch.sparse`.

The equilibrium function of an implicit graph network, `relu(A^T z W + b)`, on random graphs of
10,000 to a million edges; the same in `torch.sparse` (CSR) with the same threads, in turns, after
both have given the same states. Then the most memory that a process takes which makes a training
step of the layer on the largest graph. Writes `graphs.md` and `graphs.png`.
"""

import argparse
import importlib.util
import math
import pathlib
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import jdeq
from zoo.ignn.config import IGNNConfig
from zoo.ignn.layer import Equation, ImplicitLayer
from zoo.ignn.propagation import Edges

from .speed.peak import peak
from .speed.results import machine
from .speed.timing import QUICK, Effort, interleave

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
DEGREE = 10  # edges per node
FEATURES = 64
CALL = 5  # iterations of a call
MOST_GIB = 4
ULPS = 50  # by which states may differ: sums of `DEGREE` and of `FEATURES` terms, `CALL` times
COLOURS = {"jdeq": "C0", "torch": "C3"}


class Problem(NamedTuple):
    """Edges of a graph of N nodes, by target; W (m, m), b (N, m); NumPy."""

    sources: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    kernel: np.ndarray
    injection: np.ndarray


def problem(edges: int) -> Problem:
    """Edges are uniform; |A| and |W| have column sums of about 1 and 1/2, so states keep a size."""
    rng = np.random.default_rng(0)
    nodes = edges // DEGREE
    distinct = rng.choice(nodes**2, edges, replace=False, shuffle=False)
    targets, sources = np.array(divmod(np.sort(distinct), nodes), np.int32)  # by target, as loaded
    weights = rng.random(edges, np.float32) * (2 / DEGREE)
    kernel = rng.uniform(-1, 1, (FEATURES, FEATURES)).astype(np.float32) / FEATURES
    injection = rng.normal(size=(nodes, FEATURES)).astype(np.float32)
    return Problem(sources, targets, weights, kernel, injection)


def edges_of(made: Problem) -> Edges:
    """As one pack."""
    packed = (jnp.asarray(a)[None] for a in (made.sources, made.targets, made.weights))
    return Edges(*packed, rho=jnp.ones(1))


def by_the_zoo(made: Problem) -> Callable[[], np.ndarray]:
    """`CALL` iterations of the equation that implicit layers solve; states (N, m)."""
    equation = Equation(jnp.asarray(made.kernel), jnp.asarray(made.injection)[None], edges_of(made))

    @jax.jit
    def iterated(equation: Equation) -> jax.Array:
        step = lambda _, z: equation(z)
        return jax.lax.fori_loop(0, CALL, step, equation.injection)

    return lambda: np.asarray(iterated(equation)[0])


def by_torch(made: Problem, threads: int) -> Callable[[], np.ndarray]:
    """The same, with A^T as a CSR matrix."""
    import torch

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # as XLA does
    nodes = len(made.injection)
    starts = np.searchsorted(made.targets, np.arange(nodes + 1)).astype(np.int32)
    arrays = map(torch.tensor, (starts, made.sources, made.weights))
    with warnings.catch_warnings(action="ignore"):  # that it is in beta state
        a = torch.sparse_csr_tensor(*arrays, size=(nodes, nodes), check_invariants=True)
    kernel, injection = torch.tensor(made.kernel), torch.tensor(made.injection)

    def iterated() -> np.ndarray:
        z = injection
        for _ in range(CALL):
            z = torch.relu((a @ z) @ kernel + injection)
        return z.numpy()

    return iterated


def times(edges: int, effort: Effort, threads: int, *, with_torch: bool) -> dict[str, float]:
    """Milliseconds per iteration, by library.

    Raises:
        AssertionError: the libraries do not agree.
    """
    made = problem(edges)
    calls = {"jdeq": by_the_zoo(made)}
    if with_torch:
        calls["torch"] = by_torch(made, threads)
    first, *others = (call() for call in calls.values())
    for states in others:
        close = ULPS * np.finfo(np.float32).eps * np.abs(first).max()
        np.testing.assert_allclose(states, first, rtol=0, atol=close)
    return {name: 1e3 * s / CALL for name, s in interleave(calls, effort).items()}


def train(edges: int) -> None:
    """A training step of an implicit layer, by the exact gradient; prints the peak in GiB."""
    made = problem(edges)
    config = IGNNConfig(widths=(FEATURES,), n_features=FEATURES)
    deq = jdeq.DEQConfig(ift=True, norm_type="weight_norm")
    layer = ImplicitLayer(FEATURES, FEATURES, config, deq, rngs=nnx.Rngs(0))

    @nnx.jit
    def gradient(layer: ImplicitLayer, x: jax.Array, edges: Edges) -> nnx.State:
        return nnx.grad(lambda layer: jnp.mean(jnp.square(layer(x, edges)[0])))(layer)

    jax.block_until_ready(gradient(layer, jnp.asarray(made.injection)[None], edges_of(made)))
    print(peak() / 2**10)


def measured_peak(edges: int) -> float:
    """GiB, of a fresh process that makes a training step."""
    command = [sys.executable, "-m", "benchmarks.graphs", "--train", str(edges)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def slope(rows: dict[int, dict[str, float]], name: str) -> float:
    """Of milliseconds against edges on a log-log scale: 1 is linear."""
    sizes = np.log(list(rows))
    return float(np.polyfit(sizes, np.log([row[name] for row in rows.values()]), 1)[0])


def report(rows: dict[int, dict[str, float]], gib: float, about: str) -> str:
    """Markdown."""
    names = list(next(iter(rows.values())))
    compared = len(names) == 2
    titles = [
        "edges",
        *(f"{name}, ms" for name in names),
        "ns per edge",
        *["torch / jdeq"][:compared],
    ]
    lines = ["| " + " | ".join(titles) + " |", "|" + " ---: |" * len(titles)]
    for edges, row in rows.items():
        cells = [f"{edges:,}", *(f"{row[name]:.3g}" for name in names)]
        cells.append(f"{1e6 * row['jdeq'] / edges:.3g}")
        cells += [f"{row['torch'] / row['jdeq']:.2f}"] if compared else []
        lines.append("| " + " | ".join(cells) + " |")
    slopes = ", ".join(f"{name} {slope(rows, name):.2f}" for name in names)
    ratios = [row["torch"] / row["jdeq"] for row in rows.values()] if compared else []
    mean = math.exp(np.mean(np.log(ratios))) if ratios else 0.0
    text = f" Geometric mean of torch / jdeq: {mean:.2f}." if ratios else ""
    return (
        f"Milliseconds per iteration of `relu(A^T z W + b)`, {FEATURES} features, {DEGREE} edges "
        "per node, float32; torch: `torch.sparse` in CSR, the same threads, in turns.\n\n"
        + "\n".join(lines)
        + f"\n\nSlope of the time against edges, both as logarithms: {slopes}.{text}\n\n"
        f"The most memory of a process that makes a training step of an implicit layer by the "
        f"exact gradient, at {max(rows):,} edges: {gib:.2f} GiB (at most {MOST_GIB}).\n\n{about}\n"
    )


def draw(path: pathlib.Path, rows: dict[int, dict[str, float]], about: str) -> None:
    """Time against edges."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for name in next(iter(rows.values())):
        label = f"{name}: slope {slope(rows, name):.2f}"
        values = [row[name] for row in rows.values()]
        axes.loglog(list(rows), values, "o-", color=COLOURS[name], label=label)
    axes.set_xlabel("edges")
    axes.set_ylabel("ms per iteration")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.supxlabel(about, fontsize=8)
    FigureCanvasAgg(figure).print_png(str(path))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.graphs", description=__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="edges of the graphs")
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that it runs")
    parser.add_argument("--train", type=int, help=argparse.SUPPRESS)
    folder = pathlib.Path(__file__).parent / "results"
    parser.add_argument("--out", type=pathlib.Path, default=folder, help="folder of the results")
    args = parser.parse_args(argv)
    if args.train is not None:
        train(args.train)
        return
    if len(args.sizes) < 2 or min(args.sizes) < DEGREE:
        parser.error(f"--sizes must be two or more numbers, {DEGREE} or more each")
    with_torch = importlib.util.find_spec("torch") is not None
    if not with_torch:
        print("torch is not installed: left out")
    here = machine()
    rows = {}
    for edges in sorted(args.sizes):
        effort = QUICK if args.quick else Effort(seconds=5)
        rows[edges] = times(edges, effort, here["threads"], with_torch=with_torch)
        print(f"{edges:,} edges: {', '.join(f'{k} {v:.3g} ms' for k, v in rows[edges].items())}")
    gib = measured_peak(max(rows))
    versions = ", ".join(f"{k} {v}" for k, v in here["versions"].items() if k in ("jax", "torch"))
    about = f"{here['date']}, {here['cpu']}, {here['threads']} threads, {versions}"
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "graphs.md").write_text(text := report(rows, gib, about))
    draw(args.out / "graphs.png", rows, about)
    print(f"\n{text}")


if __name__ == "__main__":
    main()
