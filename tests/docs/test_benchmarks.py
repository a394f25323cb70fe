"""The benchmarks: their arithmetic, and that their programs do what they say."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from measures import Bench
from memory import MemoryWatch
from noise import noise
from processes import on_cores
from results import (
    CONNECTED,
    DAGSTER,
    DEFAULT,
    OURS,
    PEER,
    SQLMESH,
    Ratio,
    Record,
    Results,
    fitted_exponent,
)
from run_measures import PROCESS, THREAD, ours
from support.postgres import Server
from support.projects import ROOT
from warehouses import Storage


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
    assert f"| 20 | trivial | {OURS} | 2.00 s (1.00 to 3.00) ~ | executions 1 |" in table
    assert "| 20 | trivial | peer | failed | failed KeyError |" in table
    assert "| run / S | 1.5 | at most 1.05 | **no** |" in table
    assert math.isnan(results.records[1].median)


def test_a_call_is_not_called_quiet_where_its_repeats_differ() -> None:
    results = Results(machine={"cores": "2"})
    results.add(Record("run", "trivial", PEER, 20, [7.0]))
    assert "Nothing was repeated" in results.to_markdown()
    quiet = results.add(Record("run", "trivial", SQLMESH, 20, [1.0, 1.09]))
    results.add(Record("visibility", "trivial", OURS, 20, [0.1, 9.0], repeats=False))
    assert "A quiet call: the repeats of each of 1 rows" in results.to_markdown()
    noisy = results.add(Record("run", "trivial", OURS, 20, [2.0, 2.3]))
    assert (quiet.noisy, noisy.noisy) == (False, True)
    results.compare(Ratio("run / S", 2.1, 2.5, noisy=noisy.noisy))
    results.noises += [("before run", noise()), ("after run", noise())]
    table = results.to_markdown()
    assert "**A noisy call**: the repeats of 1 of 2 rows differ" in table
    assert "An empty loop between the steps took" in table
    assert f"| 20 | trivial | {OURS} | 2.15 s (2.00 to 2.30) ~ |" in table
    assert "| run / S | 2.1 ~ | at most 2.5 | yes |" in table


def test_the_memory_of_a_process_and_of_its_child_are_apart() -> None:
    holding = "held = b'x' * {} * 2**20; print('held', flush=True); {}"
    child = holding.format(90, "input()")
    program = "import subprocess, sys; " + holding.format(
        30, f"subprocess.run([sys.executable, '-c', {child!r}])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with MemoryWatch(process.pid, shares=True) as watch:
        assert [process.stdout.readline() for _ in range(2)] == [b"held\n"] * 2
        watch.look()
        process.communicate(b"\n")
    memory = watch.memory
    assert 30 <= memory.own_share <= memory.own < 90 <= memory.child_share <= memory.child
    assert memory.tree >= memory.own_share + memory.child_share


def test_programs_can_be_held_on_one_core() -> None:
    before = os.sched_getaffinity(0)
    core = min(before)
    ask = [sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"]
    with on_cores({core}):
        assert subprocess.check_output(ask, text=True) == f"{core}\n"
    assert os.sched_getaffinity(0) == before


@pytest.mark.slow
@pytest.mark.campaign
def test_a_run_is_measured_with_both_floors(tmp_path: Path, postgres_server: Server) -> None:
    bench = Bench(tmp_path, postgres_server, Results(), rounds=1)
    bench.trivial(4, "duckdb", Storage.KEPT)
    records = {each.subject: each for each in bench.results.records if each.measure == "run"}
    places = {ours(THREAD), ours(PROCESS)}
    assert records.keys() == {SQLMESH, DAGSTER, CONNECTED, DEFAULT, *places}
    assert all(record.seconds for record in records.values())
    for subject in places:
        assert records[subject].facts["executions"] == records[SQLMESH].facts["executions"] == 1
        assert records[subject].facts["materialized"] == 4
        assert "failed" not in records[subject].facts
    seen = {each.subject: each for each in bench.results.records if each.measure == "visibility"}
    assert {subject: len(each.seconds) for subject, each in seen.items()} == dict.fromkeys(
        places, 4
    )
