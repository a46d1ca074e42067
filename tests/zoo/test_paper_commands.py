"""The command lines of the TorchDEQ paper, as they stand there, train the MDEQ."""

import argparse
import json
import math

import jax.numpy as jnp
import pytest

import jdeq
from tests.marks import some_of
from tests.zoo.test_cli import TINY_OPTIONS, run
from zoo.checkpoints.checkpoint import find_checkpoint
from zoo.run import RunConfig

LINES = {  # what the paper types: what it means; the defaults are TorchDEQ's
    "--ift --f_solver anderson --b_solver broyden": {
        "ift": True,
        "f_solver": "anderson",
        "b_solver": "broyden",
    },
    "--ift --b_solver broyden --b_max_iter 30 --b_tol 0.001": {
        "ift": True,
        "b_solver": "broyden",
        "b_max_iter": 30,
        "b_tol": 1e-3,
    },
    "--f_solver broyden --grad 5 --tau 0.6": {"f_solver": "broyden", "grad": 5, "tau": 0.6},
    "--f_max_iter 0 --grad 12 --tau 1.0": {"f_max_iter": 0, "grad": 12},
    "--f_solver fixed_point_iter --f_max_iter 20 --f_tol 1e-2": {"f_max_iter": 20, "f_tol": 1e-2},
    "--norm_clip --norm_clip_value 0.5 --norm_type weight_norm": {
        "norm_clip": True,
        "norm_clip_value": 0.5,
        "norm_type": "weight_norm",
    },
    "--norm_type spectral_norm --norm_no_scale": {
        "norm_type": "spectral_norm",
        "norm_no_scale": True,
    },
    "--indexing 20 30": {"indexing": (20, 30)},
    "--n_states 3": {"n_states": 3},
    "--n_losses 2 --grad 3": {"n_states": 2, "grad": 3},
}
TRAINED = {  # several at a time: the compilations take the time
    "implicit": "--ift --f_solver anderson --b_solver broyden --b_max_iter 30 --b_tol 0.001",
    "phantom": "--f_solver broyden --grad 5 --tau 0.6 --f_max_iter 20 --f_tol 1e-2",
    "unrolled": "--f_max_iter 0 --grad 12 --tau 1.0",
    "weight norm, correction": "--norm_type weight_norm --norm_clip --norm_clip_value 0.5 "
    "--n_losses 2 --grad 3",
    "spectral norm, correction, penalty": "--norm_type spectral_norm --norm_no_scale "
    "--indexing 20 30 --f_max_iter 40 --jac_loss_weight 0.1 --jac_loss_freq 0.5",
    "solver_kwargs, slices": "--f_solver anderson --f_options tau=0.8,m=6 --core sliced "
    "--n_states 2 --sup_gap 1 --grad 2",
}
SHOWN = {  # states that the loss is over, and evaluations of f per solve at most
    "implicit": (0, 11),
    "phantom": (0, 21 + 5 + 1),
    "unrolled": (0, 12 + 1),
    "weight norm, correction": (2, 11 + 2 * 3 + 1),
    "spectral norm, correction, penalty": (3, 41 + 3 * 3 + 1),
    "solver_kwargs, slices": (4, 12 + 2 * (2 + 1)),
}


def parse(line):
    parser = jdeq.add_deq_args(argparse.ArgumentParser())
    return jdeq.DEQConfig.from_args(parser.parse_args(line.split()))


@pytest.mark.parametrize("line", LINES)
def test_what_the_line_means(line):
    assert parse(line) == jdeq.DEQConfig(**LINES[line])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", some_of(list(TRAINED), ["implicit", "unrolled", "spectral norm, correction, penalty"])
)
def test_the_line_trains(name, tmp_path):
    out = tmp_path / "run"
    line = f"--norm_type none --f_max_iter 10 {TRAINED[name]}"
    defaults = ["--f_solver", "fixed_point_iter", "--tau", "1", "--f_tol", "1e-3"]
    argv = [*TINY_OPTIONS, "--steps", "3", *defaults, *line.split()]
    assert run("train", "mdeq", *argv, "--out", out) == 0

    rows = [json.loads(row) for row in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if row["split"] == "train"]
    assert len(losses) == 3 and all(map(math.isfinite, losses))
    trained = RunConfig.from_dict(find_checkpoint(out).config)
    said = parse(line).to_dict()
    for option in {word[2:] for word in line.split() if word.startswith("--")}:
        option = option.replace("n_losses", "n_states")
        assert trained.deq.to_dict()[option] == said[option], option
    n_states, nfe = SHOWN[name]
    assert rows[0]["nfe"] <= nfe
    layer = jdeq.get_deq(trained.deq, norm_type="none")
    assert len(layer(lambda z: 0.5 * z + 1, jnp.zeros((1, 1)))[1].states) == n_states
