"""Two processes on this machine, connected over its loopback."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.tolerances import rounding
from tests.zoo.test_cli import run
from tests.zoo.toy_lm import TEXT
from zoo.logs.metrics import read_metrics

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture
def start(tmp_path):
    """Starts a command for the toy model in several processes; ends them with the test."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text/all.txt").write_text(TEXT)
    running: list[subprocess.Popen] = []

    def processes(n: int, name: str, *options: object) -> list[subprocess.Popen]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-W", "error", "-m", "tests.zoo.toy_lm", name, "toy"]
        command += ["--data", str(tmp_path / "text"), *map(str, options)]
        for i in range(n):
            of_several = ["--coordinator", f"127.0.0.1:{port}", "--num_processes", str(n)]
            of_several += ["--process_id", str(i)]
            environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
            running.append(
                subprocess.Popen(
                    command + of_several,
                    cwd=ROOT,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        return running[-n:]

    yield processes
    for process in running:
        process.kill()
        process.communicate()


def said(started: list[subprocess.Popen]) -> str:
    """The last line of the first process; all succeed, and no other one prints a figure."""
    outputs = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0] * len(started), outputs
    assert not any("perplexity" in text for output in outputs[1:] for text in output)
    return outputs[0][0].splitlines()[-1]


def test_two_processes_have_the_figures_of_one(start, toy, tmp_path, capsys):
    data = ("--data", tmp_path / "text")
    options = ("--accumulate", 2, "--stop_after", 8, "--log_every", 1)
    assert run("train", "toy", *data, "--out", tmp_path / "one", *options) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert "test perplexity" in line
    assert said(start(2, "train", "--out", tmp_path / "two", *options)) == line
    one, two = (read_metrics(tmp_path / name) for name in ("one", "two"))
    # the last step is evaluated on both splits
    assert [r["step"] for r in one] == [r["step"] for r in two] == [*range(1, 9), 8, 8]
    losses = [[r["loss"] for r in rows] for rows in (one, two)]
    close = rounding(np.float32, terms=8 * 6 * 4)  # 8 states of sums of 4; 4 parts of a batch
    np.testing.assert_allclose(losses[1], losses[0], rtol=close)
    assert (tmp_path / "two/checkpoints/8").is_dir()

    evaluated = start(2, "eval", "--checkpoint", tmp_path / "one")  # by two what one has saved
    assert said(evaluated) == line
    assert run("train", "toy", *data, "--out", tmp_path / "two", "--resume") == 0  # vice versa
    assert read_metrics(tmp_path / "two")[-1]["step"] == 20


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_takes_the_others_along(victim, start, tmp_path):
    out = tmp_path / "run"
    never = ("--steps", 10**7, "--eval_every", 10**7, "--save_every", 10**7)
    started = start(2, "train", "--out", out, "--log_every", 1, *never)
    deadline = time.monotonic() + 120
    while len(read_metrics(out)) < 3:
        assert time.monotonic() < deadline and all(p.poll() is None for p in started)
        time.sleep(0.2)
    started[victim].send_signal(signal.SIGKILL)
    other = started[1 - victim]
    _, errors = other.communicate(timeout=60)
    assert other.returncode != 0
    assert "rror" in errors
