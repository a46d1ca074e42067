import shutil

import numpy as np
import pytest

from tests.marks import some_of
from zoo.commands.parity import compared
from zoo.errors import UserError
from zoo.mdeq.task import TASK
from zoo.upstream.reference import Reference
from zoo.upstream.rows import compare, compare_many, relative_error, table

FOLDERS = ("two_branch", "three_branch_deep", "small_published")  # `make parity` compares all


@pytest.mark.slow
@pytest.mark.parametrize("name", some_of(FOLDERS, ["three_branch_deep"]))
def test_golden_folder(golden, name):
    rows = compared(TASK, golden(name))
    assert all(row.ok for row in rows), table(rows)


@pytest.fixture
def copy(golden, tmp_path):
    """A writable copy of a reference folder."""
    folder = tmp_path / "reference"
    shutil.copytree(golden("three_branch_deep"), folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    folder.chmod(0o755)
    return folder


@pytest.mark.parametrize("name", ["config.json", "state.npz", "io.npz", "grads_ift.npz"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(UserError, match=name):
        Reference.read(TASK.weights, copy)


@pytest.mark.parametrize("name", ["config.json", "state.npz", "io.npz"])
def test_a_damaged_file_is_named(copy, name):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=name):
        Reference.read(TASK.weights, copy)


@pytest.mark.slow
def test_all_wrong_keys_are_named_at_once(copy):
    with np.load(copy / "state.npz") as archive:
        arrays = dict(archive)
    del arrays["classifier.weight"]
    arrays["surplus"] = np.zeros(2)
    arrays["classifier.bias"] = np.zeros(3)
    np.savez(copy / "state.npz", **arrays)
    with pytest.raises(UserError) as error:
        Reference.read(TASK.weights, copy).model(np.float32)
    for name in ("state.npz", "classifier.weight", "surplus", "classifier.bias"):
        assert name in str(error.value)


def test_relative_error():
    assert relative_error([1.0, 2.0], [1.0, 2.5]) == pytest.approx(0.2)
    assert relative_error(np.zeros(3), np.zeros(3)) == 0
    assert relative_error(np.full(3, 1e-30), np.zeros(3)) == np.inf
    assert relative_error(np.zeros(3), np.zeros(4)) == np.inf
    assert not compare("x", np.array([np.nan]), np.array([1.0]), 1.0).ok


@pytest.mark.slow
def test_noise_is_measured_on_the_common_scale_only_where_asked():
    want = {"big": np.array([1.0]), "noise": np.array([1e-17])}
    got = {"big": np.array([1.0]), "noise": np.array([-1e-17])}
    assert not compare_many("x", got, want, 1e-9).ok
    assert compare_many("x", got, want, 1e-9, common_scale=True).ok
    small = {"big": np.array([1.0]), "small": np.array([1e-6])}
    off = {"big": np.array([1.0]), "small": np.array([2e-6])}
    assert not compare_many("x", off, small, 1e-3, common_scale=True).ok
    assert not compare_many("x", {"big": want["big"]}, want, 1.0).ok
