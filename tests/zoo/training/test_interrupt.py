"""Runs that are ended from outside, by a signal or without warning."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from benchmarks.kills import survive
from tests.zoo.toy_lm import TEXT
from zoo.checkpoints.checkpoint import find_checkpoint
from zoo.data.samples import Samples
from zoo.logs.metrics import read_metrics
from zoo.training.interrupt import Interrupted, StopSignal, agreed

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """A training command of the smallest model, to be run from the repository's folder."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "all.txt").write_text(TEXT)

    def make(steps: int) -> list[str]:
        options = f"--data {folder} --steps {steps} --log_every 1 --save_every 4 --eval_every 100"
        return [sys.executable, "-m", "tests.zoo.toy_lm", "train", "toy", *options.split()]

    return make


@pytest.mark.slow
def test_a_killed_run_ends_as_if_nothing_had_been(command, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    outcome = survive(command(200), tmp_path, kills=3)
    assert outcome.different == [] and outcome.arrays > 3
    assert len(outcome.lost) == 3
    assert max(outcome.lost) <= 2 * 4  # while one checkpoint is written, the one before is there


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_with_its_state_saved(number, command, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    argv = [*command(100_000), "--out", str(tmp_path / "run")]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    started = time.monotonic()
    while len(read_metrics(tmp_path / "run")) < 9 and time.monotonic() - started < 120:
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    step = find_checkpoint(tmp_path / "run").step
    assert step == read_metrics(tmp_path / "run")[-1]["step"] < 100_000
    assert f"{number.name}: finishing this step" in said
    assert f"stopped after step {step} of 100000, which is saved" in said.splitlines()[-1]
    assert "--resume` goes on" in said.splitlines()[-1] and "Traceback" not in said


def test_the_second_interrupt_is_at_once_and_handlers_are_put_back():
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before


def test_an_evaluation_is_cut_short():
    split = Samples({"x": np.arange(3)})
    with StopSignal() as stop:
        batches = stop.stoppable(split).eval_batches(1)
        assert next(batches)[0]["x"] == [0]
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Interrupted):
            next(batches)


def test_in_another_thread_there_are_no_handlers():
    made = []
    run = threading.Thread(target=lambda: made.append(StopSignal().__enter__()))
    run.start()
    run.join()
    assert made[0].received is None and agreed(True) and not agreed(False)
