import json
import shutil

import jax
import numpy as np
import pytest
from flax import nnx

from tests.marks import some_of
from tests.zoo.lm.conftest import FOLDERS, SHIPPED
from zoo.cli import main
from zoo.commands.parity import compared
from zoo.errors import UserError
from zoo.lm.task import TASK
from zoo.upstream.reference import Reference
from zoo.upstream.rows import table
from zoo.upstream.runs import RecordedGradient, Run, recorded_runs


@pytest.mark.slow
@pytest.mark.parametrize("name", some_of(FOLDERS, SHIPPED))
def test_golden_folder(golden_lm, name):
    rows = compared(TASK, golden_lm(name))
    assert all(row.ok for row in rows), table(rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_parameter_counts(golden_lm, name):
    """As the folders state them: tied tables once, projections that share storage twice."""
    folder = golden_lm(name)
    model = Reference.read(TASK.weights, folder).model(np.float32)
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert count == json.loads((folder / "config.json").read_text())["meta"]["n_param"]


@pytest.fixture
def copy(golden_lm, tmp_path):
    """A writable copy of a reference folder."""
    folder = tmp_path / "reference"
    shutil.copytree(golden_lm("deq_lm/div1_local"), folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    folder.chmod(0o755)
    return folder


def change(folder, section, **fields):
    path = folder / "config.json"
    content = json.loads(path.read_text())
    content[section] = {k: v for k, v in (content[section] | fields).items() if v is not ...}
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("name", ["config.json", "state.npz", "io.npz", "effective_weights.npz"])
def test_a_missing_file_is_named(copy, name, capsys):
    (copy / name).unlink()
    assert main(["parity", "lm", str(copy)]) == 2
    assert name in capsys.readouterr().err


@pytest.mark.parametrize(
    ("section", "fields", "named"),
    [
        ("upstream_config", {"local_size": ...}, "missing: local_size"),
        ("upstream_config", {"n_experts": 3}, "unknown: n_experts"),
        ("upstream_config", {"d_head": 9}, "d_head"),
        ("upstream_config", {"cutoffs": [300]}, "cutoffs"),
        ("upstream_config", {"d_model": "wide"}, "upstream_config"),
        ("upstream_config", {"norm_type": "none"}, "norm_type"),
        ("deq_args_tight", {"norm_type": ...}, "norm_type"),
        ("deq_args_tight", {"f_solver": "magic"}, "magic"),
        ("deq_args_tight", {"f_warp": 3}, "f_warp"),
        ("meta", {"model": "deq_rnn"}, "deq_rnn"),
        ("meta", {"model": "deq_seq"}, "pre_lnorm"),
        ("meta", {"model": ...}, "design"),
    ],
)
def test_a_field_that_is_missing_unknown_or_wrong_is_named(copy, section, fields, named):
    change(copy, section, **fields)
    with pytest.raises(UserError, match=named):
        Reference.read(TASK.weights, copy)


def test_unknown_runs_and_gradients_are_named(copy):
    (copy / "grads_dream_seg0.npz").write_bytes(b"")
    with pytest.raises(UserError, match="dream"):
        recorded_runs(Reference.read(TASK.weights, copy))
    with pytest.raises(UserError, match="unknown run 'dream3'"):
        Run.named("dream3", ())


def test_names_of_gradients(tmp_path):
    def read(name):
        gradient = RecordedGradient.of(tmp_path / f"{name}.npz")
        return gradient.run, gradient.tau, gradient.jac_weight, gradient.segment

    assert read("grads_unroll12_seg0") == ("unroll12", None, 0.0, 0)
    assert read("grads_phantom5_tau0.6_seg2") == ("phantom5", 0.6, 0.0, 2)
    assert read("grads_ift_jacreg0.1_seg10") == ("ift", None, 0.1, 10)
    with pytest.raises(UserError, match="grads_x"):
        RecordedGradient.of(tmp_path / "grads_x.npz")
