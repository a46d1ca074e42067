"""What the grid says as a whole: geometric means, and where jdeq loses."""

import math
from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]
Pairs = list[tuple[Row, dict[str, Any], dict[str, Any]]]
LOSES = 0.95
LEAST_OWN = 0.01  # own time is taken as at least this part of f's: it may be lost in the noise


def geometric_mean(values: Iterable[float]) -> float:
    logs = [math.log(v) for v in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def measured(row: Row, name: str) -> dict[str, Any] | None:
    """A library's figures, if it has the row and solved it."""
    entry = row["libraries"].get(name)
    return entry if entry and "failure" not in entry else None


def pairs(rows: Iterable[Row], peer: str) -> Pairs:
    """The rows that jdeq and the peer both solved."""
    found = []
    for row in rows:
        mine, other = measured(row, "jdeq"), measured(row, peer)
        if mine and other:
            found.append((row, mine, other))
    return found


def own(entry: dict[str, Any]) -> float:
    return max(entry["own_ms"], LEAST_OWN * entry["bare_ms"])


def f_ratio(row: Row) -> float | None:
    """Time of `f` in torch over that in JAX."""
    jax, torch = measured(row, "jdeq"), measured(row, "torchdeq")
    return torch["f_ms"] / jax["f_ms"] if jax and torch else None


def lines(rows: list[Row]) -> list[str]:
    """One sentence each."""
    out = []
    peers = sorted({name for row in rows for name in row["libraries"]} - {"jdeq"})
    forward = [row for row in rows if row["backward"] is None]
    implicit = [row for row in rows if (row["backward"] or "").startswith("IFT")]
    for solver in dict.fromkeys(row["solver"] for row in forward):
        parts = []
        for name in ("jdeq", *peers):
            entries = [measured(row, name) for row in forward if row["solver"] == solver]
            overheads = [entry["overhead"] for entry in entries if entry]
            if overheads:
                parts.append(f"{name} {geometric_mean(overheads):.2f}")
        out.append(f"{solver}, forward, total / time of as many f: {', '.join(parts)}.")
    for peer in peers:
        solved = pairs(forward, peer)
        if not solved:
            continue
        owns = geometric_mean(own(other) / own(mine) for _, mine, other in solved)
        out.append(
            f"{peer} / jdeq, forward, {len(solved)} rows: own time {owns:.2f}, {totals(solved)}."
        )
        for what, chosen in implicit_groups(implicit).items():
            solved = pairs(chosen, peer)
            if solved:
                out.append(f"{peer} / jdeq, {what}, {len(solved)} rows: {totals(solved)}.")
    return out


def totals(solved: Pairs) -> str:
    """How the total times compare, and how they would if jdeq took its evaluations' time only."""
    now, most = (
        geometric_mean(other["total_ms"] / mine[part] for _, mine, other in solved)
        for part in ("total_ms", "bare_ms")
    )
    return f"total {now:.2f}, {most:.2f} if jdeq's own time were nothing"


def implicit_groups(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows with implicit gradients, by what is compared."""
    default = [row for row in rows if row["backward"] == "IFT: default"]
    return {
        "forward + IFT by the same backward solver": [row for row in rows if row not in default],
        "forward + IFT by its default backward solver": default,
        "forward + IFT by its fastest backward solver": fastest(rows),
    }


def fastest(rows: list[Row]) -> list[Row]:
    """A row for each function, solver and tolerance, with the fastest of each library."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = row["function"], row["solver"], row["tol"]
        best = found.setdefault(key, {**row, "libraries": {}})["libraries"]
        for name in row["libraries"]:
            entry = measured(row, name)
            if entry and (name not in best or entry["total_ms"] < best[name]["total_ms"]):
                best[name] = entry
    return list(found.values())


def losses(rows: list[Row]) -> list[str]:
    """Rows in which a peer is faster, with what jdeq's time has to be divided by."""
    out = []
    for peer in sorted({name for row in rows for name in row["libraries"]} - {"jdeq"}):
        for row, mine, other in pairs(rows, peer):
            ratio = other["total_ms"] / mine["total_ms"]
            if ratio < LOSES:
                f = other["f_ms"] / mine["f_ms"]
                out.append(f"{title(row)}: {peer} / jdeq {ratio:.2f} (f alone {f:.2f})")
    return out


def title(row: Row) -> str:
    backward = "" if row["backward"] is None else f" + {row['backward']}"
    return f"{row['function']}, {row['solver']}{backward}, {row['tol']:.0e}"
