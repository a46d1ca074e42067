"""What the PyTorch original computes of an MDEQ, and this one again, to the last digits."""

from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array

import jdeq
from zoo.mdeq.full_stage import FullStage, State
from zoo.mdeq.model import MDEQ
from zoo.upstream.reference import Reference
from zoo.upstream.rows import Row, compare
from zoo.upstream.torchdeq import folded, solved_by


def quantities(reference: Reference) -> Iterator[Row]:
    """The function at a recorded state, then whole passes: solved tightly, and in a few steps."""
    function, equilibrium, solve = reference.tolerances
    model, n = reference.model(), reference.sizes.n_branches
    model.eval()
    yield reference.weights_row(model)
    z, u = reference.maps("f_z", n), reference.maps("eval_u", n)
    parts = _parts(model, folded(model.full_stage), z, u)
    yield from reference.rows(parts, function)

    # any solver finds it; this one in a third to a fifth of plain iteration's evaluations
    tight = solved_by("anderson", solve) | {"ift": True}
    phantom = {"ift": False} | {k: reference.entry("meta", "phantom", k) for k in ("grad", "tau")}
    few = solved_by("fixed_point_iter", 0.0) | phantom | {"f_max_iter": 6}
    passes = (  # DEQ options, what is recorded besides logits and loss, the file of gradients
        ("eval", tight, ("u", "z_star"), None),
        ("train", tight, ("u", "z_star"), "grads_ift"),
        ("phantom", tight | phantom, (), "grads_phantom"),
        ("short6", few, ("z_out",), None),
    )
    batch = jnp.asarray(reference["x"], jnp.float64), jnp.asarray(reference["y"])
    for name, deq, states, gradients in passes:
        train = name != "eval"
        step = reference.step(_loss, train=train, gradients=gradients is not None, deq=deq)
        _, out, grads, statistics = step(*batch)
        for quantity in (*states, "logits", "loss"):
            exact = function if quantity == "u" else equilibrium
            yield from reference.rows({f"{name}_{quantity}": out[quantity]}, exact)
        if gradients is not None:
            yield reference.gradients_row(reference.files[gradients], model, grads, equilibrium)
        if name == "train":
            yield reference.statistics_row("bn_after_one_train_forward/", model, statistics)

    # evaluation stops short of the phantom steps: made by hand, they lead to training's state
    then = _then(jdeq.PhantomGrad(phantom["grad"], phantom["tau"]))
    step = reference.step(then, train=False, gradients=False, deq=few)
    after = step(reference.maps("train_u", n)).out
    for i, z in enumerate(after):
        name = f"short6_z_out_{i}"
        yield compare(f"{name}, from evaluation on", z, reference[name], equilibrium)


@nnx.jit
def _parts(model: MDEQ, cell: FullStage, z: State, u: State) -> dict[str, Any]:
    return {
        "f_branch": cell.branch_outputs(z, u),
        "f_out": cell(z, u),
        "head_logits_at_f_z": model.decode(z),
    }


def _then(steps: jdeq.PhantomGrad) -> Callable[[MDEQ, State], tuple[Array, State]]:
    """Solves as the model's layer does, then takes these steps."""

    def solve(model: MDEQ, u: State) -> tuple[Array, State]:
        f, (z, _) = model.full_stage.f(u), model.full_stage(u)
        z, _ = jdeq.deq(f, z, solver=jdeq.FixedPointIter(max_iter=0), backward=steps)
        return jnp.zeros(()), z

    return solve


def _loss(model: MDEQ, x: Array, y: Array) -> tuple[Array, dict[str, Any]]:
    u = model.encode(x)
    z, _ = model.full_stage(u)
    logits = model.decode(z)
    loss = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))
    return loss, {"u": u, "z_star": z, "z_out": z, "logits": logits, "loss": loss}
