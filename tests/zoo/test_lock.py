"""One process at a time in the folder of a run."""

import errno
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from tests.zoo.test_cli import run
from tests.zoo.toy_lm import TEXT
from zoo.checkpoints.checkpoint import find_checkpoint
from zoo.errors import UserError
from zoo.lock import locked

ROOT = pathlib.Path(__file__).parents[2]
HOLD = """
import pathlib, sys
from zoo.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("in", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """A process that is in the folder, until it is told to end or killed."""
    argv = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=ROOT, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None and process.stdout.readline() == b"in\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_until_the_first_is_gone(other, tmp_path):
    with pytest.raises(UserError, match=rf"process {other.pid} on .*, is training there"):
        with locked(tmp_path):
            pass
    other.send_signal(signal.SIGKILL)  # it cannot tidy up
    other.wait()
    with locked(tmp_path), locked(tmp_path):  # the same process may ask again
        pass


@pytest.mark.parametrize("resume", [[], ["--resume", "auto"]])
def test_so_is_a_second_run(resume, other, toy, tmp_path, capsys):
    (tmp_path / "text").mkdir()
    (tmp_path / "text/all.txt").write_text(TEXT)
    before = sorted(tmp_path.iterdir())
    argv = ("train", "toy", "--data", tmp_path / "text", "--out", tmp_path, *resume)
    assert run(*argv) == 2
    assert "is training there" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_file_systems_with_other_locks_and_with_none(tmp_path, monkeypatch, capsys):
    def unknown(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unknown)
    with locked(tmp_path):
        assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} on ")
    assert not capsys.readouterr().err
    monkeypatch.setattr("fcntl.lockf", unknown)
    with locked(tmp_path):
        assert "this file system has no locks" in capsys.readouterr().err


def test_a_lock_that_is_a_link_is_not_written_through(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError):
        with locked(tmp_path):
            pass
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.slow
def test_resume_auto_begins_or_goes_on(toy, tmp_path, capsys):
    (tmp_path / "all.txt").write_text(TEXT)
    out = tmp_path / "run"
    argv = ("train", "toy", "--data", tmp_path, "--out", out, "--resume", "auto", "--lr", 0.25)
    assert run(*argv, "--stop_after", 7) == 0
    assert "resumed" not in capsys.readouterr().out
    assert run(*argv) == 0
    assert "resumed from step 7\n" in capsys.readouterr().out
    assert find_checkpoint(out).step == 20 and not list(out.glob("earlier-*"))
    (tmp_path / "killed/checkpoints/10.orbax-checkpoint-tmp").mkdir(parents=True)
    (tmp_path / "killed/metrics.jsonl").write_text('{"step": 5, "split": "train", "loss": 1.0}\n')
    assert run(*argv[:5], tmp_path / "killed", *argv[6:], "--stop_after", 3) == 0
    assert find_checkpoint(tmp_path / "killed").step == 3
    assert run("train", "toy", "--resume", "always", "--out", tmp_path / "nowhere") == 2
    assert run("train", "toy", "--resume", "perhaps", "--out", tmp_path / "nowhere") == 2
