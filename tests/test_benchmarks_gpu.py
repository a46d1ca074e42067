"""The benchmark for accelerators runs on a CPU, agrees there, and reports in short."""

import json

import pytest

from benchmarks.gpu.__main__ import main
from benchmarks.gpu.records import Records
from benchmarks.gpu.report import markdown


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


def test_a_report_says_briefly_what_is_of_another_day_and_what_is_missing(tmp_path):
    records = Records(tmp_path / "gpu.json")
    about = {"section": "card", "flags": ""}
    records.add({"machine": {"date": "2026-01-01 10:00 UTC"}})
    records.add({**about, "job": "copy", "rows": [{"what": "copy", "ms": 1.0}]})
    records.add({"machine": {"date": "2026-01-02 10:00 UTC"}})
    records.add({**about, "job": "loops", "rows": [{"what": "loop", "ms": 2.0}]})
    for name in "abcdef":
        records.add({**about, "job": name, "skipped": "no time was left"})
    lines = markdown(records).splitlines()
    assert lines[-2:] == [
        "- of 2026-01-01: copy",
        "- skipped, no time was left: a; b; c; and 3 more",
    ]
