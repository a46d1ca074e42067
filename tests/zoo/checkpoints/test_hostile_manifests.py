"""Checkpoints whose manifests were written by somebody else, with the right checksums."""

import json
import os
import pathlib

import pytest

from tests.zoo.checkpoints.made import fill
from zoo.checkpoints.checkpoint import Checkpoint, find_checkpoint, score_of
from zoo.checkpoints.manifest import NAME, Damaged, _digest
from zoo.errors import UserError


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run with one checkpoint."""
    out = tmp_path_factory.mktemp("whole")
    fill(out, {1: 0.5})
    return out


@pytest.fixture
def checkpoint(whole, tmp_path) -> pathlib.Path:
    """A copy of its checkpoint, to be spoiled."""
    import shutil

    shutil.copytree(whole / "checkpoints", tmp_path / "checkpoints")
    return tmp_path / "checkpoints/1"


def rewrite(folder: pathlib.Path, change) -> None:
    """Changes a manifest, and makes its checksum right."""
    content = json.loads((folder / NAME).read_text())
    del content["sha256"]
    content = change(content) or content
    (folder / NAME).write_text(json.dumps(content | {"sha256": _digest(content)}))


FACTS = {
    "surplus": ({"later": 1}, "of a later version, with facts unknown here: 'later'"),
    "a later layout": ({"layout": 4}, "of a later version, with layout 4"),
    "layout of another type": ({"layout": "2"}, "layout"),
    "step of another type": ({"step": "1"}, "step"),
    "step that is a truth value": ({"step": True}, "step"),
    "step that is too large": ({"step": 10**30}, "step"),
    "step below 0": ({"step": -1}, "step"),
    "score of another type": ({"score": "good"}, "score"),
    "score that is too large": ({"score": 10**400}, "score"),
    "config of another type": ({"config": []}, "config"),
    "meta of another type": ({"meta": None}, "meta"),
    "arrays of another type": ({"arrays": ["a"]}, "arrays"),
    "arrays without texts": ({"arrays": {"a": 3}}, "arrays"),
    **{f"no {name}": (name, name) for name in ("step", "score", "config", "meta", "arrays")},
}


@pytest.mark.parametrize(("facts", "named"), FACTS.values(), ids=FACTS)
def test_facts(facts, named, checkpoint):
    assert score_of(checkpoint) == 0.5

    def change(content):
        if isinstance(facts, str):
            del content["facts"][facts]
        else:
            content["facts"] |= facts

    rewrite(checkpoint, change)
    with pytest.raises((UserError, Damaged), match=named):
        Checkpoint.read(checkpoint)
    for best in (False, True):
        with pytest.raises(UserError) as error:
            find_checkpoint(checkpoint.parent.parent, best=best)
        assert named in str(error.value) and "\n" not in str(error.value)
    assert score_of(checkpoint) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda c: {"files": c["files"]},
        lambda c: {"facts": c["facts"]},
        lambda c: c | {"facts": [1]},
        lambda c: c | {"facts": None},
        lambda c: c | {"files": [1]},
        lambda c: c | {"files": {"a": 1}},
        lambda c: c | {"files": {"a": ["1", "2"]}},
        lambda c: c | {"files": {"a": [1]}},
        lambda c: c | {"files": {"../../secret": [6, "0" * 64]}},
        lambda c: c | {"files": {"/dev/zero": [6, "0" * 64]}},
        lambda c: c | {"files": {"a\0b": [6, "0" * 64]}},
        lambda c: c | {"files": {"a" * 5000: [6, "0" * 64]}},
        lambda c: c | {"files": {"": [6, "0" * 64]}},
    ],
)
def test_lists_of_files(change, checkpoint):
    (checkpoint.parent.parent / "secret").write_text("secret")
    rewrite(checkpoint, change)
    with pytest.raises(Damaged):
        Checkpoint.read(checkpoint)


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "null", "{}", "[" * 100_000, '{"facts":' * 900 + "1" + "}" * 900]
)
def test_what_is_no_manifest(text, checkpoint):
    (checkpoint / NAME).write_text(text)
    with pytest.raises(Damaged, match="manifest.json"):
        Checkpoint.read(checkpoint)


@pytest.mark.parametrize("kind", ["link", "link to a device", "pipe", "manifest is a pipe"])
def test_nothing_but_plain_files_is_in_a_checkpoint(kind, checkpoint):
    if kind == "link":
        (checkpoint / "more").symlink_to("/etc/hostname")
    elif kind == "link to a device":
        (checkpoint / "more").symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(checkpoint / "more")
    else:
        (checkpoint / NAME).unlink()
        os.mkfifo(checkpoint / NAME)
    with pytest.raises(Damaged, match="plain file"):
        Checkpoint.read(checkpoint)
