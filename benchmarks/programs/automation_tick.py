"""Ticks of this package's sensor: idle, firing, and one at which all is due and paused."""

import os
from datetime import datetime

import dagster as dg
from repeated import say, seconds_of

from dagster_sqlmesh_automation import AutomationSettings
from dagster_sqlmesh_automation.automation.definitions import Location
from dagster_sqlmesh_automation.config.rules import ModelRule

PLANNED_AT = datetime.fromisoformat(os.environ["PLANNED_AT"])
AT = datetime.fromisoformat(os.environ["AT"])


class Ticks:
    """A code location and its sensor's cursor."""

    def __init__(self, settings: AutomationSettings, instance: dg.DagsterInstance) -> None:
        self.location = Location(settings)
        self.repository = self.location.definitions.get_repository_def()
        self.location.planner.learn(self.repository.asset_graph)
        self.instance, self.cursor, self.requests = instance, "", 0
        self.requested: set[dg.AssetKey] = set()

    def tick(self, at: datetime) -> None:
        plan = self.location.planner.plan(self.instance, at)
        with dg.build_sensor_context(
            instance=self.instance,
            repository_def=self.repository,
            cursor=self.cursor or None,
        ) as context:
            result = self.location.sensor.request(context, plan, simulated=True)
        self.cursor = str(result.cursor)
        self.requests = len(result.run_requests or ())
        self.requested = {
            key for each in result.run_requests or () for key in each.asset_selection or ()
        }


if __name__ == "__main__":
    settings = AutomationSettings()
    with dg.DagsterInstance.ephemeral() as instance:
        ticks = Ticks(settings, instance)
        first = seconds_of(lambda: ticks.tick(PLANNED_AT), 1)
        idle = seconds_of(lambda: ticks.tick(PLANNED_AT))
        assert not ticks.requests
        firing = seconds_of(lambda: ticks.tick(AT))
        paused = settings.model_copy(update={"models": {"*": ModelRule(paused=True)}})
        held = Ticks(paused, instance)
        held.tick(AT)
        holding = seconds_of(lambda: held.tick(AT))
        assert not held.requests
    say(
        first=first,
        idle=idle,
        firing=firing,
        held=holding,
        cursor=len(ticks.cursor),
        requests=ticks.requests,
        requested=len(ticks.requested),
    )
