"""Measures this package against its nearest peer and against plain SQLMesh and plain Dagster.

    make bench                                         the short form, a quarter of an hour
    make bench-full                                    all sizes, some hours
    python benchmarks/bench.py --only tick             one measure
    … --full --only tick --models 5000 --name of-5000  one size of it, with its own file

Everything that a ratio compares runs in turn on the same machine in the same call. The peer runs in
an environment of its own, `.venv-peer` (`make bench-peer`), with the same versions of Dagster and
SQLMesh. Results go to `benchmarks/results` as JSON and markdown; the chart goes to the docs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

# The benchmarks share PostgreSQL and the counter of executions with the tests.
sys.path.append(str(Path(__file__).parents[1] / "tests"))

import processes
from chart import draw
from measures import Bench
from results import Results
from support import postgres

RESULTS = Path(__file__).parent / "results"
CHART = Path(__file__).parent.parent / "docs" / "images" / "benchmarks.svg"


Step = tuple[int, Callable[[], None]]


def plan_of(bench: Bench, full: bool) -> dict[str, list[Step]]:
    """Returns the steps of each measure, by its name, each step with its number of models."""
    sizes = [100, 1000, 5000] if full else [100, 1000]
    sleepers = [20, 200] if full else [20]
    backends = ("duckdb", "postgres")
    return {
        "run": [(m, partial(bench.runs, m, b, 0)) for b in backends for m in (20, 200)],
        "sleepers": [
            (m, partial(bench.runs, m, b, 1, peer=m == 20)) for b in backends for m in sleepers
        ],
        "executors": [(m, partial(bench.executors, m)) for m in ([10, 20, 40] if full else [10])],
        "tick": [(m, partial(bench.ticks, m, peer=m <= 1000)) for m in sizes],
        "load": [(m, partial(bench.loads, m, peer=m <= 1000)) for m in sizes],
        "visibility": [
            (200, partial(bench.visibility, 200, 0)),
            *((m, partial(bench.visibility, m, 1)) for m in sleepers),
        ],
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="all sizes")
    names = ("run", "sleepers", "executors", "tick", "load", "visibility")
    parser.add_argument("--only", choices=names, action="append", help="these measures alone")
    parser.add_argument("--models", type=int, help="projects of this size alone")
    parser.add_argument("--rounds", type=int, default=2, help="of what does not take minutes")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="for the results")
    parser.add_argument("--name", help="of the results, without ending; short or full")
    arguments = parser.parse_args()
    if not processes.PEER.exists():
        parser.error("the peer's environment is missing: make bench-peer")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    failed: list[str] = []
    results, name = Results(), arguments.name or ("full" if arguments.full else "short")
    with tempfile.TemporaryDirectory() as folder, postgres.running_server() as server:
        bench = Bench(Path(folder), server, results, arguments.rounds)
        for measure, steps in plan_of(bench, arguments.full).items():
            for models, step in steps:
                if arguments.only and measure not in arguments.only:
                    continue
                if arguments.models not in (None, models):
                    continue
                try:
                    step()
                except Exception:  # noqa: BLE001 - the other measures do not depend on it
                    failed.append(f"{measure} of {models} models")
                    traceback.print_exc()
                # After each step: what has been measured is kept if a later one fails.
                results.write(arguments.folder, name)
    if not (arguments.only or arguments.models):
        draw(results, CHART)
    print(f"Written: {arguments.folder / name}.json and .md")
    if failed:
        sys.exit(f"Not measured, see above: {', '.join(failed)}")


if __name__ == "__main__":
    main()
