"""Logs and configurations that this program has not written."""

import math
import os

import pytest

from tests.zoo.test_cli import run
from zoo.errors import UserError
from zoo.logs.metrics import read_metrics

GOOD = '{"step": 1, "split": "train", "loss": 1.0, "nfe": null, "count": 3}\n'


@pytest.mark.parametrize(
    "line",
    [
        "3",
        "[1, 2]",
        "null",
        '"text"',
        "{}",
        "no JSON",
        '{"step": 1}',
        '{"step": "1", "split": "train"}',
        '{"step": 1.5, "split": "train"}',
        '{"step": true, "split": "train"}',
        '{"step": -1, "split": "train"}',
        '{"step": 1' + "0" * 40 + ', "split": "train"}',
        '{"step": 1' + "0" * 5000 + ', "split": "train"}',
        '{"step": 1, "split": 2}',
        '{"step": 1, "split": "train", "loss": "low"}',
        '{"step": 1, "split": "train", "loss": [1]}',
        '{"step": 1, "split": "train", "loss": true}',
        '{"step": 1, "split": "train", "loss": 1' + "0" * 400 + "}",
        '{"step": 1, "split": "train", "loss": Infinity}',
        "[" * 100_000,
        '{"a":' * 500 + "1" + "}" * 500,
        "\0" * 10,
        "\udcff",
    ],
)
def test_a_line_that_is_none_is_named(line, tmp_path):
    content = GOOD + line + "\n" + GOOD
    (tmp_path / "metrics.jsonl").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match="metrics.jsonl, line 2: not a line of a log"):
        read_metrics(tmp_path)


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path):
    for n in range(len(GOOD) - 1):
        (tmp_path / "metrics.jsonl").write_text(GOOD + GOOD[:n])
        first, *more = read_metrics(tmp_path)
        assert first["loss"] == 1 and math.isnan(first["nfe"]) and first["count"] == 3
        assert not more


@pytest.mark.parametrize("text", ["[]", "3", "{", "[" * 100_000, '{"a":' * 900 + "1" + "}" * 900])
@pytest.mark.parametrize("command", ["plot {}", "compare {} {}"])
def test_a_configuration_that_is_none(text, command, tmp_path, capsys):
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "metrics.jsonl").write_text(GOOD)
    assert run(*command.format(tmp_path, tmp_path).split()) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path) in error


def test_files_of_a_run_that_are_no_files(tmp_path, capsys):
    os.mkfifo(tmp_path / "config.json")
    assert run("plot", tmp_path) == 2
    assert "not a plain file" in capsys.readouterr().err
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text('{"name": "mdeq"}')
    (tmp_path / "metrics.jsonl").symlink_to("/dev/zero")
    assert run("plot", tmp_path) == 2
    assert "not a plain file" in capsys.readouterr().err
