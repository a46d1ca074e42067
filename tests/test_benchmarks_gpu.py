"""The benchmark for accelerators runs on a CPU, and finds every solver in agreement there."""

import json

import pytest

from benchmarks.gpu.__main__ import main


@pytest.mark.slow
def test_a_quick_run_on_a_cpu_and_its_continuation(tmp_path):
    quick = ["--device", "cpu", "--quick", "--out", str(tmp_path)]
    main([*quick, "--only", "correct"])
    main([*quick, "--only", "card", "correct", "--resume"])
    records = [json.loads(line) for line in (tmp_path / "gpu.json").read_text().splitlines()]
    jobs = [record["job"] for record in records if "job" in record]
    assert len(jobs) == len(set(jobs))  # what is there is not made again
    checks = [row for r in records if r.get("section") == "correct" for row in r["rows"]]
    assert checks and all(row["ok"] for row in checks)
    text = (tmp_path / "gpu.md").read_text()
    assert "| copy |" in text and "| gmres | none, affine f | float64 |" in text
