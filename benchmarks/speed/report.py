"""The results in Markdown."""

from typing import Any

from .results import Results
from .runs import ANDERSON_M, BROYDEN_MEMORY, MAX_ITER, PHANTOM_STEPS, RESTART
from .sections import SECTIONS
from .summary import Row, f_ratio, lines, losses, title
from .verify import GRADIENT_FACTOR

COLUMNS = {  # of a grid row's libraries
    "residual": "{:.1e}",
    "gradient_error": "{:.1e}",
    "evaluations": "{}",
    "products": "{}",
    "total_ms": "{:.2f}",
    "bare_ms": "{:.2f}",
    "overhead": "{:.2f}",
    "own_ms": "{:.2f}",
}
GRID_NOTES = f"""float32. Every solve has room for {MAX_ITER} iterations; Anderson mixes
{ANDERSON_M}, the phantom gradient takes {PHANTOM_STEPS} steps, unrolled in jdeq as they
are in torch. `Broyden` keeps all its steps, `Broyden, memory {BROYDEN_MEMORY}` so many.
Calls are jitted in JAX, eager in torch; the libraries of a row take turns, and the times are
medians.

- residual: the worst sample's `|f(z) - z| / |f(z)|`, evaluated by NumPy in float64. A solve that
  does not reach the tolerance is not timed. jdeq and TorchDEQ (`f_stop_mode="rel"`,
  `core="sliced"`) stop by that rule; jaxopt and optimistix by one norm of the whole batch, with the
  loosest tolerance, on a ladder of halvings, whose residual is small enough.
- gradient: its distance from the implicit gradient found by plain iteration, relative. For IFT at
  most {GRADIENT_FACTOR} times the tolerance. The backward tolerances of jaxopt and optimistix are
  searched likewise, for the loosest whose error is that of jdeq or the tolerance, if that is more;
  their GMRES looks at its residual every {RESTART} products.
- f: evaluations of `f`; J: products with its transposed Jacobian by `z`, both counted as they run.
  `f + J ms` is the time of as many in a bare loop of the same library (the last product, by the
  weights, is not in it); overhead is total / that, own the difference.
- `IFT: default` leaves the choice of the backward solver to the library, but not the tolerance.
  For jaxopt these are conjugate gradients on the normal equations; optimistix would build the
  Jacobian matrix of the whole batch, 1 GB for the smallest function here, and has no such row.
- jaxopt and optimistix take the batch as one system: jaxopt's Anderson has one set of weights for
  all samples. optimistix has fixed point iteration only; its Newton methods are no counterparts."""

WHY = """Why, from profiles of the compiled programs:

- An evaluation or two more than jaxopt and optimistix (15 against 14, 10 against 8): jdeq measures
  every state it may return, and the peers' tolerances were searched on a ladder for the loosest
  that is enough. Their fixed point iterations are the same loop otherwise.
- Anderson: one set of weights per sample. At D=1024 an iteration of jdeq has, beside 830 us of f,
  two products with the histories (35 us each), ten passes over the state (7 to 40 us: the residual,
  the best state so far, the differences), four copies of it (9 to 27 us) and 40 us of small arrays.
- Broyden at D=1024: of 450 us beside f, 220 are its two reads of the history, at the 50 GB/s that
  the cache gives to one thread or two, the rest 65 operations of 1 to 35 us. With room for no more
  than what is filled (`max_iter=23`) the overhead is 1.46 where it is 1.61 with room for 50.
- tiny, graph: `Broyden` and GMRES hold 51 and 32 vectors, and as many rows of small matrices for
  each of 65,536 samples. Half of their own time is the first touch of that memory, 4 KB at a time.
  Huge pages (README) save up to 40 %; `memory=10` takes a third of the time.
- `IFT: default`: TorchDEQ's is plain iteration; jdeq's is GMRES, which makes as many products or
  fewer, but finds room for its basis and orthogonalises it: more than it saves where f is cheap or
  contracts well. It also arrives where plain iteration diverges; where f is known to contract,
  `IFT(solver="fixed_point_iter")` is faster.
- phantom: the reverse mode of f itself. In the transformer XLA computes the GELU's derivative in
  the order of the product that follows, six arrays read against the grain: 24 ms a
  step when profiled as a loop.
- Images: XLA's convolutions on a CPU take about twice as long as oneDNN's, see the column of f.
  Their reverse mode is `zoo.nn.convolution`'s; the forward mode that jaxopt's default needs as
  well is slow on a CPU, with it and without."""


def markdown(results: Results) -> str:
    """All sections that have rows."""
    machine = results.machine
    versions = ", ".join(f"{name} {v}" for name, v in machine["versions"].items())
    out = [
        "# Speed",
        f"`python -m benchmarks`; {machine['date']}, {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['threads']} threads in XLA and in torch (OMP_WAIT_POLICY "
        f"{machine['omp_wait_policy']}), Python {machine['python']}, {versions}.",
    ]
    for name, section in SECTIONS.items():
        rows = results.rows(name)
        if not rows:
            continue
        if name == "grid":
            out += ["## Grid", GRID_NOTES, *grid(list(rows.values()))]
        else:
            out += [f"## {name.capitalize()}", section.NOTES, table(rows)]
    return "\n\n".join(out) + "\n"


def grid(rows: list[Row]) -> list[str]:
    """Summary, lost rows, and a line for each library of each row."""
    out = ["### Summary", "\n".join(f"- {line}" for line in lines(rows))]
    lost = losses(rows)
    if lost:
        out += ["Rows where a peer is faster (below 0.95):", "\n".join(f"- {x}" for x in lost), WHY]
    head = (
        "row",
        "library",
        "residual",
        "gradient",
        "f",
        "J",
        "total ms",
        "f + J ms",
        "overhead",
        "own ms",
        "f alone, torch / JAX",
    )
    body = []
    for row in rows:
        ratio = f_ratio(row)
        for name, entry in row["libraries"].items():
            cells = [form.format(entry[k]) if k in entry else "" for k, form in COLUMNS.items()]
            if "failure" in entry:
                cells[0] = entry["failure"]
            body.append((title(row), name, *cells, "" if ratio is None else f"{ratio:.2f}"))
    return [*out, "### Rows", lay_out(head, body)]


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Any other section: a column for each key, in order of appearance; lists are for plots."""
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    columns = [c for c in columns if not any(isinstance(r.get(c), list) for r in rows.values())]
    body = [(name, *(shown(row.get(c)) for c in columns)) for name, row in rows.items()]
    return lay_out(("", *columns), body)


def shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def lay_out(head: tuple[str, ...], body: list[tuple[str, ...]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    marks = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, tuple(marks), *body))


def brief(row: Row) -> list[str]:
    """A row as it is done, in the terminal."""
    if "libraries" not in row:
        return [", ".join(f"{k} {shown(v)}" for k, v in row.items() if not isinstance(v, list))]
    out = []
    for name, entry in row["libraries"].items():
        if "failure" in entry:
            out.append(f"{name:>10}  {entry['failure']}")
            continue
        figures = (f"{k} {form.format(entry[k])}" for k, form in COLUMNS.items() if k in entry)
        out.append(f"{name:>10}  {', '.join(figures)}")
    return out
