"""Compiled programs that outlive the process."""

import pathlib
import subprocess
import sys
import textwrap

import pytest

ROOT = pathlib.Path(__file__).parents[3]
TRAIN = """
    import sys, jax
    from tests.zoo.toy_lm import TASK
    from zoo.cli import main
    from zoo.registry import register_task
    events = []
    jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
    register_task(TASK)
    status = main(sys.argv[1:])
    count = lambda what: sum(name.endswith(what) for name in events)
    print("hits", count("cache_hits"), "misses", count("cache_misses"))
    sys.exit(status)
"""


@pytest.mark.slow
def test_the_second_run_compiles_nothing(tmp_path):
    from tests.zoo.toy_lm import TEXT

    (tmp_path / "text").mkdir()
    (tmp_path / "text/all.txt").write_text(TEXT)
    said = []
    for name in ("a", "b"):
        argv = ["train", "toy", "--data", tmp_path / "text", "--out", tmp_path / name]
        argv += ["--compile_cache", tmp_path / "cache", "--steps", 2]
        command = [sys.executable, "-c", textwrap.dedent(TRAIN), *map(str, argv)]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert run.returncode == 0, run.stderr
        said.append(run.stdout.splitlines()[-1].split())
    (_, hits, _, misses), (_, again, _, missed) = said
    assert int(misses) > 0 and int(again) >= int(misses) and int(missed) == 0
    assert any((tmp_path / "cache").iterdir())
