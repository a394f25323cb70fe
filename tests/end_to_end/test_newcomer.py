"""A newcomer's walk, in a bare environment: what each screen says at each step.

The wheel is installed as a person would install it, SQLMesh's own starter project is planned, and
everything from there on happens in Dagster's webserver and daemon. Plans are made for a moment two
days ago, so that something is due.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.deployment import SENSOR, Deployment, LiveRun, LiveTick
from support.wheel import build_wheel

from dagster_sqlmesh_automation.config.settings import PREFIX

pytest.importorskip("playwright", reason="the browser is driven by Playwright")
from support.browser import Browser, browser_on, chromium

pytestmark = pytest.mark.slow

EARLIER = "2 days ago"
SETTINGS = {"INTERVAL_SECONDS": 5, "RETRY__DELAY_SECONDS": 40}
RELOAD = "reload the code location, as the project's files have changed since it was loaded"
DRIFT = "drift from SQLMesh environment 'prod':"
TOTALS = """
MODEL (name sqlmesh_example.totals, kind FULL, cron '@daily', description 'Per country.');
SELECT country, count(*)::INT AS orders FROM raw.orders GROUP BY country
"""


@dataclass
class Newcomer:
    """A person with an environment of their own and a project.

    Attributes:
        binaries: Where the environment's programs are.
        project: The folder of the project.
        home: Dagster's.
    """

    binaries: Path
    project: Path
    home: Path

    @property
    def variables(self) -> Mapping[str, str]:
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "TMPDIR", "LANG")}
        return {
            **kept,
            f"{PREFIX}PROJECT": str(self.project),
            **{f"{PREFIX}{name}": str(value) for name, value in SETTINGS.items()},
            "SQLMESH__DISABLE_ANONYMIZED_ANALYTICS": "true",
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "DAGSTER_HOME": str(self.home),
            "COLUMNS": "200",
        }

    def does(self, command: str, *arguments: str, code: int = 0) -> str:
        """Runs a program of the environment in the project's folder; returns what it says."""
        done = subprocess.run(
            [str(self.binaries / command), *arguments],
            cwd=self.project,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def plans(self) -> str:
        return self.does(
            "sqlmesh", "plan", "--auto-apply", "--no-prompts", "--execution-time", EARLIER
        )

    def loads(self, statement: str) -> None:
        """Changes the table that somebody else loads."""
        program = "import duckdb, sys; duckdb.connect('db.db').execute(sys.argv[1])"
        self.does("python", "-c", program, statement)


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Newcomer:
    chromium()
    folder = tmp_path_factory.mktemp("newcomer")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
    binaries = folder / "env" / "bin"
    wheel = build_wheel(folder)
    pip = [str(binaries / "python"), "-m", "pip", "install", "--quiet"]
    # What a path of this process holds would count as installed.
    bare = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run([*pip, "--upgrade", "pip"], check=True, env=bare)
    subprocess.run([*pip, str(wheel)], check=True, env=bare)
    (folder / "project").mkdir()
    (folder / "home").mkdir()
    return Newcomer(binaries, folder / "project", folder / "home")


class Screen:
    """What Dagster's daemon and webserver show.

    Attributes:
        deployment: Both.
        browser: A person's.
    """

    def __init__(self, deployment: Deployment, browser: Browser) -> None:
        self.deployment, self.browser = deployment, browser

    def fires(self, after: LiveTick | None = None) -> LiveTick:
        """The next tick that asks for a run."""
        seen = int(after.tick_id) if after is not None else 0
        return self.deployment.wait_for_tick(
            "a tick that fires", lambda tick: int(tick.tick_id) > seen and bool(tick.run_ids)
        )

    def says(self, text: str, after: LiveTick) -> LiveTick:
        """The next idle tick whose log has a text."""
        return self.deployment.wait_for_tick(
            f"a tick that says {text!r}",
            lambda tick: (
                int(tick.tick_id) > int(after.tick_id)
                and not tick.run_ids
                and text in self.log(tick)
            ),
        )

    def log(self, tick: LiveTick) -> str:
        return "\n".join(self.deployment.tick_log(tick))

    def ran(self, tick: LiveTick) -> LiveRun:
        """The run that a tick asked for, once it has ended."""
        (run_id,) = tick.run_ids
        return self.deployment.wait_for_run(run_id)

    def page(self, path: str, *texts: str) -> str:
        """What a page says, once it has some texts."""
        self.browser.open(path)
        for text in texts:
            self.browser.sees(text)
        return self.browser.text()


def test_a_newcomers_walk(newcomer: Newcomer) -> None:
    newcomer.does("sqlmesh", "init", "duckdb")
    config = newcomer.project / "config.yaml"
    # It says yesterday, as of when there is nothing yet.
    config.write_text(re.sub(r"start: \S+", "start: 2020-01-01", config.read_text()))
    said = newcomer.does("sqlmesh-automation", "doctor", code=2)
    assert "SQLMesh environment 'prod' does not exist" in said
    assert "relative path db.db" in said
    # As doctor says.
    config.write_text(config.read_text().replace("db.db", str(newcomer.project / "db.db")))
    newcomer.plans()
    said = newcomer.does("sqlmesh-automation", "doctor")
    assert "2 of 3 models due now" in said
    assert f"sensor {SENSOR} is off" in said
    assert "2 of 3 models due, 2 requested" in newcomer.does("sqlmesh-automation", "status")
    pictures = Path(os.environ.get("SCREENSHOTS", newcomer.project.parent / "pictures"))
    python = newcomer.binaries / "python"
    with Deployment(newcomer.home, newcomer.project, python=python, **SETTINGS) as deployment:
        deployment.wait_for("the webserver", lambda: deployment.query("{ version }"))
        with browser_on(deployment.url, pictures) as browser:
            screen = Screen(deployment, browser)
            _changes_without_a_reload(newcomer, screen, _switches_on(screen))
            _breaks_and_repairs(newcomer, screen)


def _switches_on(screen: Screen) -> LiveTick:
    screen.deployment.start_sensor(SENSOR)
    first = screen.fires()
    assert screen.ran(first).status == "SUCCESS"
    log = screen.log(first)
    assert "sqlmesh_example.full_model requested (" in log
    assert "sqlmesh_example.seed_model was evaluated outside Dagster" in log
    assert log.endswith("2 of 3 models due, 2 requested")
    idle = screen.says(": 0 of 3 models due; next: sqlmesh_example.", first)
    assert len(screen.log(idle).splitlines()) == 1
    path = "/assets/sqlmesh_example/full_model?view=checks"
    text = screen.page(path, "assert_positive_order_ids", "sqlmesh_environment")
    assert "Not Evaluated" not in text
    return idle


def _changes_without_a_reload(newcomer: Newcomer, screen: Screen, idle: LiveTick) -> None:
    newcomer.loads("CREATE SCHEMA raw; CREATE TABLE raw.orders AS SELECT 'DE' AS country")
    (newcomer.project / "models" / "totals.sql").write_text(TOTALS)
    model = newcomer.project / "models" / "incremental_model.sql"
    model.write_text(model.read_text().replace("  item_id,", "  item_id, 1 AS one,"))
    newcomer.plans()
    changed = screen.fires(idle)
    assert screen.ran(changed).status == "SUCCESS"
    for tick in (changed, screen.says(": 0 of 3 models due", changed)):
        log = screen.log(tick)
        assert f"{DRIFT} in another version: sqlmesh_example.incremental_model" in log
        assert f"{DRIFT} there without an asset: db.sqlmesh_example.totals: {RELOAD}" in log
    path = "/assets/sqlmesh_example/incremental_model?view=checks"
    screen.page(path, f"differs from what the SQLMesh environment holds in its logic: {RELOAD}")


def _breaks_and_repairs(newcomer: Newcomer, screen: Screen) -> None:
    totals = "sqlmesh_example.totals"
    newcomer.loads("ALTER TABLE raw.orders RENAME country TO land")
    before = screen.deployment.ticks()[-1]
    screen.deployment.reload()
    screen.page("/assets/sqlmesh_example/totals", "Per country.")
    broken = screen.fires(before)
    assert screen.log(broken).endswith("1 of 4 models due, 1 requested")
    run = screen.ran(broken)
    assert run.status == "FAILURE"
    screen.page(f"/runs/{run.run_id}", "Binder Error")
    held = screen.says(f"{totals} held: failed in run {run.run_id}; attempt 2 of 3 at", broken)
    assert DRIFT not in screen.log(held)
    said = newcomer.does("sqlmesh-automation", "explain", totals)
    assert f"held: failed in run {run.run_id}; attempt 2 of 3 at" in said
    assert "raw.orders: made outside SQLMesh" in said
    newcomer.loads("ALTER TABLE raw.orders RENAME land TO country")
    repaired = screen.fires(broken)
    assert screen.ran(repaired).status == "SUCCESS"
    assert "0 of 4 models due" in newcomer.does("sqlmesh-automation", "status")
