"""SQLMesh models as individual Dagster assets, automated, with one SQLMesh execution per tick."""

from dagster_sqlmesh_automation.assets.definitions.translator import SQLMeshTranslator
from dagster_sqlmesh_automation.assets.execution.executor import sqlmesh_executor
from dagster_sqlmesh_automation.assets.project.manifest import ManifestAudit, ManifestModel
from dagster_sqlmesh_automation.automation.component import (
    SQLMeshAutomationComponent,
    SQLMeshComponentTranslator,
)
from dagster_sqlmesh_automation.automation.definitions import build_definitions
from dagster_sqlmesh_automation.automation.tick.conditions import SqlmeshDue
from dagster_sqlmesh_automation.config.errors import AutomationError
from dagster_sqlmesh_automation.config.settings import AutomationSettings

__all__ = [
    "AutomationError",
    "AutomationSettings",
    "ManifestAudit",
    "ManifestModel",
    "SQLMeshAutomationComponent",
    "SQLMeshComponentTranslator",
    "SQLMeshTranslator",
    "SqlmeshDue",
    "build_definitions",
    "sqlmesh_executor",
]
