"""Many runs in a row in one process leave nothing behind."""

from __future__ import annotations

import tempfile
import threading
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from support.ticks import Automation
from support.warehouse import PLANNED_AT, warehouse

MODELS = ["shop/events", "shop/customers", "shop/totals", "shop/best"]


def what_is_there(project: Path, temporary: Path) -> dict[str, object]:
    """What this process holds, by what it is."""
    me = Path("/proc/self")
    return {
        "children": sorted(
            child for task in me.glob("task/*/children") for child in task.read_text().split()
        ),
        "descriptors": len(list((me / "fd").iterdir())),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "temporary files": sorted(path.name for path in temporary.iterdir()),
        "locks": sorted(path.name for path in project.rglob("*.holder")),
    }


@pytest.mark.parametrize(
    ("isolation", "runs"),
    [
        pytest.param("process", 2, marks=pytest.mark.slow),
        pytest.param("process", 200, marks=[pytest.mark.campaign, pytest.mark.timeout(3600)]),
        pytest.param("thread", 200, marks=[pytest.mark.campaign, pytest.mark.timeout(3600)]),
    ],
)
def test_runs_in_a_row_leave_nothing_behind(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    instance: dg.DagsterInstance,
    isolation: str,
    runs: int,
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    shop = warehouse(tmp_path / "project")
    children = what_is_there(shop.project, temporary)["children"]  # servers of other tests
    automation = Automation.of(shop.project, instance, isolation=isolation)
    at = PLANNED_AT + timedelta(days=1)
    assert automation.run(MODELS, at).success  # what is kept for good is there after it
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = what_is_there(shop.project, temporary)
    for number in range(runs):
        run = automation.run(MODELS, at + timedelta(hours=4 * (number + 1)))
        assert run.success, run.log()
    after = what_is_there(shop.project, temporary)
    assert after == before
    assert before["children"] == children
