"""Leases on a server's state, without a project: what tests of several servers share."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from sqlmesh import Context

from dagster_sqlmesh_automation.assets.lease.server import ModelLease, model_lease
from dagster_sqlmesh_automation.assets.lease.waiting import Wait

ORDERS = {"orders 101": "shop.orders"}
ITEMS = {"items 202": "shop.items"}
STOCK = {"stock 303": "shop.stock"}
HOLD = """
import sys
from sqlmesh import Context
from dagster_sqlmesh_automation.assets.lease.waiting import Wait
from dagster_sqlmesh_automation.assets.lease.server import model_lease

context = Context(paths=[sys.argv[1]], load=False)
with model_lease(context, "prod", "4f1c", executions=1, wait=Wait(0)) as lease:
    lease.hold({"orders 101": "shop.orders"})
    print("held", flush=True)
    sys.stdin.read()
"""


def opened(folder: Path, **gateway: Any) -> Context:
    """A context of a project that has nothing but a configuration."""
    folder.mkdir()
    gateway["connection"] = {"type": "duckdb"}
    config = {"gateways": {"main": gateway}, "model_defaults": {"dialect": "duckdb"}}
    (folder / "config.yaml").write_text(json.dumps(config))
    return Context(paths=[folder], load=False)


def run(
    context: Context,
    run_id: str,
    wait: Wait | None = None,
    *,
    environment: str = "prod",
    executions: int = 2,
) -> AbstractContextManager[ModelLease]:
    """The lease of a run, which does not wait if not told to."""
    return model_lease(
        context, environment, run_id, executions=executions, wait=wait or Wait(timeout_seconds=0)
    )
