"""Reference numbers of TorchDEQ for the core; what they mean is told in the README beside them."""

import json
import pathlib

import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "../shared/golden/core"


def load(name):
    """The arrays of a reference file and its list of cases; skips a module that lacks them."""
    if not FOLDER.is_dir():
        pytest.skip("../shared/golden is not here", allow_module_level=True)
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return dict(arrays), json.loads((FOLDER / f"{name}.json").read_text())["cases"]


def load_json(name):
    """A reference that is text alone; skips a test where it is missing."""
    if not FOLDER.is_dir():
        pytest.skip("../shared/golden is not here")
    return json.loads((FOLDER / f"{name}.json").read_text())


def fields(arrays, prefix):
    """What one case stored: the arrays named `prefix__FIELD`, by field."""
    start = prefix + "__"
    return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
