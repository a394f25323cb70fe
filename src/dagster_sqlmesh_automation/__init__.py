"""SQLMesh models as individual Dagster assets, automated, with one SQLMesh execution per tick.

What is here is imported when it is asked for: the process in which SQLMesh runs imports parts of
this package, and never Dagster.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster_sqlmesh_automation.assets.definitions.translator import (
        SQLMeshTranslator as SQLMeshTranslator,
    )
    from dagster_sqlmesh_automation.assets.execution.executor import (
        sqlmesh_executor as sqlmesh_executor,
    )
    from dagster_sqlmesh_automation.assets.project.manifest import (
        ManifestAudit as ManifestAudit,
        ManifestModel as ManifestModel,
    )
    from dagster_sqlmesh_automation.automation.component import (
        SQLMeshAutomationComponent as SQLMeshAutomationComponent,
        SQLMeshComponentTranslator as SQLMeshComponentTranslator,
    )
    from dagster_sqlmesh_automation.automation.definitions import (
        build_definitions as build_definitions,
    )
    from dagster_sqlmesh_automation.automation.tick.conditions import SqlmeshDue as SqlmeshDue
    from dagster_sqlmesh_automation.config.errors import AutomationError as AutomationError
    from dagster_sqlmesh_automation.config.settings import (
        AutomationSettings as AutomationSettings,
    )

_PLACES = {
    "AutomationError": "config.errors",
    "AutomationSettings": "config.settings",
    "ManifestAudit": "assets.project.manifest",
    "ManifestModel": "assets.project.manifest",
    "SQLMeshAutomationComponent": "automation.component",
    "SQLMeshComponentTranslator": "automation.component",
    "SQLMeshTranslator": "assets.definitions.translator",
    "SqlmeshDue": "automation.tick.conditions",
    "build_definitions": "automation.definitions",
    "sqlmesh_executor": "assets.execution.executor",
}

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    """Imports a public name from its room."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_PLACES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Names what there is, before it is imported too."""
    return sorted({*globals(), *_PLACES})
