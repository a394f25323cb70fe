"""The demo: plans the example project, then ticks at four moments of its life.

Time is simulated, so the demo shows the same on every day. Everything it makes is below the
folder that it is given.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from datetime import UTC, date, datetime
from pathlib import Path

EXAMPLE = Path(__file__).parent / "jaffle_shop"
DAGSTER_YAML = """\
telemetry:
  enabled: false
storage:
  custom:
    module: dagster_sqlmesh_automation.storage
    class: PooledSqliteStorage
    config:
      base_dir: {env: DAGSTER_HOME}
"""
PLANNED_AT = datetime(2026, 10, 14, tzinfo=UTC)

MOMENTS = [
    ("2026-10-14T00:05", {}, "Five minutes later: only the models with cron */5 are due."),
    ("2026-10-14T01:00", {}, "An hour later: the hourly models too, all in one execution."),
    (
        "2026-10-15T00:00",
        {"JAFFLE_SHOP_FAIL": "1"},
        "Midnight, and a model fails: what reads it is skipped, the others are done.",
    ),
    ("2026-10-15T00:01", {}, "A minute later: the failed model waits for its next cron tick."),
]


def main(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    project = prepare_project(folder)
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(dagster_home(folder)),
        "SQLMESH_AUTOMATION_PROJECT": str(project),
    }
    for at, extra, caption in MOMENTS:
        print(f"\n{caption}", flush=True)
        command = [script("sqlmesh-automation"), "tick", "--at", at]
        print(f"$ sqlmesh-automation tick --at {at}", flush=True)
        code = subprocess.call(command, env={**environment, **extra})
        if code != (1 if extra else 0):
            sys.exit(f"the tick ended with exit code {code}")
    print("\nThe same in Dagster's UI: make ui", flush=True)


def prepare_project(folder: Path) -> Path:
    """Copies the example, makes its raw data and plans it as of :data:`PLANNED_AT`."""
    project = folder / "jaffle_shop"
    ignored = shutil.ignore_patterns("*.duckdb*", ".cache", "logs", "__pycache__")
    shutil.copytree(EXAMPLE, project, ignore=ignored)
    rows = raw_data(project)
    print(f"Made {sum(rows.values()):,} rows of raw data", flush=True)
    print(f"$ sqlmesh plan prod --execution-time '{PLANNED_AT:%Y-%m-%d %H:%M}'", flush=True)
    subprocess.run(
        [
            *(script("sqlmesh"), "-p", str(project), "plan", "prod", "--auto-apply"),
            *("--no-prompts", "--execution-time", f"{PLANNED_AT:%Y-%m-%d %H:%M}"),
        ],
        check=True,
    )
    return project


def raw_data(project: Path, until: date = date(2026, 11, 1)) -> dict[str, int]:
    """Makes the example's raw data, from its own ``generate.py``."""
    spec = importlib.util.spec_from_file_location("generate", project / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rows: dict[str, int] = module.generate(project / "jaffle_shop.duckdb", date(2026, 10, 1), until)
    return rows


def dagster_home(folder: Path) -> Path:
    """A Dagster instance of its own, without usage reports, with connections that stay open."""
    home = folder / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text(DAGSTER_YAML)
    return home


def script(name: str) -> str:
    """A command of the environment that runs this."""
    return str(Path(sysconfig.get_path("scripts")) / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
