import dataclasses
import json
import re

import pytest

from tests.zoo.conftest import TINY_DEQ
from zoo.checkpoints.checkpoint import find_checkpoint
from zoo.cli import main
from zoo.registry import get_task, model_names

TINY_OPTIONS = (
    "--steps 2 --batch_size 8 --eval_batch_size 360 --log_every 1 --channels 4 "
    "--head_channels 1 --n_blocks 1 --final_channels 6 --n_groups 2 --expansion 1 "
    "--f_solver fixed_point_iter --f_max_iter 2 --eval_factor 1 --grad 1"
).split()


def run(*argv) -> int:
    """The exit status, also where argparse ends the program."""
    try:
        return main([str(a) for a in argv])
    except SystemExit as end:
        return int(end.code or 0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a tiny finished run."""
    out = tmp_path_factory.mktemp("trained")
    assert run("train", "mdeq", *TINY_OPTIONS, "--out", out) == 0
    return out


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        ("", "COMMAND"),
        ("fly mdeq", "fly"),
        ("train", "expected a model"),
        ("train resnet", "unknown model 'resnet'"),
        ("train mdeq --preset huge", "unknown preset 'huge'"),
        ("train mdeq --stepz 3", "--stepz"),
        ("train mdeq --steps many", "--steps"),
        ("train mdeq --steps 0", "steps must be >= 1, got 0"),
        ("train mdeq --lr -1", "lr must be > 0, got -1.0"),
        ("train mdeq --seed -1", "seed"),
        ("train mdeq --stop_after 0", "stop_after"),
        ("train mdeq --f_solver magic", "f_solver"),
        ("train mdeq --tau 0", "tau"),
        ("train mdeq --f_options m=5", "f_options 'm=5': solver 'broyden' has no option 'm'"),
        ("train mdeq --hook_ift", "--hook_ift"),
        ("train mdeq --plugin nowhere.py", "--plugin nowhere.py: there is no such file"),
        ("train mdeq --channels 4 4 4", "head_channels"),
        ("train mdeq --channels 6 6", "n_groups"),
        ("train mdeq --batch_size 2000", "batch_size"),
        ("train mdeq --preset cifar-small", "--data"),
        ("train mdeq --preset cifar-small --data /nowhere", "/nowhere"),
        ("train mdeq --resume --out /nowhere", "/nowhere"),
        ("eval mdeq", "--checkpoint"),
        ("eval mdeq --checkpoint /nowhere", "/nowhere"),
        ("parity mdeq", "DIR"),
        ("parity mdeq /nowhere", "/nowhere"),
        ("list everything", "everything"),
    ],
)
def test_mistakes_end_with_status_2_and_one_line(argv, named, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*argv.split()) == 2
    error = capsys.readouterr().err
    assert named in error
    assert "Traceback" not in error
    assert "error:" in error.splitlines()[-1]


@pytest.mark.parametrize(
    "command",
    [
        "train mdeq",
        "eval mdeq",
        "parity mdeq",
        "export mdeq",
        "plot",
        "compare",
        "list",
        "train",
        "",
    ],
)
def test_help(command, capsys):
    assert run(*command.split(), "--help") == 0
    shown = capsys.readouterr().out
    assert "usage" in shown
    if command == "train mdeq":
        for name in ("--preset", "--lr", "--channels", "--f_solver", "--b_tol", "--resume"):
            assert name in shown
        groups = re.findall(r"^DEQ: (.*):$", shown, re.M)
        assert groups == [
            "forward solver",
            "backward solver, for --ift",
            "gradient",
            "normalisation",
            "Jacobian regularisation",
            "fixed point correction",
        ]


@pytest.mark.slow
def test_list_names_models_presets_and_counts(capsys):
    assert run("list") == 0
    shown = capsys.readouterr().out
    assert "mdeq" in shown and "159,034" in shown and "11,099,998" in shown


@pytest.mark.slow
def test_the_last_line_is_the_test_metric(trained, capsys):
    assert run("eval", "mdeq", "--checkpoint", trained) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    number = r"[\d.]+"
    assert re.fullmatch(
        rf"test accuracy {number} % \(mean relative residual {number}e[+-]\d+, "
        rf"NFE {number}, converged {number} %\)",
        last,
    )


def test_evaluation_repeats_the_training_figures(trained, capsys):
    rows = [json.loads(s) for s in (trained / "metrics.jsonl").read_text().splitlines()]
    assert run("eval", "mdeq", "--checkpoint", trained) == 0
    shown = capsys.readouterr().out.splitlines()[-1]
    assert f"accuracy {100 * rows[-1]['accuracy']:.2f} %" in shown
    assert f"residual {rows[-1]['residual']:.1e}" in shown


@pytest.mark.slow
def test_evaluation_takes_other_solver_options(trained, capsys):
    run("eval", "mdeq", "--checkpoint", trained)
    short = capsys.readouterr().out
    options = ("--f_max_iter", 30, "--f_tol", 1e-9)
    run("eval", "mdeq", "--checkpoint", trained / "checkpoints", *options)
    assert "NFE 3.0" in short
    assert "NFE 31.0" in capsys.readouterr().out
    assert run("eval", "mdeq", "--checkpoint", trained, "--norm_type", "none") == 2
    assert "norm_type" in capsys.readouterr().err


@pytest.mark.slow
def test_resume_takes_its_settings_from_the_run(trained, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("train", "mdeq", *TINY_OPTIONS, "--out", out, "--stop_after", 1) == 0
    assert run("train", "mdeq", "--resume", "--out", out) == 0
    resumed = (out / "metrics.jsonl").read_text().splitlines()[-1]
    assert resumed == (trained / "metrics.jsonl").read_text().splitlines()[-1]
    capsys.readouterr()
    assert run("train", "mdeq", "--resume", "--out", out, "--lr", 0.5) == 2
    assert "train.lr was 0.1, now 0.5" in capsys.readouterr().err


@pytest.mark.slow
def test_every_option_reaches_the_saved_configuration(tmp_path):
    """Each option of the command line changes exactly its own entry."""
    options = {
        "train.weight_decay": ("--weight_decay", 0.25),
        "train.save_every": ("--save_every", 7),
        "model.expansion": ("--expansion", 2),
        "model.final_channels": ("--final_channels", 5),
        "deq.f_tol": ("--f_tol", 0.125),
        "deq.tau": ("--tau", 0.5),
        "deq.b_solver": ("--b_solver", "anderson"),
        "seed": ("--seed", 3),
    }
    flags = [str(word) for pair in options.values() for word in pair]
    out = tmp_path / "run"
    assert run("train", "mdeq", *TINY_OPTIONS, *flags, "--out", out) == 0
    saved = find_checkpoint(out).config
    for name, (_, value) in options.items():
        part = saved
        for key in name.split("."):
            part = part[key]
        assert part == value, name


def test_every_model_is_a_complete_task():
    for name in model_names():
        task = get_task(name)
        assert task.name == name
        for preset in task.presets.values():
            fields = dataclasses.asdict(preset.model)
            assert task.model_config(fields) == preset.model
            assert type(preset.deq) is type(TINY_DEQ)
