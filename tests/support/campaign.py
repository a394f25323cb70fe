"""The fault campaign: processes are killed at random moments, and nothing may show afterwards."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import dagster as dg

from . import projects
from .agreement import disagreements, tick_until_idle
from .executors import Launch, dagster_home
from .outcome_helpers import intervals
from .postgres import Server
from .warehouse import MODELS, PLANNED_AT, Warehouse, sleeping, warehouse

EXECUTORS = ("in_process", "multiprocess_2", "subprocess")

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
        for number in range(1, rounds + 1):
            at = PLANNED_AT + timedelta(days=number)
            executor = chance.choice(EXECUTORS)
            everything = chance.random() < 0.3
            # From before the first model to after the last, by what a run takes here.
            delay = chance.uniform(0.0, 3.0)
            with Launch(shop.project, home, executor, at=at) as launch:
                killed = self._strike(launch, delay, everything)
                launch.finish()
                self._monitor(launch)
                status = launch.status.value.lower()
                ticks = tick_until_idle(shop, home, at)
                assert projects.sqlmesh_run(twin.project, at).is_success
                self._compare(launch.instance, shop, twin, number)
            requested = sum(tick["run_id"] is not None for tick in ticks)
            self.figures.update({"rounds": 1, "ticks with a run": requested, killed: 1})
            self.figures[f"runs that ended in {status}"] += 1
            self.say(
                f"round {number}: {executor}, {killed} after {delay:.2f} s, run {status}, "
                f"{requested} further runs"
            )
        self.say(f"seed {self.seed}: " + ", ".join(f"{k}: {v}" for k, v in self.figures.items()))

    def _project(self, name: str) -> Warehouse:
        database = self.server.database() if self.server is not None else None
        return warehouse(self.folder / name, database, models=_MODELS, tasks=2)

    @staticmethod
    def _strike(launch: Launch, delay: float, everything: bool) -> str:
        """Kills the process that executes, or all of the run's, a while after it began."""

        def began() -> bool:
            return launch.executing() is not None or launch.process.poll() is not None

        launch.wait_for(began)
        deadline = time.monotonic() + delay
        while time.monotonic() < deadline and launch.process.poll() is None:
            time.sleep(0.01)
        executing = launch.executing()
        if launch.process.poll() is not None or executing is None:
            return "ended before it was killed"
        if everything:
            launch.kill_all()
            return "all processes killed"
        try:
            os.kill(executing, signal.SIGKILL)
        except ProcessLookupError:
            return "ended before it was killed"
        return "executing process killed"

    @staticmethod
    def _monitor(launch: Launch) -> None:
        """As run monitoring does with a run whose worker is gone."""
        run = launch.instance.get_run_by_id(launch.run_id)
        assert run is not None
        if not run.is_finished:
            launch.instance.report_run_failed(run, "Detected run worker status FAILED")

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
