"""The measures: each runs this package against others, so many times."""

from __future__ import annotations

import statistics
from datetime import UTC, datetime

from common import failures_of
from processes import Sample, run_program
from results import OURS, PEER, Record
from run_measures import RunMeasures
from warehouses import yesterday

ON_CRON = "Dagster's on_cron"
CONTEXT = "SQLMesh's Context()"


class Bench(RunMeasures):
    """All measures: those of runs, and of ticks and loads."""

    def ticks(self, models: int, *, peer: bool = True) -> None:
        """Measures idle and firing ticks against the peer's schedule and the stock condition."""
        moments = {"PLANNED_AT": yesterday().isoformat(), "AT": datetime.now(UTC).isoformat()}
        with self.warehouse(models, trivial=True, empty=True) as house:
            variables = {**house.fresh(), **moments, "GRAPH": str(self.graph(house))}
            samples = {OURS: run_program("automation_tick.py", variables)}
            if peer:
                samples[PEER] = self.peer("peer_tick.py", variables)
            samples[ON_CRON] = run_program("on_cron_tick.py", variables)
        records: dict[tuple[str, str], Record] = {}
        for case in ("idle", "firing", "held"):
            for subject, sample in samples.items():
                if sample.error or case in sample.answer:
                    facts: dict[str, object] = {"peak MB": sample.memory.largest} | {
                        name: sample.answer[name]
                        for name in ("requests", "idle_requests", "requested", "cursor", "skip")
                        if name in sample.answer
                    }
                    facts |= {"failed": sample.error} if sample.error else {}
                    seconds = sample.answer.get(case, [])
                    record = Record("tick", case, subject, models, seconds, facts)
                    records[case, subject] = self.results.add(record)
        if peer and not samples[PEER].error:
            reach = 20 if models == 1000 else None
            self._faster(models, "idle tick", records["idle", PEER], records["idle", OURS], reach)
        for case in ("idle", "firing"):
            self._faster(models, f"{case} tick", records[case, ON_CRON], records[case, OURS])
        if models == 5000:
            firing = records["firing", OURS]
            self.compare(f"{models} models: firing tick, s", firing.median, (firing,), 6)
            requests = samples[OURS].answer["requests"]
            self.compare(f"{models} models: run requests", requests, reach=1)

    def loads(self, models: int, *, peer: bool = True) -> None:
        """Measures definitions from the prepared manifest against Context() and the peer."""
        programs = {OURS: "automation_load.py", CONTEXT: "context_load.py"}
        with self.warehouse(models, trivial=True, empty=True) as house:
            variables = house.fresh()
            samples: dict[str, list[Sample]] = {
                subject: [run_program(program, variables) for _ in range(self.rounds)]
                for subject, program in programs.items()
            }
            if peer:
                rounds = self.rounds if models <= 1000 else 1
                samples[PEER] = [self.peer("peer_load.py", variables) for _ in range(rounds)]
        records: dict[str, Record] = {}
        for subject, own in samples.items():
            done = [sample for sample in own if not sample.error]
            facts: dict[str, object] = {"peak MB": max(sample.memory.largest for sample in own)}
            if done:
                facts["whole process s"] = round(statistics.median(s.wall for s in done), 2)
            facts |= failures_of(own)
            seconds = [sample.answer["seconds"] for sample in done]
            record = Record("load", "definitions", subject, models, seconds, facts)
            records[subject] = self.results.add(record)
        for subject in (CONTEXT, PEER):
            if subject in records and records[subject].seconds:
                reach = 5 if models == 1000 and subject == PEER else None
                self._faster(models, "load", records[subject], records[OURS], reach)
        imported = any(sample.answer.get("imported") for sample in samples[OURS])
        self.compare(f"{models} models: loads that import SQLMesh", imported, reach=0)

    def _faster(
        self, models: int, what: str, other: Record, own: Record, reach: float | None = None
    ) -> None:
        """Compares how long another one takes with how long this package does."""
        name = f"{models} models: {what}, {other.subject} / this package"
        self.compare(name, other.median / own.median, (other, own), reach, at_least=True)
