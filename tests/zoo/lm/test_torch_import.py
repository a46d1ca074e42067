import dataclasses
import json
import pickle

import numpy as np
import pytest

from tests.zoo.lm.conftest import FOLDERS, TINY, make
from zoo.arrays import load_arrays
from zoo.cli import main
from zoo.errors import UserError
from zoo.lm.original import LMOriginal
from zoo.upstream.reference import Reference

ORIGINAL = LMOriginal()
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", FOLDERS)
def test_round_trip(golden_lm, name, x64):
    reference = Reference.read(ORIGINAL, golden_lm(name))
    state = reference.files["state"]
    back = ORIGINAL.state_dict(reference.model(np.float64))
    assert back.keys() == state.keys()
    for key, value in state.items():
        assert back[key].tobytes() == value.tobytes() and back[key].dtype == value.dtype, key


VARIANTS = {
    "tied": {},
    "not tied": {"tied": False, "tied_projections": ()},
    "all projections with one": {"div_val": 1, "d_embed": 4, "tied_projections": (0, 1, 2)},
    "earlier design": {"design": "deq_seq", "n_layer": 1, "pre_norm": False},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_round_trip_after_training(changes):
    """Also when both parameters of a tied projection have moved."""
    config = dataclasses.replace(TINY, **changes)
    model, again = make(config, scale=0.3), make(config)
    arrays = ORIGINAL.state_dict(model)
    ORIGINAL.load(again, arrays)
    back = ORIGINAL.state_dict(again)
    assert arrays.keys() == back.keys()
    for name, value in arrays.items():
        np.testing.assert_array_equal(back[name], value)
    for i in model.vocabulary.tied_projections:
        table = f"word_emb.emb_projs.{config.table_of(i)}.weight"
        np.testing.assert_array_equal(arrays[f"crit.out_projs.{i}.weight"], arrays[table])


def test_all_problems_are_listed_and_the_model_is_untouched():
    model = make(TINY)
    arrays = ORIGINAL.state_dict(model)
    wrong = arrays | {"surplus": np.zeros(2), "injection.bias": np.zeros(3)}
    del wrong["pos_emb.inv_freq"]
    with pytest.raises(UserError) as error:
        ORIGINAL.load(model, wrong)
    for text in ("unknown: surplus", "injection.bias: (3,)", "missing: pos_emb.inv_freq"):
        assert text in str(error.value)
    other = arrays | {"crit.out_layers.0.weight": 1 + arrays["crit.out_layers.0.weight"]}
    with pytest.raises(UserError, match="crit.out_layers.0.weight is tied to word_emb.emb_layers"):
        ORIGINAL.load(model, other)
    untouched = ORIGINAL.state_dict(model)
    assert all(np.array_equal(untouched[name], arrays[name]) for name in arrays)


class Malicious:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("ending", ["pt", "pth", "npz"])
def test_code_in_a_file_is_not_run(tmp_path, ending):
    trace, path = tmp_path / "ran", tmp_path / f"state.{ending}"
    if ending == "npz":
        np.savez(path, w=np.array([Malicious(trace)], dtype=object))
    else:
        path.write_bytes(pickle.dumps({"w": Malicious(trace)}))
    with pytest.raises(UserError, match=f"state.{ending}"):
        load_arrays(path)
    assert not trace.exists()


def test_torch_files(tmp_path, golden_lm):
    torch = pytest.importorskip("torch")
    state = load_arrays(golden_lm("deq_seq/post_ln_cut") / "state.npz")
    torch.save({k: torch.from_numpy(v) for k, v in state.items()}, tmp_path / "state.pt")
    loaded = load_arrays(tmp_path / "state.pt")
    assert all(np.array_equal(loaded[name], value) for name, value in state.items())


def test_import_and_export_commands(golden_lm, tmp_path, capsys):
    folder = golden_lm("deq_seq/post_ln_cut")
    config, out, back = folder / "config.json", tmp_path / "run", tmp_path / "back.npz"
    argv = ["import", "lm", folder / "state.npz", "--config", config, "--out", out]
    assert main([str(a) for a in argv]) == 0
    assert "are a checkpoint in" in capsys.readouterr().out
    assert main([str(a) for a in argv]) == 2
    assert "checkpoint already" in capsys.readouterr().err
    assert main(["export", "lm", str(back), "--checkpoint", str(out)]) == 0
    state, again = load_arrays(folder / "state.npz"), load_arrays(back)
    assert state.keys() == again.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(again[name], value.astype(np.float32))
    assert main(["export", "mdeq", str(back), "--checkpoint", str(out)]) == 2
    assert "'lm', not 'mdeq'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({}, "upstream_config"),
        ({"model": {"n_layers": 3}}, "n_layers"),
        ({"deq": {"f_magic": 3}}, "f_magic"),
        ([], "JSON object"),
        (None, "no such file"),
    ],
)
def test_configurations_that_do_not_fit(content, named, tmp_path, capsys):
    path, out = tmp_path / "config.json", tmp_path / "run"
    if content is not None:
        path.write_text(json.dumps(content))
    argv = ["import", "lm", "state.npz", "--config", str(path), "--out", str(out)]
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert named in error and "config.json" in error
