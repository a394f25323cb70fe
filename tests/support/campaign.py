"""The fault campaign: runs are struck at random moments, and nothing may show afterwards."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import dagster as dg
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES

from . import projects
from .agreement import disagreements, tick_until_idle
from .blows import OF_A_PROCESS, ON_A_SERVER, ON_FILES, Blow, Target
from .executors import Launch, dagster_home
from .outcome_helpers import intervals
from .postgres import Server
from .warehouse import MODELS, PLANNED_AT, Warehouse, sleeping, warehouse

EXECUTORS = ("in_process", "multiprocess_2", "subprocess")
ISOLATIONS = ("process", "thread")
AT_ONCE = {"SQLMESH_AUTOMATION_RETRY__DELAY_SECONDS": "0"}
"""A model that was evaluated alone when SQLMesh's process was killed has failed, for all one knows,
and its next attempt would wait."""

# Time for a kill to hit something: between batches, audits, records of intervals.
_MODELS = {
    **MODELS,
    "models/nap.py": sleeping("shop.nap", ["shop.events"], seconds=0.5),
    "models/rest.py": sleeping("shop.rest", ["shop.nap", "shop.totals"], seconds=0.5),
}


@dataclass
class Campaign:
    """Rounds on one project, each a day on, against a twin that nobody disturbs.

    Attributes:
        folder: For both projects.
        seed: Of all that is random.
        server: PostgreSQL, for tables, state and storage; files when not given.
        say: Told each round's figures.
    """

    folder: Path
    seed: int
    server: Server | None = None
    say: Callable[[str], None] = print
    figures: Counter[str] = field(default_factory=Counter)

    def run(self, rounds: int) -> None:
        """Does so many rounds; fails at the first that shows."""
        chance = random.Random(self.seed)
        shop = self._project("disturbed")
        twin = self._project("twin")
        storage = [self.server.database().dagster_yaml] if self.server is not None else []
        home = dagster_home(self.folder / "home", *storage)
        for number, blow in enumerate(self._blows(chance, rounds), 1):
            at = PLANNED_AT + timedelta(days=number)
            executor, isolation = chance.choice(EXECUTORS), chance.choice(ISOLATIONS)
            if blow in OF_A_PROCESS:
                isolation = "process"
            launched = partial(
                Launch,
                shop.project,
                home,
                at=at,
                variables={"SQLMESH_AUTOMATION_ISOLATION": isolation},
            )
            # From before the first model to after the last, by what a run takes here.
            delay = chance.uniform(0.0, 3.0)
            with launched(executor=executor) as launch:
                second = partial(launched, executor="in_process")
                struck = self._strike(Target(launch, shop, second, self.server), blow, delay)
                launch.finish()
                self._monitor(launch.instance)
                status = launch.status.value.lower()
                ticks = tick_until_idle(shop, home, at, **AT_ONCE)
                assert projects.sqlmesh_run(twin.project, at).is_success
                self._compare(launch.instance, shop, twin, number)
            requested = sum(tick["run_id"] is not None for tick in ticks)
            self.figures.update({"rounds": 1, "ticks with a run": requested, struck: 1})
            self.figures[f"runs that ended in {status}"] += 1
            self.say(
                f"round {number}: {executor}, SQLMesh in a {isolation}, {struck} after "
                f"{delay:.2f} s, run {status}, {requested} further runs"
            )
        self.say(f"seed {self.seed}: " + ", ".join(f"{k}: {v}" for k, v in self.figures.items()))

    def _blows(self, chance: random.Random, rounds: int) -> Iterator[Blow]:
        """Blows in random order, none twice before each was there once."""
        kinds = ON_A_SERVER if self.server is not None else ON_FILES
        left: list[Blow] = []
        for _ in range(rounds):
            left = left or chance.sample(kinds, len(kinds))
            yield left.pop()

    def _project(self, name: str) -> Warehouse:
        database = self.server.database() if self.server is not None else None
        return warehouse(self.folder / name, database, models=_MODELS, tasks=2)

    @staticmethod
    def _strike(target: Target, blow: Blow, delay: float) -> str:
        """Strikes a while after the run began to execute; says with what."""
        launch = target.launch

        def began() -> bool:
            return launch.executing() is not None or launch.process.poll() is not None

        launch.wait_for(began)
        deadline = time.monotonic() + delay
        while time.monotonic() < deadline and launch.process.poll() is None:
            time.sleep(0.01)
        if launch.process.poll() is not None:
            return "ended before it was struck"
        blow(target)
        return blow.__name__.replace("_", " ")

    @staticmethod
    def _monitor(instance: dg.DagsterInstance) -> None:
        """As run monitoring does with runs whose worker is gone."""
        for run in instance.get_runs(dg.RunsFilter(statuses=list(IN_PROGRESS_RUN_STATUSES))):
            instance.report_run_failed(run, "Detected run worker status FAILED")

    @staticmethod
    def _compare(
        instance: dg.DagsterInstance, shop: Warehouse, twin: Warehouse, number: int
    ) -> None:
        for name, rows in twin.tables().items():
            assert shop.query(f"SELECT count(*) FROM {name}") == [(len(rows),)], (number, name)
        assert shop.tables() == twin.tables(), number
        assert intervals(shop.project) == intervals(twin.project), number
        wrong = disagreements(instance, shop, PLANNED_AT)
        assert not wrong, (number, wrong)
        if shop.database is not None:
            assert shop.database.locks() == 0, number
