"""The speed benchmark runs, and times nothing that is wrong."""

import json

import jax
import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.speed import jax_runs, numpy_ops
from benchmarks.speed.functions import QUICK
from benchmarks.speed.mdeq import mdeq
from benchmarks.speed.runs import Outcome
from benchmarks.speed.verify import WrongSolution, check, check_residual, reference

TOL = 1e-3


pytestmark = pytest.mark.usefixtures("settings_of_a_plain_process")


@pytest.fixture
def function():
    return QUICK["dense D=256"]("dense")


def run(out, *options):
    main(["--quick", "--libraries", "jdeq", "--out", str(out), *options])
    return json.loads((out / "speed.json").read_text())["sections"]


def test_a_tiny_case_by_jdeq_alone(tmp_path):
    rows = run(tmp_path, "--sections", "grid", "--only", "dense D=256 | fixed point + JFB")["grid"]
    (row,) = rows.values()
    figures = row["libraries"]["jdeq"]
    assert figures["residual"] <= TOL and figures["total_ms"] > 0
    assert figures["evaluations"] == figures["nfe"]  # the one that is differentiated included
    assert "| dense D=256, fixed point + JFB, 1e-03 | jdeq |" in (tmp_path / "speed.md").read_text()
    assert (tmp_path / "speed.png").stat().st_size > 1000


def test_resume_keeps_the_rows_that_are_there(tmp_path, capsys):
    section = ("--sections", "overhead", "--only")
    first = run(tmp_path, *section, "fixed point, all")["overhead"]
    both = run(tmp_path, *section, "fixed point", "--resume")["overhead"]
    assert len(first) == 1 and len(both) == 2
    assert first.items() <= both.items()
    assert len(run(tmp_path, *section, "fixed point, all")["overhead"]) == 1


def test_a_training_step_of_the_zoo_is_timed(tmp_path):
    (row,) = run(tmp_path, "--sections", "steps", "--only", "3 blocks")["steps"].values()
    assert row["jdeq ms"] > 0 and "torchdeq ms" not in row


def test_a_wrong_solution_is_refused(function):
    right = reference(function)
    check_residual(function, Outcome(right.z, 1), TOL)
    for wrong in (right.z[0] + 0.01, np.full_like(right.z[0], np.nan)):
        with pytest.raises(WrongSolution, match="residual"):
            check_residual(function, Outcome((wrong,), 1), TOL)


def test_a_wrong_gradient_is_refused(function):
    z, gradient = reference(function)
    check(function, Outcome(z, 1, gradient), TOL, 10 * TOL)
    wrong = gradient | {"w": 1.1 * gradient["w"]}
    with pytest.raises(WrongSolution, match="gradient"):
        check(function, Outcome(z, 1, wrong), TOL, 10 * TOL)


def test_the_counterpart_of_the_multiscale_cell_is_the_cell():
    function = mdeq("cell", 2, 16, (8, 16, 8), expansion=2)
    rng = np.random.default_rng(0)
    z = tuple(rng.normal(size=a.shape).astype(np.float32) for a in function.z0)
    f, args = jax_runs.place(function)
    plain = function.formula(numpy_ops, function.theta, None, z)
    for ours, theirs in zip(jax.jit(f)(z, args), plain, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
