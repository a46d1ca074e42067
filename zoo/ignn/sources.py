"""The data that presets name."""

import pathlib

from zoo.data.split import Data
from zoo.errors import UserError
from zoo.ignn.chains import chains
from zoo.ignn.config import IGNNConfig
from zoo.ignn.planetoid import planetoid

PLANETOID = ("cora", "citeseer", "pubmed")


def load(source: str, folder: pathlib.Path | None, model: IGNNConfig) -> Data:
    """What is to be read, from `folder` if it is not made here.

    Raises:
        UserError: it is not there, or not what it should be.
    """
    if source == "chains":
        if folder is not None:
            raise UserError("chains are made here: this preset takes no --data")
        return chains(length=model.chain_length)
    if source in PLANETOID:
        return planetoid(folder, source)
    raise UserError(f"unknown data {source!r}")
