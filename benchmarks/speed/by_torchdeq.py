"""The solves by TorchDEQ, per sample and by relative residuals, as near as its options come."""

from typing import Any

import torch
from torchdeq import get_deq

from . import torch_ops
from .function import Function
from .runs import ANDERSON_M, BROYDEN_MEMORY, MAX_ITER, PHANTOM_STEPS, Counts, Outcome, Run, Task

SOLVERS = {
    "fixed point": ("fixed_point_iter", {}),
    "Anderson": ("anderson", {"m": ANDERSON_M}),
    "Broyden": ("broyden", {}),
    f"Broyden, memory {BROYDEN_MEMORY}": ("broyden", {"LBFGS_thres": BROYDEN_MEMORY}),
}


class _Counted(torch.autograd.Function):
    """Identity that counts in `counts` how often it is passed, and how often back."""

    @staticmethod
    def forward(ctx, x, counts):
        ctx.counts = counts
        counts["evaluations"] += 1
        return x.view_as(x)

    @staticmethod
    def backward(ctx, *cotangents):
        ctx.counts["products"] += 1
        return cotangents[0], None


def backward_options(backward: str | None, tol: float) -> dict[str, Any]:
    if backward is None:
        return {}
    if backward.startswith("IFT: "):
        rule = {"b_tol": tol, "b_stop_mode": "rel", "b_max_iter": MAX_ITER}
        if backward != "IFT: default":
            rule["b_solver"], _ = SOLVERS[backward.removeprefix("IFT: ")]
        return {"ift": True, **rule}
    return {"ift": False, "grad": {"phantom": PHANTOM_STEPS, "JFB": 1}[backward], "tau": 1.0}


class TorchDEQ:
    name = "torchdeq"
    scale = None

    def __init__(self, threads: int):
        torch.set_num_threads(threads)

    def supports(self, task: Task) -> bool:
        backward = (task.backward or "phantom").removeprefix("IFT: ")
        return backward in SOLVERS or backward in ("default", "phantom", "JFB")

    def prepare(self, function: Function, task: Task, tol: float) -> Run:
        theta = torch_ops.place_theta(function.theta)
        graph = torch_ops.place_graph(function.graph)
        z0, cotangent = map(torch_ops.place_state, (function.z0, function.cotangent()))
        f = lambda *z: function.formula(torch_ops, theta, graph, z)
        name, options = SOLVERS[task.solver]
        many = len(z0) > 1  # TorchDEQ takes a list of tensors, or one

        def solve(f, tol: float, backward_tol: float):
            deq = get_deq(
                core="sliced",
                f_solver=name,
                f_max_iter=MAX_ITER,
                f_tol=tol,
                f_stop_mode="rel",
                **backward_options(task.backward, backward_tol),
            )
            deq.train(task.backward is not None)
            start = list(z0) if many else z0[0]
            z, _ = deq(f if many else lambda z: f(z)[0], start, solver_kwargs=dict(options))
            return z[-1] if many else z[-1:]

        def call(tol: float, backward_tol: float, f=f):
            if task.backward is None:
                with torch.no_grad():
                    return solve(f, tol, backward_tol)
            for a in theta.values():
                a.grad = None
                a.requires_grad_()
            z = solve(f, tol, backward_tol)
            sum((a * c).sum() for a, c in zip(z, cotangent, strict=True)).backward()
            return z

        def count(tol: float, backward_tol: float) -> Counts:
            counts = {"evaluations": 0, "products": 0}
            call(tol, backward_tol, lambda z, *others: f(_Counted.apply(z, counts), *others))
            return Counts(**counts)

        nfe: dict[tuple[float, float], int] = {}  # a count, as the library does not tell

        def call_and_remember(tol: float, backward_tol: float):
            return (tol, backward_tol), call(tol, backward_tol)

        def read(out: Any) -> Outcome:
            tols, z = out
            if tols not in nfe:
                nfe[tols] = count(*tols).evaluations
            gradient = None if task.backward is None else torch_ops.gradient_of(theta)
            return Outcome(torch_ops.state_of(z), nfe[tols], gradient)

        return Run(call_and_remember, read, count)

    def bare(self, function: Function) -> "TorchBare":
        return TorchBare(function)


class TorchBare:
    """`f` alone, in a Python loop."""

    def __init__(self, function: Function):
        theta = torch_ops.place_theta(function.theta)
        graph = torch_ops.place_graph(function.graph)
        self.z0, self.y0 = map(torch_ops.place_state, (function.z0, function.cotangent()))
        self.f = lambda z: function.formula(torch_ops, theta, graph, z)

    def evaluations(self, n: int) -> object:
        z = self.z0
        with torch.no_grad():
            for _ in range(n):
                z = self.f(z)
        return z

    def products(self, n: int) -> object:
        z = tuple(a.clone().requires_grad_() for a in self.z0)
        fz, y = self.f(z), self.y0
        for _ in range(n):
            y = torch.autograd.grad(fz, z, y, retain_graph=True)
        return y
