"""What ``dg scaffold defs dagster_sqlmesh_automation.SQLMeshAutomationComponent`` writes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import dagster as dg
from pydantic import BaseModel, Field, field_validator

from ..assets.project.fingerprint import is_project
from ..config.commands import sqlmesh_command
from ..config.errors import ProjectNotFound, ScaffoldingRefused

_FIRST_PLAN = "plan --skip-backfill --auto-apply --no-prompts"

_NEW: Mapping[str, str] = {
    "config.py": """\
from pathlib import Path

from sqlmesh.core.config import Config, DuckDBConnectionConfig, GatewayConfig, ModelDefaultsConfig

# A relative path would be taken from wherever SQLMesh or Dagster is started.
DATABASE = Path(__file__).parent / "warehouse.duckdb"

config = Config(
    gateways={"local": GatewayConfig(connection=DuckDBConnectionConfig(database=str(DATABASE)))},
    default_gateway="local",
    model_defaults=ModelDefaultsConfig(dialect="duckdb", start="1 week ago"),
)
""",
    "seeds/items.csv": """\
item_id,name,price_cents
1,espresso,250
2,cappuccino,350
3,brownie,420
""",
    "models/items.sql": """\
MODEL (
  name shop.items,
  kind SEED (path '../seeds/items.csv'),
  columns (item_id INT, name TEXT, price_cents INT)
);
""",
    "models/sales.sql": """\
MODEL (
  name shop.sales,
  kind INCREMENTAL_BY_TIME_RANGE (time_column day),
  cron '@daily',
  audits (sold_something)
);

SELECT
  CAST(days.day AS DATE) AS day,
  item_id,
  CAST(1 + (DAYOFYEAR(days.day) * item_id) % 7 AS INT) AS sold
FROM shop.items
CROSS JOIN GENERATE_SERIES(@start_date, @end_date, INTERVAL 1 DAY) AS days(day)
""",
    "models/revenue.sql": """\
MODEL (
  name shop.revenue,
  kind FULL,
  cron '@daily',
  audits (not_null(columns := (name, revenue_cents)))
);

SELECT name, CAST(SUM(sold * price_cents) AS BIGINT) AS revenue_cents
FROM shop.sales
JOIN shop.items USING (item_id)
GROUP BY name
""",
    "audits/sold_something.sql": """\
AUDIT (name sold_something);

SELECT * FROM @this_model WHERE sold <= 0
""",
    ".gitignore": "*.duckdb*\n.cache/\nlogs/\n",
}
"""The files of a small SQLMesh project on DuckDB."""


class ScaffoldParams(BaseModel):
    """The options of ``dg scaffold defs``."""

    project_path: list[str] = Field(
        default=[],
        description="Folder of the SQLMesh project; with --init, where to make it. Several with "
        "one state by repeating it.",
    )
    init: bool = Field(
        default=False,
        description="Make a small SQLMesh project on DuckDB, below the Dagster project's root "
        "in the folder sqlmesh where --project-path does not say otherwise.",
    )

    @field_validator("project_path", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [] if value is None else [value] if isinstance(value, str) else value


class SQLMeshAutomationScaffolder(dg.Scaffolder[ScaffoldParams]):
    """Writes ``defs.yaml`` and, on demand, a SQLMesh project that can be run."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParams]:
        """Returns the options."""
        return ScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[ScaffoldParams]) -> None:
        """Writes the files.

        Raises:
            ScaffoldingRefused: No project is named, or the folder for a new one is not empty.
            ProjectNotFound: There is no SQLMesh project at the path.
        """
        params, root = request.params, request.project_root or Path.cwd()
        if not params.project_path and not params.init:
            raise ScaffoldingRefused(
                "it is not said which SQLMesh project to automate. Name its folder with "
                "--project-path, or have a small one made with --init."
            )
        projects = [Path(path).absolute() for path in params.project_path]
        projects = projects or [root / "sqlmesh"]
        written = [_from_root(project, root) for project in projects]
        attributes: dict[str, Any] = {"project": written if len(written) > 1 else written[0]}
        if params.init:
            if len(projects) > 1:
                raise ScaffoldingRefused("--init makes one project. Name one --project-path.")
            project = projects[0]
            _make(project)
            attributes["enabled"] = True
            click.echo(
                f"Made a SQLMesh project at {project}. Plan it, and leave its first evaluation to "
                f"Dagster: {sqlmesh_command(_FIRST_PLAN, projects)}"
            )
        for project in projects:
            if not is_project(project):
                raise ProjectNotFound(project, "--project-path")
        dg.scaffold_component(request, attributes)


def _from_root(project: Path, root: Path) -> str:
    """Returns a path that is right wherever the Dagster project is checked out."""
    return f"{{{{ context.project_root }}}}/{Path(os.path.relpath(project, root)).as_posix()}"


def _make(project: Path) -> None:
    if project.exists() and any(project.iterdir()):
        raise ScaffoldingRefused(
            f"the folder {project} is not empty. Take it as it is without --init, or name another "
            "one with --project-path."
        )
    for name, text in _NEW.items():
        file = project / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
