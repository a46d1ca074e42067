import json
import pathlib
import shutil

import numpy as np
import pytest

from tests.golden import reference_folder
from tests.marks import some_of
from tests.zoo.test_cli import run
from zoo.commands.parity import compared
from zoo.errors import UserError
from zoo.ignn.task import TASK
from zoo.upstream.rows import table

FOLDERS = ("chains", "amazon", "graphcls", "ppi", "ppi_no_norm")


@pytest.mark.slow
@pytest.mark.parametrize("name", some_of(FOLDERS, ["chains", "graphcls"]))
def test_golden_folder(name):
    rows = compared(TASK, reference_folder(f"ignn/{name}"))
    assert len(rows) >= 26 and all(row.ok for row in rows), table(rows)


@pytest.fixture
def copy(tmp_path) -> pathlib.Path:
    """A writable copy of a reference folder."""
    folder = tmp_path / "reference"
    shutil.copytree(reference_folder("ignn/chains"), folder)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    return folder


def with_arrays(path, **changed):
    """An array that is None is left out."""
    with np.load(path) as archive:
        arrays = dict(archive) | changed
    np.savez(path, **{name: a for name, a in arrays.items() if a is not None})


def failed(folder):
    return [row.quantity for row in compared(TASK, folder) if not row.ok]


@pytest.mark.slow
def test_what_is_off_is_outside(copy):
    """A gradient by 1e-5 of itself, a counted step, a row of the state after Adam."""
    golden = copy / "golden.npz"
    with np.load(golden) as archive:
        gradient = archive["train_ift/grad/ig1.Omega_2_v"]
        steps = archive["train_upstream/layer0/nstep"]
        state = archive["adam3/state/V.weight"]
    steps[3] += 1
    state[0] += 1e-4
    changed = {
        "train_ift/grad/ig1.Omega_2_v": gradient * (1 + 1e-5),
        "train_upstream/layer0/nstep": steps,
        "adam3/state/V.weight": state,
    }
    with_arrays(golden, **changed)
    assert [name.split(":")[0] for name in failed(copy)] == [
        "train_ift/grad",
        "train_upstream/layer0/nstep",
        "adam3/state",
    ]


@pytest.mark.parametrize("name", ["config.json", "state_dict.npz", "golden.npz"])
def test_a_file_that_is_missing_or_cut_off_is_named(copy, name):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=name):
        compared(TASK, copy)
    (copy / name).unlink()
    with pytest.raises(UserError, match=name):
        compared(TASK, copy)


def test_what_does_not_fit_is_one_line(copy, capsys):
    arrays = {"ig1.W_v": None, "surplus": np.zeros(2), "ig1.W_g": np.zeros((3, 1))}
    with_arrays(copy / "state_dict.npz", **arrays)
    assert run("parity", "ignn", copy) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for name in ("state_dict.npz", *arrays):
        assert name in error


def test_an_array_that_is_not_there_is_named(copy):
    with_arrays(copy / "golden.npz", **{"input/adj": None})
    with pytest.raises(UserError, match="golden.npz: no array named 'input/adj'"):
        compared(TASK, copy)


def test_a_configuration_that_cannot_be_is_named(copy):
    path = copy / "config.json"
    content = json.loads(path.read_text())
    for change, said in (
        ({"case": "cora"}, "case is 'cora'"),
        ({"constructor": {**content["constructor"], "nhid": 0}}, "widths"),
        ({"constructor": {"nhid": 3}}, "missing: nfeat"),
        ({"deq_args_upstream": {"f_solver": "magic", "norm_type": "none"}}, "deq_args"),
    ):
        path.write_text(json.dumps(content | change))
        with pytest.raises(UserError, match=f"config.json: .*{said}"):
            compared(TASK, copy)
