"""What the originals computed: in `reference` beside this file, or in `../shared/golden`.

The READMEs there say how each was made and what its arrays mean.
"""

import json
import pathlib

import numpy as np
import pytest

SHIPPED = pathlib.Path(__file__).parent / "reference"
LARGER = pathlib.Path(__file__).parents[1] / "../shared/golden"


def reference_folder(name):
    """The folder of that name, "mdeq_cifar/two_branch" say; skips a test where it is not here."""
    for parent in (SHIPPED, LARGER):
        if (parent / name).is_dir():
            return parent / name
    pytest.skip(f"the reference folder {LARGER / name} is not here")


def data_folder(name):
    """The data set of that name, "planetoid" say; skips a test where it is not here.

    They are not the project's to ship; each loader is also tested on files that its test writes.
    """
    folder = LARGER.parent / "data" / name
    if not folder.is_dir():
        pytest.skip(f"the data set {folder} is not here")
    return folder


def load(name):
    """The arrays of one of the core's reference files."""
    with np.load(SHIPPED / "core" / f"{name}.npz") as arrays:
        return dict(arrays)


def load_cases(name):
    """What was run to make that file, or a reference that is text alone."""
    return json.loads((SHIPPED / "core" / f"{name}.json").read_text())


def fields(arrays, prefix):
    """What one case stored: the arrays named `prefix__FIELD`, by field."""
    start = prefix + "__"
    return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
