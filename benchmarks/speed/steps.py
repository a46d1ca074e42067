"""Training steps of the zoo's models, beside the same models in PyTorch on TorchDEQ."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

import jdeq

from ..gpu.zoo_runs import trainer
from ..gpu.zoo_steps import RandomBatches, random_batch
from .context import Context
from .grid import Row
from .timing import interleave

NOTES = """Whole steps: forward, backward, clipping, optimiser. The zoo's by its own trainer, the
others in plain PyTorch with TorchDEQ's layer and weight norm; random data and weights of one kind,
solves that make all of their iterations, so that both do the same work; torch flushes denormals, as
XLA does."""
UNROLLED = {"f_max_iter": 0, "grad": 12, "tau": 1.0}
IMPLICIT = {
    "ift": True,
    "f_solver": "broyden",
    "b_solver": "broyden",
    "f_max_iter": 15,
    "b_max_iter": 15,
    "f_stop_mode": "rel",
    "b_stop_mode": "rel",
    "f_tol": 1e-9,
    "b_tol": 1e-9,
}
PHANTOM = {"f_max_iter": 22, "f_tol": 1e-9, "f_stop_mode": "abs", "grad": 5, "tau": 0.5}
BOTH = PHANTOM | {"ift": True, "b_max_iter": 22, "b_tol": 1e-9, "b_solver": "broyden", "grad": 1}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], int]] = {  # model, sizes, DEQ, batch
    "transformer, 2 blocks, 12 unrolled steps": ("lm", {"n_layer": 2}, UNROLLED, 8),
    "transformer, 3 blocks, 12 unrolled steps": ("lm", {"n_layer": 3}, UNROLLED, 8),
    "transformer, post-norm block, IFT by Broyden": (
        "lm",
        {"n_layer": 1, "design": "deq_seq", "pre_norm": False},
        IMPLICIT,
        8,
    ),
    "MDEQ, plain 22, 5 phantom steps": ("mdeq", {}, PHANTOM, 32),
    "MDEQ, Broyden 22, 5 phantom steps": ("mdeq", {}, PHANTOM | {"f_solver": "broyden"}, 32),
    "MDEQ, Broyden 22, IFT by Broyden 22": ("mdeq", {}, BOTH | {"f_solver": "broyden"}, 32),
}
LM = {
    "n_head": 4,
    "d_model": 128,
    "d_inner": 512,
    "d_embed": 128,
    "n_token": 5_000,
    "cutoffs": (),
    "div_val": 1,
    "tied_projections": (),
    "dropout": 0.0,
}
QUICK = {
    "lm": {"d_model": 16, "d_inner": 32, "d_embed": 16, "n_token": 50, "n_head": 2, "tgt_len": 8},
    "mdeq": {"image_size": (8, 8), "channels": (8, 8)},
}
PRESET = {"lm": "wikitext2-small", "mdeq": "cifar-small"}


def rows(context: Context) -> Iterator[tuple[str, Row]]:
    names = [library.name for library in context.libraries]
    for name, (model, sizes, deq, batch) in CASES.items():
        if context.wanted(name):
            sizes = (LM if model == "lm" else {}) | sizes
            if context.quick:
                sizes, batch = sizes | QUICK[model], 2
            calls: dict[str, Callable[[], object]] = {}
            if "jdeq" in names:
                calls["jdeq"] = by_the_zoo(model, sizes, deq, batch)
            if "torchdeq" in names:
                calls["torchdeq"] = by_torch(model, sizes, deq, batch)
            for call in calls.values():
                call()
            times = interleave(calls, context.effort)
            row = {f"{library} ms": 1e3 * seconds for library, seconds in times.items()}
            if len(times) == 2:
                row["torchdeq / jdeq"] = times["torchdeq"] / times["jdeq"]
            yield name, row


def config_of(model: str, sizes: dict[str, Any]) -> Any:
    from zoo.registry import get_task

    return dataclasses.replace(get_task(model).presets[PRESET[model]].model, **sizes)


def by_the_zoo(model: str, sizes: dict, deq: dict, batch: int) -> Callable[[], object]:
    """A step of the zoo's trainer."""
    from zoo.data.split import Data

    config = config_of(model, sizes)
    batches = [random_batch(model, config, batch, np.random.default_rng(0))]
    split = RandomBatches(batches)
    defaults = dataclasses.asdict(jdeq.DEQConfig(norm_type="weight_norm")) | deq
    data = Data(split, split, sizes=sizes)
    run = trainer(model, PRESET[model], data, deq=defaults, batch_size=batch)

    def step() -> object:
        run.update(batches[0])
        return jax.block_until_ready(run.state)

    return step


def by_torch(model: str, sizes: dict, deq: dict, batch: int) -> Callable[[], object]:
    """The same step in PyTorch."""
    import torch

    from . import torch_lm, torch_mdeq

    torch.set_flush_denormal(True)  # as XLA does: an attention's gradient has many
    config = config_of(model, sizes)
    data = random_batch(model, config, batch, np.random.default_rng(0))
    x, y = torch.tensor(data["x"]), torch.tensor(data["y"]).long()
    if model == "mdeq":
        x, net = x.permute(0, 3, 1, 2).contiguous(), torch_mdeq.MDEQ(config, deq)
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)
    else:
        net = torch_lm.LanguageModel(config, deq)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)

    def step() -> object:
        optimizer.zero_grad()
        loss, _ = net(x, y)
        loss.backward()
        if model == "lm":
            torch.nn.utils.clip_grad_norm_(net.parameters(), 0.25)
        optimizer.step()
        return loss.item()

    return step
