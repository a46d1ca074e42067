"""Exported programs, run where there is nothing of this code."""

import dataclasses
import subprocess
import sys
import textwrap
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jdeq
from tests.tolerances import rounding
from tests.zoo.conftest import TINY, TINY_DEQ
from tests.zoo.lm.conftest import TINY as TINY_LM
from tests.zoo.test_cli import run
from tests.zoo.toy_lm import TEXT
from zoo.artefact import exported, save_artefact, signature
from zoo.lm.memory import Memory
from zoo.lm.model import nll
from zoo.registry import get_task

ELSEWHERE = """
    import sys
    for name in ("jdeq", "zoo", "flax"):
        sys.modules[name] = None  # an import of it would fail
    import jax, numpy as np
    program = jax.export.deserialize(bytearray(open("program.stablehlo", "rb").read()))
    outputs = {}
    for name, inputs in np.load("inputs.npz").items():
        outputs["made" + name], outputs["residual" + name] = program.call(inputs)
    np.savez("outputs.npz", **outputs)
"""
LM = dataclasses.replace(TINY_LM, n_layer=1, cutoffs=(), div_val=1, tied_projections=())
MADE = {  # configuration, DEQ options, inputs for n samples, signature
    "mdeq": (
        TINY,
        dataclasses.replace(TINY_DEQ, f_max_iter=6),
        lambda n: np.random.default_rng(n).normal(size=(n, 4, 4, 1)).astype(np.float32),
        "float32[batch,4,4,1] -> float32[batch,3], float32[batch]",
    ),
    "lm": (
        dataclasses.replace(LM, eval_tgt_len=5),
        jdeq.DEQConfig(f_solver="fixed_point_iter", f_max_iter=6, norm_type="weight_norm"),
        lambda n: np.random.default_rng(n).integers(0, 20, (n, 5)).astype(np.int32),
        "int32[batch,5] -> float32[batch,5,20], float32[batch]",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_the_program_needs_nothing_and_does_the_same(name, tmp_path):
    config, deq, make, described = MADE[name]
    task: Any = get_task(name)
    model = task.build(config, deq, rngs=nnx.Rngs(0))
    noise = np.random.default_rng(0)
    noisy = lambda a: a + 0.1 * noise.normal(size=a.shape).astype(np.float32)  # some are zeros
    nnx.update(model, jax.tree.map(noisy, nnx.state(model, nnx.Param)))
    model.eval()
    program = exported(task, model)
    assert signature(program) == described
    save_artefact(tmp_path / "program.stablehlo", program)
    inputs = {str(n): make(n) for n in (1, 7)}
    np.savez(tmp_path / "inputs.npz", allow_pickle=False, **inputs)
    argv = [sys.executable, "-I", "-W", "error", "-c", textwrap.dedent(ELSEWHERE)]
    there = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert there.returncode == 0, there.stderr
    outputs = np.load(tmp_path / "outputs.npz")
    function, _ = task.inference(model)
    close = rounding(np.float32, terms=6 * 4 * 36)  # in six iterations, of four convolutions each
    for n, x in inputs.items():
        made, residual = nnx.jit(function)(x)
        np.testing.assert_allclose(outputs[f"made{n}"], made, rtol=0, atol=close)
        np.testing.assert_allclose(outputs[f"residual{n}"], residual, rtol=0, atol=close)
        assert np.ptp(made) > 1e-2
    x = inputs["7"]
    f, z = task.equilibrium(model, {"x": jnp.asarray(x)})
    rows = lambda tree: np.concatenate([np.reshape(a, (7, -1)) for a in jax.tree.leaves(tree)], 1)
    fz = jax.jit(f)(z)
    relative = np.linalg.norm(rows(fz) - rows(z), axis=1) / np.linalg.norm(rows(fz), axis=1)
    np.testing.assert_allclose(relative, outputs["residual7"], rtol=1e-2, atol=1e-6)


@pytest.mark.slow
def test_log_probabilities_are_those_of_the_loss():
    task: Any = get_task("lm")
    model = task.build(LM, MADE["lm"][1], rngs=nnx.Rngs(0))
    model.eval()
    tokens = jax.random.randint(jax.random.key(0), (2, 6), 0, 20)
    log_probs, _ = nnx.jit(task.inference(model)[0])(tokens[:, :-1])
    at = jnp.take_along_axis(log_probs, tokens[:, 1:, None], axis=-1)[..., 0]
    want, _, _ = nnx.jit(nll)(model.lm, tokens[:, :-1], tokens[:, 1:], Memory.empty(LM, 2, 0))
    close = rounding(np.float32, terms=6 * 5 * 12)  # in six iterations, of five layers each
    np.testing.assert_allclose(-at, want, rtol=close)


@pytest.mark.slow
def test_the_ending_of_the_name_chooses(toy, tmp_path, capsys):
    (tmp_path / "all.txt").write_text(TEXT)
    out = tmp_path / "run"
    assert run("train", "toy", "--data", tmp_path, "--out", out, "--steps", 1) == 0
    capsys.readouterr()
    assert run("export", "toy", tmp_path / "toy.npz", "--checkpoint", out) == 0
    assert "toy.npz: 4 arrays of" in capsys.readouterr().out
    assert run("export", "toy", tmp_path / "toy.stablehlo", "--checkpoint", out, "--best") == 0
    assert "the program int32[batch,8] -> float32[batch,8,28]" in capsys.readouterr().out
    assert run("export", "toy", tmp_path / "toy.onnx", "--checkpoint", out) == 2
    assert "toy.onnx: expected a file ending in .npz or .stablehlo" in capsys.readouterr().err
    assert run("export", "toy", tmp_path / "no/toy.stablehlo", "--checkpoint", out) == 2
    assert "No such file or directory" in capsys.readouterr().err
