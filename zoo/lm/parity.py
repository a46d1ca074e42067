"""What the PyTorch original computes of a text, and this model again, to the last digits."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from zoo.lm.memory import Memory
from zoo.lm.model import LanguageModel
from zoo.lm.parity_parts import dropout_rows, function_rows, vocabulary_rows
from zoo.upstream.files import Arrays
from zoo.upstream.reference import Reference
from zoo.upstream.rows import Row
from zoo.upstream.runs import Run, recorded_runs
from zoo.upstream.torchdeq import probed_jac_reg


def quantities(reference: Reference) -> Iterator[Row]:
    """The parts at recorded states, then runs over consecutive segments with their memory."""
    runs, model = recorded_runs(reference), reference.model()
    texts, k = [], 0
    while f"seg{k}_data" in reference:
        texts.append([jnp.asarray(reference[f"seg{k}_{part}"]) for part in ("data", "target")])
        k += 1
    yield from function_rows(reference, model)
    yield from dropout_rows(reference, model)
    yield from vocabulary_rows(reference, model, texts[-1][0])
    # of the unrolled run, else of the implicit one, losses are recorded in another order as well
    kinds = [run for kind in ("unroll", "ift") for run in runs if run.name.startswith(kind)]
    for run in runs:
        yield from _run_rows(reference, model, run, texts, reordered=run in kinds[:1])


def _run_rows(
    reference: Reference,
    model: LanguageModel,
    run: Run,
    texts: Sequence[Sequence[Array]],
    *,
    reordered: bool,
) -> Iterator[Row]:
    sizes, (function, equilibrium, _) = reference.sizes, reference.tolerances
    tolerance = equilibrium if run.tight else function
    gradients = bool(run.gradients)
    step = reference.step(_loss(run), train=run.train, gradients=gradients, deq=run.deq)
    memory = Memory.empty(sizes, texts[0][0].shape[0], sizes.mem_len, jnp.float64)
    for k, text in enumerate(texts):
        plain = step(memory, *text, 0.0, None)
        for gradient in (g for g in run.gradients if g.segment == k):
            outcome = plain
            if gradient.jac_weight:
                probe = jnp.asarray(reference["jacreg_v"])
                outcome = step(memory, *text, gradient.jac_weight, probe)
                jac, total = outcome.out["penalty"], outcome.loss
                losses = {"jacreg_jac_loss": jac, "jacreg_total_loss": total}
                yield from reference.rows(losses, tolerance)
            wanted = Arrays(gradient.path)
            yield reference.gradients_row(wanted, model, outcome.grads, tolerance)
        segment = plain.out
        memory = segment["memory"]
        kept = memory.z.shape[1] - int(memory.filled[0])
        got = {name: segment[name] for name in ("z_out", "nll", "loss")}
        got |= {"mem_z": memory.z[:, kept:], "mem_u": memory.u[:, kept:]}
        named = {f"{run.name}_seg{k}_{name}": value for name, value in got.items()}
        yield from reference.rows(named, tolerance)

    steps, order = f"{run.name}_last_seg_nstep", "nll_in_upstream_order_last_seg"
    if steps in reference:  # counted in evaluations of f
        yield from reference.rows({steps: segment["steps"] + 1}, 0.0)
    if reordered and order in reference:
        cluster = np.searchsorted(sizes.cutoffs, text[1].ravel(), side="right")
        grouped = segment["nll"].ravel()[np.argsort(cluster, kind="stable")]
        yield from reference.rows({order: grouped.reshape(text[1].shape)}, tolerance)


def _loss(run: Run) -> Callable[..., tuple[Array, dict[str, Any]]]:
    def loss(
        model: LanguageModel, memory: Memory, tokens: Array, targets: Array, weight, probe
    ) -> tuple[Array, dict[str, Any]]:
        """`weight` is that of the Jacobian penalty, made with a recorded `probe` if there is one.

        Returns, besides: state (B, L, D), NLL (B, L), loss and penalty () apart, the memory
        afterwards, and the solver's steps (B,).
        """
        context = model.encode(tokens, memory)
        z, info = run.solve(model.equilibrium, context)
        nlls = [model.vocabulary.nll(model.decode(s), targets) for s in info.states or (z,)]
        loss = model.equilibrium.correction(jnp.mean, nlls)
        penalty = jnp.zeros_like(loss)
        if probe is not None:
            penalty = probed_jac_reg(model.equilibrium.f(context), z, probe)
        memory, steps = memory.extended(z, context.u), info.steps
        out = dict(z_out=z, nll=nlls[-1], loss=loss, penalty=penalty, memory=memory, steps=steps)
        return loss + weight * penalty, out

    return loss
