import pathlib

import pytest

from tests.golden import data_folder
from zoo.errors import UserError
from zoo.ignn.config import IGNNConfig
from zoo.ignn.presets import PRESETS
from zoo.ignn.sources import load
from zoo.ignn.task import TASK

FOLDERS = {
    **dict.fromkeys(("cora", "citeseer"), "planetoid"),
    **dict.fromkeys(("mutag", "proteins", "ptc", "cox2", "nci1"), "graph-classification"),
    **dict.fromkeys(("quick", "chains", "chains-published"), None),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_sizes_of_presets_are_those_of_their_data(name):
    """So what is listed is what is trained."""
    preset, folder = PRESETS[name], FOLDERS[name]
    path = None if folder is None else data_folder(folder)
    data = TASK.load_data(preset.data, path, model=preset.model, meta={})
    assert {k: getattr(preset.model, k) for k in data.sizes} == data.sizes
    data.train.check_batch_size(preset.train.batch_size)


def test_chains_of_another_length():
    data = load("chains", None, IGNNConfig(chain_length=12))
    assert data.sizes["n_nodes"] == 2 * 20 * 12


@pytest.mark.parametrize("name", ["cora", "MUTAG", "ppi", "amazon"])
def test_data_that_are_to_be_read_need_a_folder(name, tmp_path):
    with pytest.raises(UserError, match="--data"):
        load(name, None, IGNNConfig())
    with pytest.raises(UserError, match=str(tmp_path)):
        load(name, tmp_path / "nowhere", IGNNConfig())


def test_data_that_are_made_take_none():
    with pytest.raises(UserError, match="--data"):
        load("chains", pathlib.Path("."), IGNNConfig())
    with pytest.raises(UserError, match="choose from chains, .*MUTAG"):
        load("karate", None, IGNNConfig())
