"""Compares the parts of the language model: function, dropout, vocabulary."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

import jdeq
from zoo.lm.block import Blocks, Context
from zoo.lm.model import LanguageModel
from zoo.lm.positions import relative_shift, visible
from zoo.lm.reference import Reference
from zoo.lm.torch_names import torch_names
from zoo.upstream.rows import Row, compare, compare_many
from zoo.upstream.transfer import export_arrays


class FixedMask(nnx.Module):
    """Stands in for a dropout layer: multiplies by a recorded mask."""

    def __init__(self, mask: np.ndarray):
        self.mask = nnx.Variable(jnp.asarray(mask))

    def __call__(self, x: Array) -> Array:
        return x * self.mask[...]


def function_rows(reference: Reference, model: LanguageModel, tolerance: float) -> list[Row]:
    """The equilibrium function at a recorded state, part by part, and its Jacobian."""
    io, names = reference.files["io"], torch_names(reference.config)
    cell, z = folded_cell(model), jnp.asarray(reference.sequence("f_z"))
    context = _context(reference)
    kernels = export_arrays(nnx.state(cell, _is_kernel), names)
    kernels = {f"func.{name}": value for name, value in kernels.items()}
    effective = reference.files["effective_weights"].like(kernels, names.ignores)
    rows = [compare_many("effective weights", kernels, effective, tolerance)]
    parts = nnx.jit(_parts)(cell, z, context)
    for name, value in parts.items():
        if name in io or name == "f_out":
            rows.append(compare(name, value, reference.sequence(name), tolerance))
    probe = jnp.asarray(reference.sequence("jac_v"))
    jac = jax.jit(lambda z: probed_jac_reg(lambda z: cell(z, context), z, probe))(z)
    encodings = model.positions(context.encodings.shape[1])
    shifted = relative_shift(jnp.asarray(io["rel_shift_in"]))
    rows += [
        compare("jac_loss_at_f_z", jac, io["jac_loss_at_f_z"], tolerance),
        compare("f_pos_emb", encodings, reference.sequence("f_pos_emb"), tolerance),
        compare("rel_shift_out", shifted, io["rel_shift_out"], tolerance),
    ]
    if "f_attn_mask" in io:
        forbidden = ~np.asarray(context.mask[0])
        rows.append(_verdict("f_attn_mask", np.array_equal(forbidden, io["f_attn_mask"] != 0)))
    return rows


def probed_jac_reg(f, z: Array, probe: Array) -> Array:
    """`jdeq.jac_reg` with a recorded probe, like `z`, instead of a random one."""
    recorded = lambda key, shape, dtype: probe.reshape(shape).astype(dtype)
    return jdeq.jac_reg(f, z, jax.random.key(0), distribution=recorded)


def dropout_rows(reference: Reference, model: LanguageModel, tolerance: float) -> list[Row]:
    """The function with recorded masks, and which axes the masks have."""
    masks = reference.files["io"].under("drop_mask/")
    cell, z = folded_cell(model), jnp.asarray(reference.sequence("f_z"))
    rows, batch, length = [], *z.shape[:2]
    context = _context(reference)
    keys, inner = context.encodings.shape[1], reference.config.d_inner
    for i, block in enumerate(cell.blocks):
        at = "" if reference.config.traits.one_block else f".{i}"
        attention, feed_forward = block.attention, block.feed_forward
        attention_map = (batch, reference.config.n_head, length, keys)
        for module, layer, shape in (
            (attention, "dropatt", attention_map),
            (attention, "drop", z.shape),
            (feed_forward, "drop1", (batch, length, inner)),
            (feed_forward, "drop2", z.shape),
        ):
            part = "dec_attn" if module is attention else "pos_ff"
            name = f"func.{part}{at}.{layer}"
            mask = masks[name]
            if layer == "drop":
                mask = reference.tokens_first(mask)
            rows.append(_shape_row(f"mask of {name}", getattr(module, layer), shape, mask))
            setattr(module, layer, FixedMask(mask))
    mask = reference.tokens_first(masks["pos_drop"])
    layer = model.dropout.encodings
    rows.append(_shape_row("mask of pos_drop", layer, context.encodings.shape, mask))
    dropped = context.encodings * mask
    out = nnx.jit(lambda cell, z, c: cell(z, c))(cell, z, context._replace(encodings=dropped))
    return [
        compare("drop_f_pos_emb", dropped, reference.sequence("drop_f_pos_emb"), tolerance),
        compare("drop_f_out", out, reference.sequence("drop_f_out"), tolerance),
        *rows,
        *_io_dropout_rows(reference, model),
    ]


def vocabulary_rows(reference: Reference, model: LanguageModel, tolerance: float) -> list[Row]:
    """Word vectors, and the probabilities of the whole vocabulary."""
    io, vocabulary = reference.files["io"], model.vocabulary
    tokens, _ = reference.segment(reference.n_segments - 1)
    log_probs = vocabulary.log_probs(jnp.asarray(io["crit_hidden"]))
    total = jax.nn.logsumexp(log_probs, axis=-1)
    words = vocabulary.embed(tokens)
    return [
        compare("word_emb_last_seg", words, io["word_emb_last_seg"], tolerance),
        compare("crit_logprob", log_probs, io["crit_logprob"], tolerance),
        Row("crit total probability", float(jnp.max(jnp.abs(jnp.expm1(total)))), tolerance),
    ]


def folded_cell(model: LanguageModel) -> Blocks:
    """The equilibrium function with its normalised kernels, on its own."""
    cell = model.folded().equilibrium.cell
    assert isinstance(cell, Blocks)
    return cell


def _context(reference: Reference) -> Context:
    """What `f_z` is taken with; its memory is full."""
    z_memory, u, encodings = (
        jnp.asarray(reference.sequence(name)) for name in ("f_z_hist", "f_u_cat", "f_pos_emb")
    )
    batch, remembered, _ = z_memory.shape
    filled = jnp.full((batch,), remembered)
    length = u.shape[1] - remembered
    mask = visible(length, filled, remembered, reference.config.horizon)
    return Context(z_memory, u, encodings, mask)


def _parts(cell: Blocks, z: Array, context: Context) -> dict[str, Array]:
    out, parts = cell(z, context), {}
    for i, block in enumerate(cell.blocks):
        parts[f"f_after_attn_{i}"] = z = block.attend(z, context)
        parts[f"f_after_ffn_{i}"] = z = block.feed(z)
    return parts | {"f_out": out}


def _io_dropout_rows(reference: Reference, model: LanguageModel) -> list[Row]:
    """An example output is the mask itself: the input is all ones."""
    io = reference.files["io"]
    examples = {
        "iodrop_example_embedding": (model.dropout.embedding, io["iodrop_example_embedding"]),
        "iodrop_example_output": (
            model.dropout.output,
            reference.sequence("iodrop_example_output"),
        ),
    }
    rows = []
    for name, (layer, example) in examples.items():
        kept = tuple(slice(n) for n in layer.mask_shape(example.shape))
        same = np.array_equal(np.broadcast_to(example[kept], example.shape), example)
        rows.append(_verdict(name, same))
    return rows


def _shape_row(title: str, layer, shape: tuple[int, ...], mask: np.ndarray) -> Row:
    return _verdict(f"{title}: shape", layer.mask_shape(shape) == mask.shape)


def _verdict(quantity: str, ok: bool) -> Row:
    return Row(quantity, 0.0 if ok else float("inf"), 0.0)


def _is_kernel(path, value) -> bool:
    return isinstance(value, nnx.Param) and path[-1] == "kernel"
