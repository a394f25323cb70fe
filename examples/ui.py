"""Dagster's webserver and daemon on the example, planned up to this hour and ticking for real."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from demo import EXAMPLE, dagster_home, raw_data, script


def main(folder: Path, port: int) -> None:
    project = folder / "ui" / "jaffle_shop"
    if not project.exists():
        ignored = shutil.ignore_patterns("*.duckdb*", ".cache", "logs", "__pycache__")
        shutil.copytree(EXAMPLE, project, ignore=ignored)
        now = datetime.now(UTC)
        raw_data(project, until=(now + timedelta(days=7)).date())
        # An hour ago, so that the first tick has something to do.
        planned = f"{now - timedelta(hours=1):%Y-%m-%d %H:%M}"
        subprocess.run(
            [
                *(script("sqlmesh"), "-p", str(project), "plan", "prod", "--auto-apply"),
                *("--no-prompts", "--execution-time", planned),
            ],
            check=True,
        )
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(dagster_home(folder / "ui")),
        "SQLMESH_AUTOMATION_PROJECT": str(project),
        "SQLMESH_AUTOMATION_ENABLED": "true",
    }
    print("Automation, sensor sqlmesh_prod_automation: one tick every 30 seconds.", flush=True)
    command = [script("dagster"), "dev", "-m", "dagster_sqlmesh_automation.definitions"]
    sys.exit(subprocess.call([*command, "--port", str(port)], env=environment))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="for the project and Dagster's home")
    parser.add_argument("--port", type=int, default=3000, help="of the webserver")
    arguments = parser.parse_args()
    main(arguments.folder.absolute(), arguments.port)
