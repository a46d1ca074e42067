"""The original, TorchDEQ's `ignn`: its names and its configuration."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from zoo.errors import UserError
from zoo.ignn.config import IGNNConfig
from zoo.ignn.model import IGNN
from zoo.upstream.files import Arrays, check_fields
from zoo.upstream.names import TorchNames
from zoo.upstream.original import Original

NAMES = {"w": "W", "omega_1": "Omega_1", "omega_2": "Omega_2"}
KERNELS = {"none": "", "weight_norm": "_v", "spectral_norm": "_orig"}  # what their names end in
FIELDS = ("nfeat", "nhid", "nclass", "num_node", "dropout", "kappa")
KINDS: Mapping[str, Any] = {  # of cases: form, labels
    "ppi": ("stack", "any"),
    "chains": ("nodes", "class"),
    "amazon": ("nodes", "top"),
    "graph": ("graphs", "class"),
}
STATES = r"/(f_in|f_out|z_init|z_star|z_out)$"
START = "X_0"


class FileName(str):
    """A name of this program for a file that is called otherwise in a reference folder."""

    file: str

    @classmethod
    def of(cls, name: str, file: str) -> "FileName":
        made = cls(name)
        made.file = file
        return made

    def __format__(self, spec: str) -> str:
        return format(self.file, spec)


@dataclasses.dataclass(frozen=True)
class IGNNNames(TorchNames):
    """Names of which `vectors` is a pattern for singular vectors, that have one axis there."""

    vectors: str = r"(?!)"

    def to_torch(self, name: str, value: np.ndarray) -> np.ndarray:
        if re.search(self.vectors, name):
            return value.reshape(-1)
        return super().to_torch(name, value)

    def from_torch(self, name: str, value: np.ndarray) -> np.ndarray:
        if re.search(self.vectors, name):
            return value[None] if name.endswith("u") else value[:, None]
        return super().from_torch(name, value)


class IGNNOriginal(Original):
    """See `zoo.upstream.original.Original`."""

    module = IGNN
    files = (FileName.of("state", "state_dict"), FileName.of("io", "golden"))

    def names(self, model: IGNN) -> TorchNames:
        """The table for a model of this form, in this norm."""
        form, norm = model.config.form, model.deq.norm_type
        rules = [
            (r"^layers\.0\.x_0$", START),
            (r"^layers\.(\d+)\.weights\.(module\.)?unread\.bias$", r"layers.\1.bias"),
            (r"\bunread\b", "omega_2"),
            (
                r"^layers\.(\d+)\.weights\.(module\.)?(\w+)\.kernel$",
                rf"layers.\1.\3{KERNELS[norm]}",
            ),
            (r"^layers\.(\d+)\.weights\.scales\.(\w+)\.kernel$", r"layers.\1.\2_g"),
            (r"^layers\.(\d+)\.weights\.vectors\.(\w+)\.kernel\.([uv])$", r"layers.\1.\2_\3"),
            *(
                (rf"^(layers\.\d+)\.{ours}(?![^_])", rf"\1.{theirs}")
                for ours, theirs in NAMES.items()
            ),
        ]
        if form == "stack":
            rules += [(r"^layers\.", "ignn."), (r"^skips\.", "proj.")]
        else:
            rules += [(rf"^layers\.{i}\.", f"ig{i + 1}.") for i in range(len(model.layers))]
            rules += [(r"^hidden\.", "V_0."), (r"^last\.", "V_1." if form == "graphs" else "V.")]
        vectors = r"_[uv]$" if norm == "spectral_norm" else r"(?!)"
        kept = r"(?!)" if model.config.keeps_start else rf"^{START}$"
        return IGNNNames(tuple(rules), ignored=kept, vectors=vectors)

    def load(self, model: IGNN, arrays: Mapping[str, np.ndarray]) -> None:
        """Whatever projections have moved is in the arrays."""
        super().load(model, arrays)
        for layer in _projecting(model):
            layer.moved[...] = jnp.zeros_like(layer.moved[...])

    def state_dict(self, model: IGNN) -> dict[str, np.ndarray]:
        """The inverse."""
        model = nnx.clone(model)
        for layer in _projecting(model):
            layer.weights.w.kernel[...] += layer.moved[...]
        arrays = super().state_dict(model)
        config = model.config
        if config.form == "nodes" and config.n_nodes and not config.explicit:
            zeros = np.zeros((config.widths[0], config.n_nodes), np.float32)
            arrays.setdefault(START, zeros)
        return arrays

    def sizes(self, content: Mapping[str, Any]) -> IGNNConfig:
        """As the constructor's arguments and the name of the case give them."""
        given = content.get("upstream_config", content.get("constructor"))
        fields = check_fields("constructor", given, FIELDS)
        case = str(content.get("case", ""))
        kind = next((kind for kind in KINDS if case.startswith(kind)), None)
        if kind is None:
            raise UserError(f"case is {case!r}, expected one that begins with {', '.join(KINDS)}")
        return _sized(kind, fields)

    def recorded_sizes(self, sizes: IGNNConfig, io: Arrays) -> IGNNConfig:
        """As many features as were recorded."""
        if "input/x" in io and io["input/x"].shape[1:] != (sizes.n_features,):
            shape = io["input/x"].shape
            raise UserError(f"{io.path}: input/x is {shape}, expected {sizes.n_features} features")
        return sizes

    def layout(self, sizes: IGNNConfig, name: str, array: np.ndarray) -> np.ndarray:
        """States are (1, nodes, features) here, and kernels (inputs, outputs)."""
        if re.search(STATES, name):
            return array.T[None]
        return array.T if name.endswith("_eff") else array

    def deq_options(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Those that the original was trained with."""
        return content.get("deq_args") or content["deq_args_upstream"]


def _projecting(model: IGNN) -> list[Any]:
    """The layers whose parameters have been moved."""
    return [layer for layer in model.layers if getattr(layer, "moved", None) is not None]


def _sized(kind: str, fields: Mapping[str, Any]) -> IGNNConfig:
    h, form = fields["nhid"], KINDS[kind][0]
    widths = {"nodes": (h,), "stack": (4 * h, 2 * h, 2 * h, h), "graphs": (h, h, h)}
    return IGNNConfig(
        form=form,
        widths=widths[form],
        kappa=fields["kappa"],
        dropout=0.0 if form == "stack" else fields["dropout"],
        row_norm=kind == "chains",
        n_features=fields["nfeat"],
        n_classes=fields["nclass"],
        n_nodes=fields["num_node"] or 0,
        keeps_start=form == "nodes",
        labels=KINDS[kind][1],
    )
