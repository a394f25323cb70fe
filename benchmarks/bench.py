"""Measures this package against its nearest peer and against plain SQLMesh and plain Dagster.

    make bench                                         the short form, a quarter of an hour
    make bench-full                                    all sizes, some hours
    PYTHONPATH=tests python benchmarks/bench.py --only tick   one measure

Everything that a ratio compares is run in turn on the same machine in the same call. The peer runs
in an environment of its own, `.venv-peer` (`make bench-peer`), with the same versions of Dagster
and SQLMesh. Results go to `benchmarks/results` as JSON and markdown; the chart goes to the docs.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import processes
from chart import draw
from measures import Bench
from results import Results
from support import postgres

RESULTS = Path(__file__).parent / "results"
CHART = Path(__file__).parent.parent / "docs" / "images" / "benchmarks.svg"


def plan_of(bench: Bench, full: bool) -> dict[str, list[Callable[[], None]]]:
    """What is measured, by the name of the measure, in order."""
    sizes = [100, 1000, 5000] if full else [100, 1000]
    sleepers = [20, 200] if full else [20]
    return {
        "run": [
            *(
                lambda m=models, b=backend: bench.runs(m, b, 0)  # type: ignore[misc]
                for backend in ("duckdb", "postgres")
                for models in (20, 200)
            ),
            *(
                lambda m=models, b=backend: bench.runs(m, b, 1, peer=m == 20)  # type: ignore[misc]
                for backend in ("duckdb", "postgres")
                for models in sleepers
            ),
        ],
        "executors": [lambda m=m: bench.executors(m) for m in ([10, 20, 40] if full else [10])],  # type: ignore[misc]
        "tick": [lambda m=m: bench.ticks(m, peer=m <= 1000) for m in sizes],  # type: ignore[misc]
        "load": [lambda m=m: bench.loads(m, peer=m <= 1000) for m in sizes],  # type: ignore[misc]
        "visibility": [lambda m=m: bench.visibility(m) for m in ([20, 200] if full else [200])],  # type: ignore[misc]
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="all sizes")
    names = ("run", "executors", "tick", "load", "visibility")
    parser.add_argument("--only", choices=names, action="append", help="these measures alone")
    parser.add_argument("--rounds", type=int, default=3, help="of what does not take minutes")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="for the results")
    asked = parser.parse_args()
    if not processes.PEER.exists():
        parser.error("the peer's environment is missing: make bench-peer")

    results, name = Results(), "full" if asked.full else "short"
    with tempfile.TemporaryDirectory() as folder, postgres.running_server() as server:
        bench = Bench(Path(folder), server, results, asked.rounds)
        for measure, steps in plan_of(bench, asked.full).items():
            for step in steps if not asked.only or measure in asked.only else ():
                step()
                # After each step: what has been measured is kept if a later one fails.
                results.write(asked.folder, name)
    draw(results, CHART)
    print(f"Written: {asked.folder / name}.json, {asked.folder / name}.md, {CHART}")


if __name__ == "__main__":
    main()
