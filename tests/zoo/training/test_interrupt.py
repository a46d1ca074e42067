"""Runs that are ended from outside, by a signal or without warning."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

from benchmarks.kills import survive
from tests.zoo.test_cli import run
from tests.zoo.toy_lm import TEXT
from zoo.checkpoints.checkpoint import find_checkpoint
from zoo.data.samples import Samples
from zoo.interrupts import SecondInterrupt
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


@pytest.fixture
def interruptible():
    """Ctrl-C raises KeyboardInterrupt, which a shell's background jobs ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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


def test_the_second_interrupt_is_at_once_and_handlers_are_put_back(interruptible):
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)  # a signal may come to another thread first
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before


BUSY = """
import os, signal, sys, threading, time
from zoo.interrupts import SecondInterrupt
from zoo.training.interrupt import StopSignal

busy = {busy}
with SecondInterrupt("that is all"):
    stop = StopSignal() if {training} else None
    if stop:
        stop.__enter__()
    print("busy", flush=True)
    busy()
"""
SLEEPS = (
    # in C, as a compilation or a device that is waited for: no handler of Python's runs
    "lambda: [__import__('ctypes').CDLL(None).usleep(60_000_000) for _ in range(9)]",
    "lambda: time.sleep(60)",
    # a program that keeps itself from being interrupted
    "lambda: [None for _ in iter(lambda: time.sleep(0.1), 0)]",
)


@pytest.mark.slow
@pytest.mark.parametrize("busy", SLEEPS)
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_second_interrupt_ends_the_process_whatever_is_running(busy, first):
    program = BUSY.format(busy=busy, training=True)
    argv = [sys.executable, "-c", program]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        time.sleep(0.3)
        process.send_signal(first)
        assert process.stderr.readline() == "\n"
        heard = f"{first.name}: finishing this step and saving (Ctrl-C: stop at once)\n"
        assert process.stderr.readline() == heard  # at once, too
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        _, said = process.communicate(timeout=30)
        assert time.monotonic() - begun < 5
        assert process.returncode == 130
        assert "Traceback" not in said and said.splitlines()[-1] == "that is all"


def test_a_wakeup_descriptor_is_put_back(interruptible):
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    with SecondInterrupt("x"):
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)  # a signal may come to another thread first
    now = signal.set_wakeup_fd(before)
    assert now == before


@pytest.mark.slow
def test_no_more_steps_are_in_flight_than_make_a_signal_wait(tmp_path, toy, monkeypatch):
    """Each step is waited for before the third one after it is asked for."""
    waited, asked = [], []
    from zoo.training import fit
    from zoo.training.stepper import Stepper

    ready, update = jax.block_until_ready, Stepper.update
    monkeypatch.setattr(jax, "block_until_ready", lambda x: (waited.append(id(x)), ready(x))[1])

    def asking(self, batch):
        metrics = update(self, batch)
        asked.append(metrics)
        assert all(id(m) in waited for m in asked[: -1 - fit.IN_FLIGHT])
        return metrics

    monkeypatch.setattr(Stepper, "update", asking)
    (tmp_path / "all.txt").write_text(TEXT)
    seldom = ("--log_every", 100, "--save_every", 100, "--eval_every", 100)
    assert run("train", "toy", "--data", tmp_path, "--out", tmp_path / "run", *seldom) == 0
    assert len(asked) == 20 and id(asked[0]) in waited


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
    other = threading.Thread(target=lambda: made.append(StopSignal().__enter__()))
    other.start()
    other.join()
    assert made[0].received is None and agreed(True) and not agreed(False)
