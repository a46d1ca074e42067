"""The benchmark of graphs runs, with and without its peer."""

import importlib.util

import numpy as np
import pytest

from benchmarks import graphs

pytestmark = pytest.mark.usefixtures("settings_of_a_plain_process")


def test_tiny_graphs_without_torch(tmp_path, monkeypatch, capsys):
    find_spec = importlib.util.find_spec
    hidden = lambda name, *args: None if name == "torch" else find_spec(name, *args)
    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    graphs.main(["--quick", "--sizes", "200", "100", "--out", str(tmp_path)])
    assert "torch is not installed: left out" in capsys.readouterr().out
    text = (tmp_path / "graphs.md").read_text()
    assert "| 100 |" in text and "| 200 |" in text and "torch / jdeq" not in text
    assert (tmp_path / "graphs.png").stat().st_size > 1000


def test_it_times_what_the_dense_matrix_gives():
    made = graphs.problem(100)
    a = np.zeros((10, 10), np.float32)
    np.add.at(a, (made.targets, made.sources), made.weights)
    assert (np.diff(made.targets) >= 0).all()
    z = made.injection
    for _ in range(graphs.CALL):
        z = np.maximum(a @ z @ made.kernel + made.injection, 0)
    np.testing.assert_allclose(graphs.by_the_zoo(made)(), z, rtol=1e-5, atol=1e-6)


def test_torch_takes_part_if_it_is_there(tmp_path):
    pytest.importorskip("torch")
    row = graphs.times(100, graphs.QUICK, 1, with_torch=True)
    assert row["jdeq"] > 0 and row["torch"] > 0
    text = graphs.report({100: row, 200: row}, 0.5, "here")
    assert "torch / jdeq" in text and "0.50 GiB" in text
