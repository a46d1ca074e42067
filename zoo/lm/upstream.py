"""The configuration of the PyTorch original, as its sheets and reference folders give it."""

from collections.abc import Mapping
from typing import Any

from zoo.errors import UserError
from zoo.lm.config import LMConfig
from zoo.upstream.reference import check_fields

SAME = (  # fields that have the same name and meaning here
    "n_token",
    "n_head",
    "d_model",
    "d_inner",
    "dropout",
    "dropatt",
    "tgt_len",
    "mem_len",
    "local_size",
    "tied",
    "div_val",
    "cutoffs",
)
REQUIRED = (*SAME, "n_layer", "d_head", "d_embed", "tie_projs", "norm_type")
OF_THE_RUN = ("batch", "n_seg")
SEQ_ONLY = ("eval_n_layer", "pre_lnorm")
DEQ_KEYS = ("deq_args_tight", "deq_args")


def model_config(content: Mapping[str, Any]) -> LMConfig:
    """Sizes of the model.

    Raises:
        UserError: a field is missing, unknown, or has a value that is not possible; the text
            names it.
    """
    meta = content.get("meta")
    design = meta.get("model") if isinstance(meta, Mapping) else None
    required = REQUIRED + (SEQ_ONLY if design == "deq_seq" else ())
    fields = check_fields("upstream_config", content.get("upstream_config"), required, OF_THE_RUN)
    heads, width = fields["n_head"], fields["d_head"]
    try:
        if heads * width != fields["d_model"]:
            raise UserError(f"upstream_config: d_head {width} times n_head {heads} is not d_model")
        return LMConfig(
            design=design,  # pyright: ignore[reportArgumentType]  # None is refused by name
            n_layer=1 if design == "deq_seq" else fields["n_layer"],
            d_embed=fields["d_embed"] or fields["d_model"],
            pre_norm=fields.get("pre_lnorm", True),
            tied_projections=_tied_projections(fields),
            eval_tgt_len=fields["tgt_len"],
            eval_mem_len=fields["mem_len"],
            remat=bool(deq_options(content).get("mem", False)),
            **{name: fields[name] for name in SAME},
        )
    except (TypeError, ValueError) as e:
        raise UserError(f"upstream_config: {e}") from e


def deq_options(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """TorchDEQ's options by name.

    Raises:
        UserError: there are none, or their norm is not that of the model's fields.
    """
    for key in DEQ_KEYS:
        options = content.get(key)
        if isinstance(options, Mapping):
            named = content["upstream_config"]["norm_type"]
            if options.get("norm_type") != named:
                raise UserError(f"{key}: norm_type is not {named!r}, as in upstream_config")
            return options
    raise UserError(f"missing: {DEQ_KEYS[0]}")


def _tied_projections(fields: Mapping[str, Any]) -> tuple[int, ...]:
    """The clusters that `tie_projs` marks; it is not read where there are no projections."""
    if fields["div_val"] == 1 and fields["d_embed"] in (None, fields["d_model"]):
        return ()
    return tuple(i for i, tied in enumerate(fields["tie_projs"]) if tied)
