"""The language model's variables under the names of TorchDEQ's `deq-lm` and `deq-seq`."""

from collections.abc import Mapping

import numpy as np
from flax import nnx

from zoo.lm.config import LMConfig
from zoo.lm.model import LanguageModel
from zoo.upstream.names import TorchNames
from zoo.upstream.transfer import export_state_dict, import_arrays

RULES = (
    # the equilibrium function sits inside the DEQ layer, and inside its weight norm if it has one
    (r"^equilibrium\.cell\.module\.(.*)\.kernel$", r"func.\1.weight_v"),
    (r"^equilibrium\.cell\.scales\.(.*)$", r"func.\1.weight_g"),
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


def torch_names(config: LMConfig) -> TorchNames:
    """The table for a model of these sizes."""
    tied = {}
    if config.tied:
        tied |= {
            f"crit.out_layers.{i}.weight": f"word_emb.emb_layers.{i}.weight"
            for i in range(config.n_tables)
        }
    if config.projected:
        tied |= {
            f"crit.out_projs.{i}.weight": f"word_emb.emb_projs.{config.table_of(i)}.weight"
            for i in config.tied_projections
        }
    seq = config.design == "deq_seq"
    return TorchNames(
        rules=RULES + (SEQ_RULES if seq else ()),
        as_is=AS_IS,
        pointwise=POINTWISE if seq else r"(?!)",
        tied=tied,
    )


def import_state_dict(model: LanguageModel, arrays: Mapping[str, np.ndarray]) -> None:
    """Overwrites the model's arrays, in place; raises as `zoo.upstream.transfer.import_arrays`."""
    import_arrays(model, arrays, torch_names(model.config))
    model.vocabulary.split_tied()


def lm_state_dict(model: LanguageModel) -> dict[str, np.ndarray]:
    """The inverse: the model's arrays under all of their PyTorch names."""
    whole = nnx.clone(model)
    whole.vocabulary.merge_tied()
    return export_state_dict(whole, torch_names(model.config))
