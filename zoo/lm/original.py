"""The language model's originals, TorchDEQ's `deq-lm` and `deq-seq`: names and configuration."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx

from zoo.errors import UserError
from zoo.lm.config import LMConfig
from zoo.lm.model import LanguageModel
from zoo.upstream.files import Arrays, check_fields
from zoo.upstream.names import TorchNames
from zoo.upstream.original import Original

RULES = (
    # the equilibrium function sits inside the DEQ layer, and inside its weight norm if it has one
    (r"^equilibrium\.cell\.module\.(.*)\.kernel$", r"func.\1.weight_v"),
    (r"^equilibrium\.cell\.scales\.(.*)\.kernel$", r"func.\1.weight_g"),
    (r"^equilibrium\.cell\.(module\.)?", "func."),
    (r"^(func\.)?blocks\.(\d+)\.(attention|ln1)\b", r"\1dec_attn.\2.\3"),
    (r"^(func\.)?blocks\.(\d+)\.(feed_forward|ln)\b", r"\1pos_ff.\2.\3"),
    (r"\.(attention|feed_forward)\.", "."),
    (r"^positions\.", "pos_emb."),
    (r"^vocabulary\.tables\.(\d+)$", r"word_emb.emb_layers.\1.weight"),
    (r"^vocabulary\.in_projections\.(\d+)$", r"word_emb.emb_projs.\1.weight"),
    (r"^vocabulary\.out_projections\.(\d+)$", r"crit.out_projs.\1.weight"),
    (r"^vocabulary\.out_tables\.(\d+)$", r"crit.out_layers.\1.weight"),
    (r"^vocabulary\.biases\.(\d+)$", r"crit.out_layers.\1.bias"),
    (r"^vocabulary\.", "crit."),
)
SEQ_RULES = (  # one block without a number
    (r"^injection\.", "inject_conv."),
    (r"\b(dec_attn|pos_ff)\.0\.", r"\1."),
)
AS_IS = r"r_[wr]_bias$|^word_emb\.emb_layers|^crit\.(out_layers|cluster_weight)"
POINTWISE = r"(^inject_conv|\b(qkv|r|o)_net)\.weight"
FEATURES_FIRST = (  # arrays (B, features, length) of "deq_seq"
    r"^(drop_)?f_(z|u|pos|after|out)|^jac(reg)?_v$|_(z_out|mem_z|mem_u)$|^iodrop_example_output$"
    r"|^drop_mask/(pos_drop|.*\.drop)$"
)
SAME = tuple(  # fields that have the same name and meaning here
    "n_token n_head d_model d_inner dropout dropatt tgt_len mem_len local_size tied div_val "
    "cutoffs".split()
)
REQUIRED = (*SAME, "n_layer", "d_head", "d_embed", "tie_projs", "norm_type")
OF_THE_RUN = ("batch", "n_seg")
SEQ_ONLY = ("eval_n_layer", "pre_lnorm")
DEQ_KEYS = ("deq_args_tight", "deq_args")


class LMOriginal(Original):
    """See `zoo.upstream.original.Original`."""

    module = LanguageModel
    layer = "equilibrium"
    prefix = "func."

    def part(self, model: Any) -> LanguageModel:
        """What a reader reads with; the memory is no weight."""
        return getattr(model, "lm", model)

    def names(self, model: LanguageModel) -> TorchNames:
        """The table for a model of these sizes."""
        config, tied = model.config, {}
        tables, projections = "word_emb.emb_layers.{}.weight", "word_emb.emb_projs.{}.weight"
        if config.tied:
            for i in range(config.n_tables):
                tied[f"crit.out_layers.{i}.weight"] = tables.format(i)
        if config.projected:
            for i in config.tied_projections:
                tied[f"crit.out_projs.{i}.weight"] = projections.format(config.table_of(i))
        if config.design == "deq_seq":
            return TorchNames(RULES + SEQ_RULES, as_is=AS_IS, pointwise=POINTWISE, tied=tied)
        return TorchNames(RULES, as_is=AS_IS, tied=tied)

    def load(self, model: Any, arrays: Mapping[str, np.ndarray]) -> None:
        """The halves of a tied projection hold the whole array each, there."""
        super().load(model, arrays)
        self.part(model).vocabulary.split_tied()

    def state_dict(self, model: Any) -> dict[str, np.ndarray]:
        """The inverse."""
        whole = nnx.clone(self.part(model))
        whole.vocabulary.merge_tied()
        return super().state_dict(whole)

    def sizes(self, content: Mapping[str, Any]) -> LMConfig:
        """As its sheets and reference folders give them."""
        meta = content.get("meta")
        design = meta.get("model") if isinstance(meta, Mapping) else None
        seq = design == "deq_seq"
        required = REQUIRED + (SEQ_ONLY if seq else ())
        given = content.get("upstream_config")
        fields = check_fields("upstream_config", given, required, OF_THE_RUN)
        heads, width, d = fields["n_head"], fields["d_head"], fields["d_model"]
        try:
            if heads * width != d:
                raise ValueError(f"d_head {width} times n_head {heads} is not d_model")
            # `tie_projs` is not read where there are no projections
            projected = fields["div_val"] != 1 or fields["d_embed"] not in (None, d)
            tied = [i for i, tied in enumerate(fields["tie_projs"]) if tied and projected]
            return LMConfig(
                design=design,  # pyright: ignore[reportArgumentType]  # None is refused by name
                n_layer=1 if seq else fields["n_layer"],
                d_embed=fields["d_embed"] or d,
                pre_norm=fields.get("pre_lnorm", True),
                tied_projections=tuple(tied),
                eval_tgt_len=fields["tgt_len"],
                eval_mem_len=fields["mem_len"],
                remat=bool(self.deq_options(content).get("mem", False)),
                **{name: fields[name] for name in SAME},
            )
        except (TypeError, ValueError) as e:
            raise UserError(f"upstream_config: {e}") from e

    def deq_options(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Their norm must be that of the model's fields."""
        key = next((k for k in DEQ_KEYS if isinstance(content.get(k), Mapping)), None)
        if key is None:
            raise UserError(f"missing: {DEQ_KEYS[0]}")
        named = content["upstream_config"]["norm_type"]
        if content[key].get("norm_type") != named:
            raise UserError(f"{key}: norm_type is not {named!r}, as in upstream_config")
        return content[key]

    def recorded_sizes(self, sizes: LMConfig, io: Arrays) -> LMConfig:
        """All runs are recorded without dropout; there are masks for it apart."""
        return dataclasses.replace(sizes, dropout=0.0, dropatt=0.0)

    def layout(self, sizes: LMConfig, name: str, array: np.ndarray) -> np.ndarray:
        """States are (B, length, features) here."""
        swap = sizes.design == "deq_seq" and re.search(FEATURES_FIRST, name)
        return array.swapaxes(-1, -2) if swap else array
