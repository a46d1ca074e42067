"""What was damaged, left by a killed process, or is of another version is found to be."""

import pathlib
import shutil

import pytest

from tests.zoo.checkpoints.made import assert_is_state_of, fill, state, steps
from zoo.checkpoints.checkpoint import find_checkpoint
from zoo.checkpoints.manifest import Damaged, read_facts, verified_facts, write_manifest
from zoo.checkpoints.saving import Saver
from zoo.errors import UserError

pytestmark = pytest.mark.slow


def truncate(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip, pathlib.Path.unlink])
def test_damage_to_any_file_is_found_or_harmless(tmp_path, damage, capsys):
    fill(tmp_path / "whole", {1: None, 2: None})
    names = [p.relative_to(tmp_path) for p in (tmp_path / "whole").rglob("2/**/*") if p.is_file()]
    used = {}
    for name in names:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        shutil.copytree(tmp_path / "whole", tmp_path / "run")
        damage(tmp_path / "run" / name.relative_to("whole"))
        found = find_checkpoint(tmp_path / "run")
        used[name.name] = found.step
        assert_is_state_of(found.step, found.restore(state(0)))
        said = capsys.readouterr().err
        assert said == "" if found.step == 2 else ("2 is damaged" in said and name.name in said)
    assert used.pop("_CHECKPOINT_METADATA") == used.pop("commit_success.txt") == 2  # of no use
    assert set(used.values()) == {1} and len(used) > 5


def test_if_all_are_damaged_all_are_named(tmp_path):
    fill(tmp_path, {1: None, 2: None})
    for step in (1, 2):
        truncate(tmp_path / f"checkpoints/{step}/manifest.json")
    with pytest.raises(UserError, match=r"checkpoints/2 is damaged.*checkpoints/1 is damaged"):
        find_checkpoint(tmp_path)
    (tmp_path / "checkpoints/2").rename(tmp_path / "checkpoints/3")
    with pytest.raises(UserError, match="no such folder"):
        find_checkpoint(tmp_path / "nowhere")


def test_a_checkpoint_under_another_name_is_not_taken_for_it(tmp_path, capsys):
    fill(tmp_path, {1: None, 2: None})
    (tmp_path / "checkpoints/2").rename(tmp_path / "checkpoints/5")
    assert find_checkpoint(tmp_path).step == 1
    assert "is the checkpoint of step 2 under another name" in capsys.readouterr().err


def test_what_a_killed_process_left_is_cleaned_up(tmp_path):
    fill(tmp_path, {1: None, 2: None})
    folder = tmp_path / "checkpoints"
    for name in ("3.orbax-checkpoint-tmp", "removed-0"):
        shutil.copytree(folder / "2", folder / name)
    shutil.copytree(folder / "2", folder / "4")  # damaged: its name is another
    assert find_checkpoint(folder / "2").step == 2
    with Saver(tmp_path, keep=2, start=2):
        assert sorted(p.name for p in folder.iterdir()) == ["1", "2"]


def test_a_manifest_knows_its_own_content(tmp_path):
    fill(tmp_path, {1: 0.5})
    path = tmp_path / "checkpoints/1/manifest.json"
    path.write_text(path.read_text().replace("0.5", "0.7"))
    with pytest.raises(Damaged, match="manifest.json: the content is not what was written"):
        verified_facts(path.parent)


@pytest.mark.parametrize(("layout", "says"), [(None, "earlier version"), (4, "later version")])
def test_another_layout_is_refused_with_what_to_do(tmp_path, layout, says):
    fill(tmp_path, {1: 0.5})
    path = tmp_path / "checkpoints/1"
    facts = {k: v for k, v in read_facts(path).items() if k != "layout"}
    (path / "manifest.json").unlink()
    write_manifest(path, facts | ({} if layout is None else {"layout": layout}))
    for use in (find_checkpoint, lambda out: find_checkpoint(out, best=True)):
        with pytest.raises(UserError, match=f"checkpoints/1: is of an? {says}"):
            use(tmp_path)
    with pytest.raises(UserError, match=says):
        Saver(tmp_path, keep=1, start=0)  # and never deletes it
    assert steps(tmp_path) == [1]
