"""Ticks of Dagster's stock condition ``on_cron`` on a graph of the same shape."""

import json
import os
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
from repeated import ROUNDS, say, seconds_of

AT = datetime.fromisoformat(os.environ["AT"])


def asset(name: str, parents: list[str]) -> dg.AssetsDefinition:
    @dg.asset(
        name=name, deps=parents, automation_condition=dg.AutomationCondition.on_cron("@daily")
    )
    def step() -> None: ...

    return step


class Ticks:
    """Definitions and the cursor of their evaluations."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        graph = json.loads(Path(os.environ["GRAPH"]).read_text())
        self.defs = dg.Definitions(assets=[asset(*each) for each in graph.items()])
        self.instance, self.requested = instance, 0
        self.cursor = None

    def tick(self, at: datetime) -> None:
        result = dg.evaluate_automation_conditions(
            self.defs, self.instance, cursor=self.cursor, evaluation_time=at
        )
        self.cursor, self.requested = result.cursor, result.total_requested


if __name__ == "__main__":
    with dg.DagsterInstance.ephemeral() as instance:
        ticks = Ticks(instance)
        first = seconds_of(lambda: ticks.tick(AT), 1)
        moments = iter(AT + timedelta(seconds=30 * number) for number in range(1, ROUNDS + 1))
        idle = seconds_of(lambda: ticks.tick(next(moments)))
        assert not ticks.requested
        days = iter(AT + timedelta(days=number) for number in range(1, ROUNDS + 1))
        firing = seconds_of(lambda: ticks.tick(next(days)))
    say(first=first, idle=idle, firing=firing, requested=ticks.requested)
