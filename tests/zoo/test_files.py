"""Files that somebody else has made: plain ones are read, and none is written through a link."""

import os
import pathlib

import pytest

from zoo.files import opened, opened_below, read_bytes, replacing
from zoo.folder import RunFolder
from zoo.logs.metrics import MetricsLog
from zoo.plain_json import parse_json


def test_what_is_no_plain_file_is_neither_read_nor_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "zero", "folder", "nowhere", "a\0b"):
        with pytest.raises(OSError, match="plain|directory|No such|name"):
            read_bytes(tmp_path / name)


@pytest.mark.parametrize("name", ["../out", "inside/../../out", "link", "linked/file", "{out}"])
def test_a_list_names_files_below_its_folder_only(name, tmp_path):
    out, folder = tmp_path / "out", tmp_path / "folder"
    (folder / "inside").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for path in (out, folder / "inside/file", tmp_path / "elsewhere/file"):
        path.write_text("x")
    (folder / "link").symlink_to(out)
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    with opened_below(folder, "inside/file") as file:
        assert file.read() == b"x"
    with pytest.raises(OSError, match="not below the folder"):
        with opened_below(folder, name.format(out=out)):
            pass


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as file:
        file.write("first")
    with pytest.raises(KeyError):
        with replacing(path) as file:
            file.write("second")
            raise KeyError
    assert path.read_text() == "first" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_links_in_the_way_of_a_file_in_the_making_are_not_followed(tmp_path, monkeypatch):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    for name in ("config.json.tmp", "config.tmp", "metrics.tmp", "config.json", "metrics.jsonl"):
        (tmp_path / name).symlink_to(precious)
    RunFolder(tmp_path).write_config({"a": 1})
    (tmp_path / "metrics.jsonl").unlink()
    MetricsLog(tmp_path)
    assert precious.read_text() == "mine"
    assert RunFolder(tmp_path).read_config() == {"a": 1}
    monkeypatch.setattr("secrets.token_hex", lambda _: "guessed")
    (tmp_path / "config.json.guessed.tmp").symlink_to(precious)
    with pytest.raises(FileExistsError):
        RunFolder(tmp_path).write_config({"a": 2})
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("depth", [65, 900, 100_000])
@pytest.mark.parametrize("brackets", ["[]", ('{"a":', "}")])
def test_json_that_is_nested_deeply_is_no_json(depth, brackets):
    begin, end = brackets
    with pytest.raises(ValueError):
        parse_json(begin * depth + "1" + end * depth)
    assert parse_json(begin * 9 + "1" + end * 9)


def test_reading_closes_the_file(tmp_path):
    pathlib.Path(tmp_path / "a").write_text("x")
    with opened(tmp_path / "a") as file:
        pass
    assert file.closed
