"""The measures of runs: time, visibility, one core, memory, executors."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from common import Measures, failures_of
from processes import Sample, on_cores, run_command, run_job
from results import CONNECTED, DAGSTER, DEFAULT, OURS, PEER, SQLMESH, Record
from warehouses import Storage, Warehouse

THREAD, PROCESS = "thread", "process"
"""Where SQLMesh executes, as the setting ``ISOLATION`` names it."""

AUTO = {"duckdb": THREAD, "postgres": PROCESS}
"""What ``ISOLATION`` is by default."""

_REACH = {("duckdb", THREAD): 0.9, ("duckdb", PROCESS): 0.75, ("postgres", PROCESS): 0.85}
"""What part of S + D a run of 200 trivial models may take.

With the same storage in both, and against Dagster's own defaults.
"""

_PER_SECOND = 1.05
"""What part of S a run of models of 1 s may take, from the run's start."""


def ours(isolation: str) -> str:
    """How tables name this package with SQLMesh in a thread, or in a process."""
    return f"{OURS}, {isolation}"


class RunMeasures(Measures):
    """Runs of so many due models, in one process of Dagster's."""

    def trivial(self, models: int, backend: str, storage: Storage, *, peer: bool = False) -> None:
        """Measures a run of trivial models against both floors, with one storage of Dagster's."""
        isolations = (THREAD, PROCESS) if storage is Storage.KEPT else (AUTO[backend],)
        floors = (DAGSTER, CONNECTED, DEFAULT) if storage is Storage.KEPT else (DAGSTER,)
        subjects = (SQLMESH, *floors, *map(ours, isolations))
        case = f"trivial models, {backend}, {storage}"
        with self.warehouse(models, server=self._server(backend), trivial=True) as house:
            samples = self._in_turn(house, subjects, storage)
            if peer:
                samples[PEER] = [self.peer_job("peer_run.py", house.fresh())]
        records = self._records(case, models, samples)
        for isolation in isolations:
            name = f"{models} {case}: run in a {isolation}"
            run, s = records[ours(isolation)], records[SQLMESH]
            wanted = models >= 200 and storage is Storage.KEPT
            reach = _REACH.get((backend, isolation)) if wanted else None
            for floor in floors:
                both = s.median + records[floor].median
                title = f"{name} / (S + {floor.partition(':')[0]})"
                of = (run, s, records[floor])
                self.compare(title, run.median / both, of, None if floor is CONNECTED else reach)
            self._see(case, models, ours(isolation), samples[ours(isolation)], 1)
        if peer:
            self._see(case, models, PEER, samples[PEER])

    def sleepers(self, models: int, backend: str) -> None:
        """Measures a run of models of 1 s, 4 at once, from the run's start."""
        isolations = (THREAD, PROCESS) if backend == "duckdb" else (PROCESS,)
        case = f"models of 1 s, 4 at once, {backend}, {Storage.KEPT}"
        options = {"server": self._server(backend), "trivial": True, "seconds": 1}
        with self.warehouse(models, **options) as house:
            samples = self._in_turn(house, (SQLMESH, *map(ours, isolations)), Storage.KEPT)
        records = self._records(case, models, samples)
        for isolation in isolations:
            subject = ours(isolation)
            name = f"{models} {case}: run in a {isolation}, from its start / S"
            value = _run_seconds(samples[subject]) / records[SQLMESH].median
            self.compare(name, value, (records[subject], records[SQLMESH]), _PER_SECOND)
            self._see(case, models, subject, samples[subject], 1)

    def one_core(self, models: int) -> None:
        """Measures runs of trivial models on one core, in a thread, in a process, and as before."""
        case = f"trivial models, one core, duckdb, {Storage.KEPT}"
        before = f"trivial models, one core, duckdb, {Storage.OWN}"
        with self.warehouse(models, trivial=True) as house, on_cores({0}):
            kept: dict[str, list[Sample]] = {ours(THREAD): [], ours(PROCESS): []}
            own: list[Sample] = []
            for _ in range(self.rounds):
                for isolation in (THREAD, PROCESS):
                    kept[ours(isolation)].append(self._run(house, Storage.KEPT, isolation))
                own.append(self._run(house, Storage.OWN, THREAD))
        records = self._records(case, models, kept, "one core")
        earlier = self._records(before, models, {ours(THREAD): own}, "one core")[ours(THREAD)]
        thread, process = records[ours(THREAD)], records[ours(PROCESS)]
        name = f"{models} trivial models, one core"
        for title, one, other in (
            ("process / thread", process, thread),
            (f"thread / thread on {Storage.OWN}", thread, earlier),
            (f"process / thread on {Storage.OWN}", process, earlier),
        ):
            self.compare(f"{name}: {title}", one.median / other.median, (one, other), 1)

    def memory(self, models: int) -> None:
        """Measures what the processes of a run hold, the run's own and SQLMesh's apart."""
        case = "trivial models, duckdb"
        with self.warehouse(models, trivial=True) as house:
            samples = {
                SQLMESH: self._sqlmesh(house, shares=True),
                CONNECTED: self._empty(house, Storage.KEPT, connected=True, shares=True),
                **{
                    ours(isolation): self._run(house, Storage.KEPT, isolation, shares=True)
                    for isolation in (THREAD, PROCESS)
                },
            }
        for subject, sample in samples.items():
            memory = sample.memory
            facts = {
                "own peak MB": memory.own,
                "own share MB": memory.own_share,
                "largest child's peak MB": memory.child,
                "its share MB": memory.child_share,
                "all shares at once MB": memory.tree,
                "imports SQLMesh itself": sample.imports_sqlmesh,
                **failures_of([sample]),
            }
            self.results.add(Record("memory", case, subject, models, [sample.wall], facts))
        process, floor = samples[ours(PROCESS)], samples[CONNECTED]
        name = f"{models} {case}: the run's process"
        self.compare(f"{name}, peak / D'", process.memory.own / floor.memory.own)
        self.compare(f"{name} imports SQLMesh", process.imports_sqlmesh, reach=0)

    def executors(self, models: int, *, peer: bool = True) -> None:
        """Measures executions and time under the multiprocess executor, two steps at once."""
        case = "trivial models, multiprocess executor"
        with self.warehouse(models, trivial=True) as house:
            own = run_job("automation_run.py", {**house.fresh(), "EXECUTOR": "multiprocess"})
            samples = {OURS: own}
            if peer:
                variables = {**house.fresh(), "EXECUTOR": "multiprocess"}
                samples[PEER] = self.peer_job("peer_run.py", variables)
        for subject, sample in samples.items():
            self.ran("executors", case, subject, models, [sample])
        name = f"{models} {case}"
        self.compare(f"{name}: SQLMesh executions", own.executions, reach=1)
        if peer and not samples[PEER].error:
            self.compare(f"{name}: {PEER} / run", samples[PEER].wall / own.wall)

    def _server(self, backend: str) -> object:
        return self.server if backend == "postgres" else None

    def _in_turn(
        self, house: Warehouse, subjects: Iterable[str], storage: Storage
    ) -> dict[str, list[Sample]]:
        """Runs all subjects in turn, as many rounds as there are to be."""
        samples: dict[str, list[Sample]] = {subject: [] for subject in subjects}
        for _ in range(self.rounds):
            for subject, own in samples.items():
                if subject == SQLMESH:
                    own.append(self._sqlmesh(house))
                elif subject in (DAGSTER, CONNECTED):
                    own.append(self._empty(house, storage, connected=subject == CONNECTED))
                elif subject == DEFAULT:
                    own.append(self._empty(house, Storage.OWN, connected=False))
                else:
                    isolation = THREAD if subject == ours(THREAD) else PROCESS
                    own.append(self._run(house, storage, isolation))
        return samples

    def _sqlmesh(self, house: Warehouse, *, shares: bool = False) -> Sample:
        command = Path(sys.executable).parent / "sqlmesh"
        arguments = [str(command), "--paths", house.fresh()["PROJECT"], "run"]
        return run_command(arguments, {}, shares)

    def _empty(
        self, house: Warehouse, storage: Storage, *, connected: bool, shares: bool = False
    ) -> Sample:
        variables = {**house.fresh(storage), "CONNECTED": "yes" * connected}
        variables["GRAPH"] = str(self.graph(house))
        return run_job("empty_steps.py", variables, shares=shares)

    def _run(
        self, house: Warehouse, storage: Storage, isolation: str, *, shares: bool = False
    ) -> Sample:
        variables = {**house.fresh(storage), "SQLMESH_AUTOMATION_ISOLATION": isolation}
        return run_job("automation_run.py", variables, shares=shares)

    def _records(
        self,
        case: str,
        models: int,
        samples: Mapping[str, Sequence[Sample]],
        measure: str = "run",
    ) -> dict[str, Record]:
        return {
            subject: self.ran(measure, case, subject, models, own)
            for subject, own in samples.items()
        }

    def _see(
        self,
        case: str,
        models: int,
        subject: str,
        samples: Sequence[Sample],
        reach: float | None = None,
    ) -> None:
        """Keeps how long after SQLMesh's evaluation Dagster showed the models."""
        visible = [seconds for sample in samples for seconds in sample.visible]
        facts = {"of models": len(visible), **failures_of(samples)}
        record = Record("visibility", case, subject, models, visible, facts, repeats=False)
        self.results.add(record)
        if reach is not None:
            title = f"{models} {case}: visibility in a {subject.rpartition(' ')[2]}, median s"
            self.compare(title, record.median, reach=reach)


def _run_seconds(samples: Sequence[Sample]) -> float:
    return statistics.median(sample.answer["run_seconds"] for sample in samples)
