"""Compares the parts of the language model: function, dropout, vocabulary."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from zoo.lm.block import Blocks, Context
from zoo.lm.model import LanguageModel
from zoo.lm.positions import relative_shift, visible
from zoo.upstream.reference import Reference
from zoo.upstream.rows import Row, verdict
from zoo.upstream.torchdeq import FixedMask, folded, probed_jac_reg


def function_rows(reference: Reference, model: LanguageModel) -> Iterator[Row]:
    """The equilibrium function at a recorded state, part by part, and its Jacobian."""
    yield reference.weights_row(model)
    cell, z, context = _recorded(reference, model)
    parts = nnx.jit(_parts)(cell, z, context)
    got = {name: value for name, value in parts.items() if name in reference}
    probe = jnp.asarray(reference["jac_v"])
    got["jac_loss_at_f_z"] = jax.jit(
        lambda z: probed_jac_reg(lambda z: cell(z, context), z, probe)
    )(z)
    got["f_pos_emb"] = model.positions(context.encodings.shape[1])
    got["rel_shift_out"] = relative_shift(jnp.asarray(reference["rel_shift_in"]))
    got["f_out"] = parts["f_out"]
    yield from reference.rows(got, reference.tolerances.function)
    if "f_attn_mask" in reference:
        forbidden = reference["f_attn_mask"] != 0
        yield verdict("f_attn_mask", np.array_equal(~context.mask[0], forbidden))


def dropout_rows(reference: Reference, model: LanguageModel) -> Iterator[Row]:
    """The function with recorded masks, and which axes the masks have."""
    cell, z, context = _recorded(reference, model)
    (batch, length, _), sizes = z.shape, reference.sizes
    attention_map = (batch, sizes.n_head, length, context.encodings.shape[1])
    for i, block in enumerate(cell.blocks):
        at = "" if sizes.traits.one_block else f".{i}"
        for module, part, layer, shape in (
            (block.attention, "dec_attn", "dropatt", attention_map),
            (block.attention, "dec_attn", "drop", z.shape),
            (block.feed_forward, "pos_ff", "drop1", (batch, length, sizes.d_inner)),
            (block.feed_forward, "pos_ff", "drop2", z.shape),
        ):
            name = f"drop_mask/func.{part}{at}.{layer}"
            yield _shape_row(reference, name, getattr(module, layer), shape)
            setattr(module, layer, FixedMask(reference[name]))
    name, encodings = "drop_mask/pos_drop", context.encodings
    yield _shape_row(reference, name, model.dropout.encodings, encodings.shape)
    dropped = encodings * reference[name]
    out = nnx.jit(lambda cell, *args: cell(*args))(cell, z, context._replace(encodings=dropped))
    got = {"drop_f_pos_emb": dropped, "drop_f_out": out}
    yield from reference.rows(got, reference.tolerances.function)
    for part in ("embedding", "output"):
        name, layer = f"iodrop_example_{part}", getattr(model.dropout, part)
        example = reference[name]  # the mask itself: the input was all ones
        kept = tuple(slice(n) for n in layer.mask_shape(example.shape))
        same = np.array_equal(np.broadcast_to(example[kept], example.shape), example)
        yield verdict(name, same)


def vocabulary_rows(reference: Reference, model: LanguageModel, tokens: Array) -> Iterator[Row]:
    """Word vectors, and the probabilities of the whole vocabulary."""
    vocabulary, tolerance = model.vocabulary, reference.tolerances.function
    log_probs = vocabulary.log_probs(jnp.asarray(reference["crit_hidden"]))
    got = {"word_emb_last_seg": vocabulary.embed(tokens), "crit_logprob": log_probs}
    yield from reference.rows(got, tolerance)
    total = jax.nn.logsumexp(log_probs, axis=-1)
    yield Row("crit total probability", float(jnp.max(jnp.abs(jnp.expm1(total)))), tolerance)


def _recorded(reference: Reference, model: LanguageModel) -> tuple[Blocks, Array, Context]:
    """The function, and what it was recorded with: state and context; the memory is full."""
    names = ("f_z", "f_z_hist", "f_u_cat", "f_pos_emb")
    z, z_memory, u, encodings = (jnp.asarray(reference[name]) for name in names)
    batch, remembered, _ = z_memory.shape
    filled = jnp.full((batch,), remembered)
    mask = visible(u.shape[1] - remembered, filled, remembered, reference.sizes.horizon)
    return folded(nnx.clone(model).equilibrium), z, Context(z_memory, u, encodings, mask)


def _parts(cell: Blocks, z: Array, context: Context) -> dict[str, Array]:
    parts = {"f_out": cell(z, context)}
    for i, block in enumerate(cell.blocks):
        parts[f"f_after_attn_{i}"] = z = block.attend(z, context)
        parts[f"f_after_ffn_{i}"] = z = block.feed(z)
    return parts


def _shape_row(reference: Reference, name: str, layer, shape: tuple[int, ...]) -> Row:
    return verdict(f"{name}: shape", layer.mask_shape(shape) == reference[name].shape)
