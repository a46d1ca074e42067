"""The data that presets name."""

import pathlib

from zoo.data.split import Data
from zoo.errors import UserError
from zoo.ignn.amazon import amazon
from zoo.ignn.chains import chains
from zoo.ignn.config import IGNNConfig
from zoo.ignn.planetoid import planetoid
from zoo.ignn.ppi import ppi
from zoo.ignn.tu import tu

PLANETOID = ("cora", "citeseer", "pubmed")
TU = ("MUTAG", "PROTEINS", "PTC", "COX2", "NCI1")


def load(source: str, folder: pathlib.Path | None, model: IGNNConfig) -> Data:
    """What is read from `folder`, or made here.

    Raises:
        UserError: it is not there, or not what it should be.
    """
    if source == "chains":
        if folder is not None:
            raise UserError("chains are made here: this preset takes no --data")
        return chains(length=model.chain_length)
    if source == "amazon":
        return amazon(folder)
    if source == "ppi":
        return ppi(folder)
    if source in PLANETOID:
        return planetoid(folder, source)
    if source in TU:
        return tu(folder, source, fold=model.fold, per_pack=model.graphs_per_pack)
    known = ", ".join(("chains", "amazon", "ppi", *PLANETOID, *TU))
    raise UserError(f"unknown data {source!r}: choose from {known}")
