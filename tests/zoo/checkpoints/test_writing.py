"""While a checkpoint is written training goes on; if it can't be, that is one line."""

import errno
import pathlib
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.zoo.checkpoints.made import assert_is_state_of, fill, state, steps
from zoo.checkpoints.checkpoint import find_checkpoint
from zoo.checkpoints.saving import Saver
from zoo.errors import UserError

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[3]


def test_a_later_checkpoint_is_never_deleted(tmp_path):
    fill(tmp_path, {1: None, 2: None})
    with pytest.raises(UserError, match="2: is a later checkpoint than step 1 of this run"):
        Saver(tmp_path, keep=2, start=1)
    assert steps(tmp_path) == [1, 2]


def test_training_goes_on_while_a_copy_is_written(tmp_path, monkeypatch):
    """The arrays are donated to the next step before anything is on the disk."""
    import threading

    import zoo.checkpoints.saving

    go_on = threading.Event()
    write = zoo.checkpoints.saving.write_manifest

    def late(*args, **kwargs):
        assert go_on.wait(60)
        write(*args, **kwargs)

    monkeypatch.setattr(zoo.checkpoints.saving, "write_manifest", late)
    step = jax.jit(lambda w: [a + 1 for a in w], donate_argnums=0)
    w = step([jnp.zeros(1_000_000), jnp.zeros(3)])
    with Saver(tmp_path, keep=2, start=0) as saver:
        saver.save(1, w, {}, {})
        for _ in range(20):
            old, w = w, step(w)
            assert all(a.is_deleted() for a in old)
        assert steps(tmp_path) == []
        go_on.set()
    saved = find_checkpoint(tmp_path).restore(w)
    assert all(np.all(a == 1) for a in saved) and all(np.all(a == 21) for a in w)


def test_a_full_disk_is_said_in_one_line(tmp_path, monkeypatch):
    """In the background, where the step that saved has long been over."""
    import zoo.checkpoints.saving

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    fill(tmp_path, {1: None})
    monkeypatch.setattr(zoo.checkpoints.saving, "write_manifest", full)
    with Saver(tmp_path, keep=2, start=1) as saver:
        saver.save(2, state(2), {}, {})
        with pytest.raises(
            UserError, match=r"2: the .* \(No space left on device\).*checkpoints/1"
        ):
            saver.wait()
        monkeypatch.undo()
        assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["1"]  # room again
        saver.save(2, state(2), {}, {})
    assert_is_state_of(2, find_checkpoint(tmp_path).restore(state(0)))


def test_the_limit_of_a_real_disk(tmp_path):
    """Files may not grow beyond a limit, as far as the operating system is concerned."""
    program = f"""
        import resource, pathlib, jax.numpy as jnp, numpy as np
        from zoo.checkpoints.checkpoint import find_checkpoint
        from zoo.errors import UserError
        from zoo.checkpoints.saving import Saver
        out = pathlib.Path({str(tmp_path)!r})
        noise = lambda n: jnp.asarray(np.random.default_rng(0).normal(size=n))
        with Saver(out, keep=2, start=0) as saver:
            saver.save(1, [noise(10)], {{}}, {{}})
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            with Saver(out, keep=2, start=1) as saver:
                saver.save(2, [noise(1_000_000)], {{}}, {{}})
        except UserError as e:
            print(e)
        names = sorted(p.name for p in (out / "checkpoints").iterdir())
        print("left", find_checkpoint(out).step, *names)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    said, left = run.stdout.splitlines()
    assert "checkpoints/2: the checkpoint cannot be written" in said, run.stderr
    assert "File too large" in said and "the newest there is" in said
    assert left == "left 1 1"


def test_a_failed_write_says_nothing_besides(tmp_path):
    """Many arrays: those that come after the one that failed find their event loop closed."""
    program = f"""
        import resource, pathlib, jax.numpy as jnp, numpy as np
        from zoo.errors import UserError
        from zoo.checkpoints.saving import Saver
        noise = jnp.asarray(np.random.default_rng(0).normal(size=100_000))
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
        try:
            with Saver(pathlib.Path({str(tmp_path)!r}), keep=2, start=0) as saver:
                saver.save(2, [noise] * 30, {{}}, {{}})
        except UserError as e:
            print(e)
    """
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "import logging; logging.disable(logging.ERROR)\n" + textwrap.dedent(program),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    (said,) = run.stdout.splitlines()
    assert "checkpoints/2: the checkpoint cannot be written (File too large)" in said
    assert not run.stderr


def test_what_else_nobody_could_raise_is_still_printed(capsys):
    import logging
    import types

    from zoo.checkpoints.quiet import _is_news, silence_failed_writes

    silence_failed_writes()
    make = lambda text: types.SimpleNamespace(exc_value=RuntimeError(text))
    sys.unraisablehook(make("Event loop is closed"))  # pyright: ignore
    record = lambda text: logging.LogRecord("asyncio", 40, "", 0, text, (), None)
    assert not _is_news(record("Task exception was never retrieved <orbax>"))
    assert _is_news(record("Task exception was never retrieved <mine>"))
