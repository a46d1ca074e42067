"""TorchDEQ on a device, with `f` as it is written or compiled."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo
import torch._functorch.config

from benchmarks.speed import by_torchdeq, torch_ops
from benchmarks.speed.function import Function
from benchmarks.speed.runs import Run, Task
from benchmarks.speed.verify import WrongSolution


class TorchDEQ(by_torchdeq.TorchDEQ):
    """Args:
    device: where arrays are, "cuda" or "cpu".
    compiles: put `f` through `torch.compile`.
    """

    def __init__(self, device: str, *, compiles: bool):
        self.name = "torchdeq, f compiled" if compiles else "torchdeq"
        self.device, self.compiles = device, compiles

    def prepare(self, function: Function, task: Task, tol: float) -> Run:
        with torch.device(self.device):
            run = super().prepare(self.shown(function), task, tol)

        def call(tol: float, backward_tol: float):
            try:
                out = run.call(tol, backward_tol)
                self.wait()
            except RuntimeError as error:  # no kernel for a dtype, no memory, no compiler
                raise WrongSolution(str(error).splitlines()[0][:200]) from error
            return out

        return dataclasses.replace(run, call=call)

    def bare(self, function: Function) -> "TorchBare":
        return TorchBare(self, function)

    def shown(self, function: Function) -> Function:
        """The function with its formula compiled, if that is wanted."""
        if not self.compiles:
            return function
        return dataclasses.replace(function, formula=compiled(function.formula))

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


@functools.lru_cache(maxsize=1)
def compiled(formula: Callable[..., Any]) -> Callable[..., Any]:
    """The formula over torch's operations, compiled at its first calls."""
    torch._dynamo.reset()  # it keeps few programs of one piece of code
    # TorchDEQ's backward goes through the same graph many times
    torch._functorch.config.donated_buffer = False
    inner = torch.compile(
        lambda theta, graph, z: formula(torch_ops, theta, graph, z), dynamic=False
    )
    return lambda _, theta, graph, z: inner(theta, graph, z)


class TorchBare:
    """`f` alone, in a Python loop."""

    def __init__(self, library: TorchDEQ, function: Function):
        self._wait = library.wait
        with torch.device(library.device):
            self._bare = by_torchdeq.TorchBare(library.shown(function))

    def evaluations(self, n: int) -> object:
        out = self._bare.evaluations(n)
        self._wait()
        return out

    def products(self, n: int) -> object:
        out = self._bare.products(n)
        self._wait()
        return out
