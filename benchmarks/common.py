"""What all measures have in common."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import processes
from processes import Sample, run_job, run_program
from results import Ratio, Record, Results
from support import postgres
from warehouses import Warehouse, warehouse

from dagster_sqlmesh_automation import AutomationSettings
from dagster_sqlmesh_automation.assets.project.manifest_file import read


@dataclass
class Measures:
    """The place where measures work, and their results.

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

    def warehouse(self, models: int, **options: Any) -> AbstractContextManager[Warehouse]:
        """Generates and plans a project; see :func:`.warehouses.warehouse`."""
        return warehouse(self.folder / "warehouse", models, **options)

    def graph(self, house: Warehouse) -> Path:
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

    def peer(self, program: str, variables: Mapping[str, str]) -> Sample:
        """Runs a program in the peer's environment."""
        return run_program(program, variables, python=processes.PEER)

    def peer_job(self, program: str, variables: Mapping[str, str]) -> Sample:
        """Measures a run of a program's job in the peer's environment."""
        return run_job(program, variables, python=processes.PEER)

    def ran(
        self, measure: str, case: str, subject: str, models: int, samples: Sequence[Sample]
    ) -> Record:
        """Keeps what samples of one subject say."""
        facts = {**facts_of(samples), **failures_of(samples)}
        seconds = [sample.wall for sample in samples if not sample.error]
        return self.results.add(Record(measure, case, subject, models, seconds, facts))

    def compare(
        self,
        what: str,
        value: float,
        of: Iterable[Record] = (),
        reach: float | None = None,
        *,
        at_least: bool = False,
    ) -> None:
        """Keeps a ratio; it is noisy if one of the records is that it is made of."""
        noisy = any(record.noisy for record in of)
        self.results.compare(Ratio(what, value, reach, at_least, noisy))


def facts_of(samples: Sequence[Sample]) -> dict[str, object]:
    """What samples of one subject say, but for their time."""
    done = [sample for sample in samples if not sample.error]
    facts: dict[str, object] = {}
    if any(sample.executions for sample in samples):
        facts["executions"] = only(sample.executions for sample in samples)
        facts["evaluated by SQLMesh"] = only(len(sample.evaluated) for sample in samples)
    if any("shown" in sample.answer for sample in samples):
        facts["materialized"] = only(len(sample.answer.get("shown", ())) for sample in samples)
    if done:
        facts["CPU s"] = round(statistics.median(sample.cpu for sample in done), 1)
    for name, key in (("without start s", "seconds"), ("from the run's start s", "run_seconds")):
        if inner := [sample.answer[key] for sample in done if key in sample.answer]:
            facts[name] = round(statistics.median(inner), 2)
    if steps := [second for sample in done for second in sample.answer.get("step_seconds", ())]:
        facts["a step s"] = round(statistics.median(steps), 2)
    return facts


def failures_of(samples: Sequence[Sample]) -> dict[str, object]:
    """Why one of the samples failed, if one did."""
    failed = [sample.error for sample in samples if sample.error]
    if any(sample.answer.get("succeeded") is False for sample in samples):
        failed.append("the run failed")
    return {"failed": failed[0]} if failed else {}


def only(values: Iterable[object]) -> object:
    """Returns one value if all are alike, else all of them."""
    listed = list(values)
    return listed[0] if len(set(listed)) == 1 else listed
