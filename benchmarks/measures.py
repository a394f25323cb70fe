"""The measures: each runs this package against others, so many times."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import processes
from processes import Sample, run_command, run_program
from results import CONNECTED, DAGSTER, OURS, PEER, SQLMESH, Ratio, Record, Results
from support import postgres
from warehouses import Warehouse, warehouse, yesterday

from dagster_sqlmesh_automation import AutomationSettings
from dagster_sqlmesh_automation.assets.project.manifest_file import read

ON_CRON = "Dagster's on_cron"
CONTEXT = "SQLMesh's Context()"


@dataclass
class Bench:
    """All measures, with the place where they work and their results.

    Attributes:
        folder: The folder for the projects.
        server: A PostgreSQL server.
        results: The results so far; the measures fill them.
        rounds: How often everything is repeated that does not take minutes.
    """

    folder: Path
    server: postgres.Server
    results: Results
    rounds: int = 3

    def runs(self, models: int, backend: str, seconds: float, *, peer: bool = True) -> None:
        """Measures one Dagster run of so many due models, in process, against both floors."""
        server = self.server if backend == "postgres" else None
        work = f"models of {seconds:g} s, 4 at once" if seconds else "trivial models"
        case = f"{work}, {backend}"
        with self._warehouse(models, server=server, trivial=True, seconds=seconds) as house:
            samples: dict[str, list[Sample]] = {SQLMESH: [], DAGSTER: [], CONNECTED: [], OURS: []}
            for _ in range(self.rounds):
                samples[SQLMESH].append(run_command(_sqlmesh(house.fresh()), {}))
                for subject in (DAGSTER, CONNECTED):
                    variables = {**house.fresh(), "CONNECTED": "yes" * (subject == CONNECTED)}
                    variables["GRAPH"] = str(self._graph(house))
                    samples[subject].append(run_program("empty_steps.py", variables))
                samples[OURS].append(run_program("automation_run.py", house.fresh()))
            if peer and backend == "duckdb":
                samples[PEER] = [self._peer("peer_run.py", {**house.fresh(), "WATCH": "1"})]
        for subject, own in samples.items():
            self._ran("run", case, subject, models, own)
        wall = {subject: _wall(own) for subject, own in samples.items()}
        ours, s, d = wall[OURS], wall[SQLMESH], wall[DAGSTER]
        big = models >= 200
        name = f"{models} {case}: run"
        if seconds:
            self.results.compare(Ratio(f"{name} / S", ours / s, 1.05 if big else None))
        else:
            self.results.compare(Ratio(f"{name} / (S + D)", ours / (s + d), 1.1 if big else None))
            self.results.compare(Ratio(f"{name} / (S + D')", ours / (s + wall[CONNECTED])))
            self.results.compare(Ratio(f"{name} / max(S, D)", ours / max(s, d)))

    def executors(self, models: int) -> None:
        """Measures executions and time under the multiprocess executor, two steps at once."""
        case = "trivial models, multiprocess executor"
        with self._warehouse(models, trivial=True) as house:
            variables = {**house.fresh(), "EXECUTOR": "multiprocess"}
            ours = run_program("automation_run.py", variables)
            variables = {**house.fresh(), "EXECUTOR": "multiprocess"}
            peer = self._peer("peer_run.py", variables)
        self._ran("executors", case, OURS, models, [ours])
        self._ran("executors", case, PEER, models, [peer])
        name = f"{models} {case}"
        self.results.compare(Ratio(f"{name}: SQLMesh executions", ours.executions, 1))
        if not peer.error:
            self.results.compare(Ratio(f"{name}: {PEER} / run", peer.wall / ours.wall))

    def ticks(self, models: int, *, peer: bool = True) -> None:
        """Measures idle and firing ticks against the peer's schedule and the stock condition."""
        moments = {"PLANNED_AT": yesterday().isoformat(), "AT": datetime.now(UTC).isoformat()}
        with self._warehouse(models, trivial=True, empty=True) as house:
            variables = {**house.fresh(), **moments, "GRAPH": str(self._graph(house))}
            samples = {OURS: run_program("automation_tick.py", variables)}
            if peer:
                samples[PEER] = self._peer("peer_tick.py", variables)
            samples[ON_CRON] = run_program("on_cron_tick.py", variables)
        for case in ("idle", "firing", "held"):
            for subject, sample in samples.items():
                if sample.error or case in sample.answer:
                    facts: dict[str, object] = {"peak MB": sample.peak} | {
                        name: sample.answer[name]
                        for name in ("requests", "idle_requests", "requested", "cursor", "skip")
                        if name in sample.answer
                    }
                    facts |= {"failed": sample.error} if sample.error else {}
                    seconds = sample.answer.get(case, [])
                    self.results.add(Record("tick", case, subject, models, seconds, facts))
        ours = _medians(samples[OURS])
        if peer and not samples[PEER].error:
            ratio = _medians(samples[PEER])["idle"] / ours["idle"]
            name = f"{models} models: idle tick, {PEER} / this package"
            self.results.compare(Ratio(name, ratio, 20 if models == 1000 else None, at_least=True))
        stock = _medians(samples[ON_CRON])
        for case in ("idle", "firing"):
            name = f"{models} models: {case} tick, {ON_CRON} / this package"
            self.results.compare(Ratio(name, stock[case] / ours[case]))
        if models == 5000:
            self.results.compare(Ratio(f"{models} models: firing tick, s", ours["firing"], 6))
            requests = samples[OURS].answer["requests"]
            self.results.compare(Ratio(f"{models} models: run requests", requests, 1))

    def loads(self, models: int, *, peer: bool = True) -> None:
        """Measures definitions from the prepared manifest against Context() and the peer."""
        programs = {OURS: "automation_load.py", CONTEXT: "context_load.py"}
        with self._warehouse(models, trivial=True, empty=True) as house:
            variables = house.fresh()
            samples: dict[str, list[Sample]] = {
                subject: [run_program(program, variables) for _ in range(self.rounds)]
                for subject, program in programs.items()
            }
            if peer:
                rounds = self.rounds if models <= 1000 else 1
                samples[PEER] = [self._peer("peer_load.py", variables) for _ in range(rounds)]
        medians = {}
        for subject, own in samples.items():
            done = [sample for sample in own if not sample.error]
            facts: dict[str, object] = {"peak MB": max(sample.peak for sample in own)}
            if done:
                facts["whole process s"] = round(_wall(done), 2)
                medians[subject] = statistics.median(s.answer["seconds"] for s in done)
            errors = [sample.error for sample in own if sample.error]
            facts |= {"failed": errors[0]} if errors else {}
            seconds = [sample.answer["seconds"] for sample in done]
            self.results.add(Record("load", "definitions", subject, models, seconds, facts))
        for subject in (CONTEXT, PEER):
            if subject in medians:
                name = f"{models} models: load, {subject} / this package"
                reach = 5 if models == 1000 and subject == PEER else None
                ratio = medians[subject] / medians[OURS]
                self.results.compare(Ratio(name, ratio, reach, at_least=True))
        imported = any(sample.answer.get("imported") for sample in samples[OURS])
        self.results.compare(Ratio(f"{models} models: loads that import SQLMesh", imported, 0))

    def visibility(self, models: int, seconds: float) -> None:
        """Measures the time from the end of a model in SQLMesh to its materialization event."""
        work = f"models of {seconds:g} s, 4 at once" if seconds else "trivial models"
        with self._warehouse(models, trivial=True, seconds=seconds) as house:
            sample = run_program("automation_run.py", {**house.fresh(), "WATCH": "1"})
            peer = self._peer("peer_run.py", {**house.fresh(), "WATCH": "1"})
        for subject, measured in ((OURS, sample), (PEER, peer)):
            facts = {name: measured.answer.get(name) for name in ("evaluated", "materialized")}
            facts |= {"failed": measured.error} if measured.error else {}
            seconds = measured.answer.get("visible", [])
            case = f"from evaluated to materialized, {work}"
            self.results.add(Record("visibility", case, subject, models, seconds, facts))
        median = statistics.median(sample.answer["visible"])
        self.results.compare(Ratio(f"{models} {work}: visibility, median s", median, 1))

    def _warehouse(self, models: int, **options: Any) -> AbstractContextManager[Warehouse]:
        return warehouse(self.folder / "warehouse", models, **options)

    def _graph(self, house: Warehouse) -> Path:
        """Writes a file with the project's models and what each reads, as names of assets."""
        settings = AutomationSettings(project=Path(house.variables["PROJECT"]))
        manifest = read(settings)
        assert manifest is not None
        names = {model.fqn: model.name.replace(".", "__") for model in manifest.models}
        graph = {
            names[model.fqn]: sorted(names[parent] for parent in model.depends_on)
            for model in manifest.models
        }
        file = self.folder / "graph.json"
        file.write_text(json.dumps(graph))
        return file

    def _peer(self, program: str, variables: Mapping[str, str]) -> Sample:
        return run_program(program, variables, python=processes.PEER)

    def _ran(
        self, measure: str, case: str, subject: str, models: int, samples: Sequence[Sample]
    ) -> None:
        done = [sample for sample in samples if not sample.error]
        facts: dict[str, object] = {}
        if subject not in (DAGSTER, CONNECTED):
            facts["executions"] = _only(sample.executions for sample in samples)
        if any("materialized" in sample.answer for sample in samples):
            facts["materialized"] = _only(sample.answer.get("materialized") for sample in samples)
        if evaluated := [n for sample in samples if (n := sample.answer.get("evaluated"))]:
            facts["evaluated by SQLMesh"] = _only(evaluated)
        if done:
            facts["CPU s"] = round(statistics.median(sample.cpu for sample in done), 1)
            inner = [sample.answer["seconds"] for sample in done if "seconds" in sample.answer]
            facts |= {"without start s": round(statistics.median(inner), 2)} if inner else {}
        steps = [second for sample in done for second in sample.answer.get("step_seconds", ())]
        facts |= {"a step s": round(statistics.median(steps), 2)} if steps else {}
        failed = [sample.error for sample in samples if sample.error]
        if any(sample.answer.get("succeeded") is False for sample in samples):
            failed.append("the run failed")
        facts |= {"failed": failed[0]} if failed else {}
        seconds = [sample.wall for sample in done]
        self.results.add(Record(measure, case, subject, models, seconds, facts))


def _sqlmesh(variables: Mapping[str, str]) -> list[str]:
    return [str(Path(sys.executable).parent / "sqlmesh"), "--paths", variables["PROJECT"], "run"]


def _wall(samples: Sequence[Sample]) -> float:
    return statistics.median(sample.wall for sample in samples)


def _medians(sample: Sample) -> dict[str, float]:
    if sample.error:
        raise RuntimeError(f"A program of the benchmark failed: {sample.error}")
    return {
        case: statistics.median(sample.answer[case])
        for case in ("idle", "firing", "held")
        if case in sample.answer
    }


def _only(values: Iterable[object]) -> object:
    """Returns one value if all are alike, else all of them."""
    listed = list(values)
    return listed[0] if len(set(listed)) == 1 else listed
