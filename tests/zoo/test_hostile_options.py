"""Options that no program can do anything with."""

import errno

import pytest

from tests.zoo.test_cli import run
from zoo.cli import COMMANDS, main

BIG, HUGE = "9" * 30, "9" * 5000
INTEGERS = (
    "steps batch_size eval_batch_size accumulate warmup log_every eval_every save_every keep "
    "max_skips seed final_channels n_groups f_max_iter grad n_states num_processes process_id"
).split()
NUMBERS = "lr weight_decay clip ema f_tol tau jac_loss_weight".split()


def said(capsys) -> str:
    error = capsys.readouterr().err
    assert "Traceback" not in error and "error:" in error.splitlines()[-1]
    return error


@pytest.mark.parametrize("value", [BIG, f"-{BIG}", HUGE])
@pytest.mark.parametrize("name", INTEGERS)
def test_integers_that_are_too_large(name, value, tmp_path, capsys):
    assert run("train", "mdeq", f"--{name}={value}", "--out", tmp_path / "run") == 2
    assert name in said(capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", HUGE])
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_that_are_not_finite(name, value, tmp_path, capsys):
    assert run("train", "mdeq", f"--{name}={value}", "--out", tmp_path / "run") == 2
    assert name in said(capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "argv",
    [
        *((command, "mdeq", "a\0b") for command in COMMANDS),
        ("train", "a\0b"),
        ("train", "mdeq", "--out", "a\0b"),
        ("train", "mdeq", "--data", "a\0b"),
        ("train", "mdeq", "--plugin", "a\0b"),
        ("train", "mdeq", "--preset", "a\0b"),
        ("train", "mdeq", "--compile_cache", "a\0b"),
        ("eval", "mdeq", "--checkpoint", "a\0b"),
        ("sample", "lm", "--checkpoint", "x", "--prompt", "a\0b"),
    ],
)
def test_a_nul_is_in_no_name(argv, capsys):
    assert run(*argv) == 2
    assert "NUL character" in said(capsys)


@pytest.mark.parametrize(
    "argv",
    [
        ("plot", "a" * 5000),
        ("plot", "\udcff"),
        ("compare", "a" * 5000),
        ("eval", "mdeq", "--checkpoint", "a" * 5000),
        ("parity", "mdeq", "a" * 5000),
        ("import", "mdeq", f"{'a' * 5000}.npz", "--out", "x"),
        ("train", "mdeq", "--out", "/dev/null"),
        ("train", "mdeq", "--out", "/dev/null/run"),
        ("train", "mdeq", "--compile_cache", "/dev/null/cache"),
        ("train", "a" * 5000),
        ("a" * 5000,),
    ],
)
def test_names_that_nothing_can_have(argv, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*argv) == 2
    said(capsys)


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "file"), "file: No space left"),
        (OSError(errno.EFBIG, "File too large"), "File too large"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "x: Permission denied"),
        (MemoryError("Unable to allocate 1 TiB"), "not enough memory"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), "not enough memory"),
    ],
)
def test_what_the_machine_refuses_is_one_line(error, named, capsys, monkeypatch):
    def refuse(_):
        raise error

    monkeypatch.setattr("zoo.commands.models.list_models", refuse)
    assert main(["list"]) == 2
    assert named in said(capsys)


def test_mistakes_of_the_program_are_not_hidden(monkeypatch):
    monkeypatch.setattr("zoo.commands.models.list_models", lambda _: [][1])
    with pytest.raises(IndexError):
        main(["list"])
