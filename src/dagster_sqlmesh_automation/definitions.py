"""A code location without code: ``dagster dev -m dagster_sqlmesh_automation.definitions``.

Configured by ``SQLMESH_AUTOMATION_…`` environment variables alone.
"""

from dagster_sqlmesh_automation.automation.definitions import build_definitions

defs = build_definitions()
