"""How far information travels, as a table and a picture."""

import numpy as np
import pytest

from benchmarks.chains import MODELS, accuracies, configure, draw, markdown


def test_rows_become_a_table_and_a_picture(tmp_path):
    row = {"model": next(iter(MODELS)), "converged": 1.0, "skipped": 0}
    rows = [
        row | {"length": n, "seed": s, "accuracy": 0.9 + 0.1 * s} for n in (10, 20) for s in (0, 1)
    ]
    np.testing.assert_allclose(accuracies(rows, row["model"], 20), [0.9, 1.0])
    assert f"| {row['model']} | 95.0 (90.0) | 95.0 (90.0) | 0 |" in markdown(rows)
    draw(tmp_path / "chains.png", rows)
    assert (tmp_path / "chains.png").stat().st_size > 5000


@pytest.mark.parametrize("model", MODELS)
def test_a_run_is_a_preset_with_one_length(model):
    config = configure(model, 40, 2)
    assert config.model.chain_length == 40 and config.seed == 2
    assert config.model.explicit == {"GCN of 2 layers": 2, "GCN of 4 layers": 4}.get(model, 0)
