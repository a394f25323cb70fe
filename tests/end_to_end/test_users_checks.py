"""The real thing: a user's check with an automation condition on a model, under the daemon."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.deployment import Deployment

pytestmark = pytest.mark.slow

MODULE = """
import dagster as dg
from dagster_sqlmesh_automation import build_definitions


@dg.asset_check(
    asset=["sales", "orders"],
    automation_condition=dg.AutomationCondition.cron_tick_passed("* * * * *"),
)
def is_there() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


defs = dg.Definitions.merge(build_definitions(), dg.Definitions(asset_checks=[is_there]))
"""
CHECK = frozenset({("sales/orders", "is_there")})


@pytest.mark.campaign
def test_the_default_sensor_runs_it_while_ours_has_nothing_to_do(
    example: Path, tmp_path: Path
) -> None:
    (tmp_path / "with_a_check.py").write_text(MODULE)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        deployment = Deployment(
            tmp_path / "home",
            example,
            module="with_a_check",
            ENABLED="true",
            INTERVAL_SECONDS=1,
            MODELS='{"*": {"paused": true}}',
        )
    with deployment:
        deployment.wait_for("the webserver", lambda: deployment.runs() is not None)
        deployment.start_sensor("default_automation_condition_sensor")
        runs = deployment.wait_for(
            "two runs of the check",
            lambda: (
                (ended := [r for r in deployment.runs() if r.ended]) and len(ended) > 1 and ended
            ),
        )
    for run in runs:
        assert run.status == "SUCCESS"
        assert not run.assets
        assert run.checks == CHECK
