"""The functions that are solved, small ones and such as fill the card, in both dtypes."""

import dataclasses
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.typing import DTypeLike

from benchmarks.speed.function import Function
from benchmarks.speed.functions import dense, transformer
from benchmarks.speed.jax_runs import place
from benchmarks.speed.mdeq import mdeq

FUNCTIONS: dict[str, Callable[[str], Function]] = {
    "dense 64 x 1024": lambda name: dense(name, 64, 1024),
    "transformer block 4 x 128 x 256": lambda name: transformer(name, 4, 128, 256),
    "MDEQ cell, batch 96, 2 branches": lambda name: mdeq(name, 96, 32, (24, 24), expansion=5),
    "tiny 65536 x 64": lambda name: dense(name, 65536, 64, gain=0.5),
    "dense 4096 x 2048": lambda name: dense(name, 4096, 2048),
    "transformer block 32 x 512 x 1024": lambda name: transformer(name, 32, 512, 1024),
}
DTYPES: dict[str, DTypeLike] = {"float32": np.float32, "bfloat16": jax.numpy.bfloat16}


@dataclasses.dataclass(frozen=True)
class Case:
    """A function in a dtype, which is drawn when it is needed."""

    name: str
    dtype: str
    make: Callable[[str], Function]

    def __str__(self) -> str:
        return f"{self.name}, {self.dtype}"

    def function(self) -> Function:
        return self.make(self.name).cast(DTYPES[self.dtype])


def cases(*, quick: bool) -> Iterator[Case]:
    """All of them, the most telling ones first."""
    if quick:
        yield Case("dense 4 x 16", "float32", lambda name: dense(name, 4, 16))
        yield Case("dense 4 x 16", "bfloat16", lambda name: dense(name, 4, 16))
        return
    for name, make in FUNCTIONS.items():
        for dtype in DTYPES:
            yield Case(name, dtype, make)


def work(function: Function) -> tuple[float, float]:
    """Operations of one evaluation, as XLA counts them; and bytes, each array passed once.

    XLA counts for a CPU: for a GPU it answers 0.
    """
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        f, args = place(function)
        cost = jax.jit(f).lower(function.z0, args).cost_analysis()
    flops = 0.0 if cost is None else float(cost.get("flops", 0.0))
    state = sum(a.nbytes for a in function.z0)
    return flops, sum(a.nbytes for a in function.theta.values()) + 2.0 * state
