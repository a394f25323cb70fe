"""The benchmarks: their arithmetic, and that their programs do what they say."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from measures import Bench
from results import CONNECTED, DAGSTER, OURS, SQLMESH, Ratio, Record, Results, fitted_exponent
from support.postgres import Server
from support.projects import ROOT


def test_the_benchmarks_explain_themselves_without_any_preparation() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    shown = subprocess.run(
        [sys.executable, "benchmarks/bench.py", "--help"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    assert "--only" in shown.stdout


def test_an_exponent_is_the_slope_between_the_logarithms() -> None:
    assert fitted_exponent([(n, 3 * n**2) for n in (10, 100, 1000)]) == pytest.approx(2)
    assert fitted_exponent([(10, 0.5), (1000, 0.5)]) == pytest.approx(0)


@pytest.mark.parametrize(
    ("value", "reach", "at_least", "met"),
    [
        (1.2, 1.1, False, False),
        (1.1, 1.1, False, True),
        (19, 20, True, False),
        (2, None, True, None),
    ],
)
def test_a_ratio_knows_whether_it_was_reached(
    value: float, reach: float | None, at_least: bool, met: bool | None
) -> None:
    assert Ratio("a / b", value, reach, at_least).met is met


def test_what_failed_and_what_was_missed_stands_in_the_table() -> None:
    results = Results(machine={"cores": "2"})
    results.add(Record("run", "trivial", OURS, 20, [1.0, 3.0, 2.0], {"executions": 1}))
    results.add(Record("run", "trivial", "peer", 20, [], {"failed": "KeyError"}))
    results.compare(Ratio("run / S", 1.5, 1.05))
    table = results.to_markdown()
    assert f"| 20 | trivial | {OURS} | 2.00 s (1.00 to 3.00) | executions 1 |" in table
    assert "| 20 | trivial | peer | failed | failed KeyError |" in table
    assert "| run / S | 1.5 | at most 1.05 | **no** |" in table
    assert math.isnan(results.records[1].median)


@pytest.mark.slow
def test_a_run_is_measured_with_both_floors(tmp_path: Path, postgres_server: Server) -> None:
    bench = Bench(tmp_path, postgres_server, Results(), rounds=1)
    bench.runs(4, "duckdb", 0, peer=False)
    records = {record.subject: record for record in bench.results.records}
    assert records.keys() == {SQLMESH, DAGSTER, CONNECTED, OURS}
    assert all(record.seconds for record in records.values())
    assert records[SQLMESH].facts["executions"] == records[OURS].facts["executions"] == 1
    assert records[OURS].facts["materialized"] == 4
    assert "failed" not in records[OURS].facts
