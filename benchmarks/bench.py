"""Measures this package against its nearest peer and against plain SQLMesh and plain Dagster.

    make bench                                         the short form, some twenty minutes
    make bench-full                                    all sizes, some hours
    python benchmarks/bench.py --only run              one measure
    … --full --only tick --models 5000 --name of-5000  one size of it, with its own file

Everything that a ratio compares runs in turn on the same machine in the same call. The peer runs in
an environment of its own, `.venv-peer` (`make bench-peer`), with the same versions of Dagster and
SQLMesh. Results go to `benchmarks/results` as JSON and markdown; the chart goes to the docs. What
differs by more than 10 % from its own repeats is marked, and the call is then called noisy.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

# The benchmarks share PostgreSQL and the counter of executions with the tests.
sys.path.append(str(Path(__file__).parents[1] / "tests"))

import processes
from chart import draw
from measures import Bench
from noise import noise
from results import Results
from support import postgres
from warehouses import Storage

RESULTS = Path(__file__).parent / "results"
CHART = Path(__file__).parent.parent / "docs" / "images" / "benchmarks.svg"


Step = tuple[int, Callable[[], None]]

MEASURES = ("run", "sleepers", "one-core", "memory", "executors", "tick", "load")


def plan_of(bench: Bench, full: bool, peer: bool) -> dict[str, list[Step]]:
    """Returns the steps of each measure, by its name, each step with its number of models.

    Visibility is of the runs of `run` and `sleepers`.
    """
    sizes = [100, 1000, 5000] if full else [100, 1000]
    sleepers = [20, 200] if full else [20]
    trivial = [(20, "duckdb", Storage.KEPT)]
    trivial += [(200, b, storage) for b in ("duckdb", "postgres") for storage in Storage]
    return {
        "run": [
            # The peer has Dagster's own storage.
            (m, partial(bench.trivial, m, b, s, peer=peer and (b, s) == ("duckdb", Storage.OWN)))
            for m, b, s in trivial
        ],
        "sleepers": [
            (m, partial(bench.sleepers, m, b)) for b in ("duckdb", "postgres") for m in sleepers
        ],
        "one-core": [(200, partial(bench.one_core, 200))],
        "memory": [(200, partial(bench.memory, 200))],
        "executors": [
            (m, partial(bench.executors, m, peer=peer)) for m in ([10, 20, 40] if full else [10])
        ],
        "tick": [(m, partial(bench.ticks, m, peer=peer and m <= 1000)) for m in sizes],
        "load": [(m, partial(bench.loads, m, peer=peer and m <= 1000)) for m in sizes],
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="all sizes")
    parser.add_argument("--only", choices=MEASURES, action="append", help="these measures alone")
    parser.add_argument("--models", type=int, help="projects of this size alone")
    parser.add_argument("--rounds", type=int, default=2, help="of what does not take minutes")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="for the results")
    parser.add_argument("--name", help="of the results, without ending; short or full")
    parser.add_argument("--no-peer", action="store_true", help="without dg-sqlmesh")
    arguments = parser.parse_args()
    if not arguments.no_peer and not processes.PEER.exists():
        parser.error("the peer's environment is missing: make bench-peer, or --no-peer")
    return arguments


def chosen(
    arguments: argparse.Namespace, bench: Bench
) -> Iterator[tuple[str, int, Callable[[], None]]]:
    """Yields the steps that are asked for, each with its measure and its number of models."""
    for measure, steps in plan_of(bench, arguments.full, not arguments.no_peer).items():
        for models, step in steps:
            if measure in (arguments.only or MEASURES) and arguments.models in (None, models):
                yield measure, models, step


def main() -> None:
    arguments = parse_arguments()
    failed: list[str] = []
    results, name = Results(), arguments.name or ("full" if arguments.full else "short")
    with tempfile.TemporaryDirectory() as folder, postgres.running_server() as server:
        bench = Bench(Path(folder), server, results, arguments.rounds)
        for measure, models, step in chosen(arguments, bench):
            what = f"{measure} of {models} models"
            results.noises.append((f"before {what}", noise()))
            try:
                step()
            except Exception:  # noqa: BLE001 - the other measures do not depend on it
                failed.append(what)
                traceback.print_exc()
            results.noises.append((f"after {what}", noise()))
            # After each step: what has been measured is kept if a later one fails.
            results.write(arguments.folder, name)
    if not (arguments.only or arguments.models):
        draw(results, CHART)
    print("\n".join(results.verdict()))
    print(f"Written: {arguments.folder / name}.json and .md")
    if failed:
        sys.exit(f"Not measured, see above: {', '.join(failed)}")


if __name__ == "__main__":
    main()
