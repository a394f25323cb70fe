"""An execution looks at its run often, so a look has to be cheap."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from support.queries import counting_queries

from dagster_sqlmesh_automation.assets.dagster_internals import FINISHED_STATUSES
from dagster_sqlmesh_automation.assets.execution.looks import goes_on


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    home: Path = tmp_path_factory.mktemp("home")
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


# A queued run needs a code location, and no execution looks at it.
STATUSES = [status for status in dg.DagsterRunStatus if status is not dg.DagsterRunStatus.QUEUED]


@pytest.mark.parametrize("status", STATUSES, ids=lambda status: status.value)
def test_a_run_goes_on_until_it_ends_or_is_to_end(
    instance: dg.DagsterInstance, status: dg.DagsterRunStatus
) -> None:
    run = instance.add_run(dg.DagsterRun(job_name="job", status=status))
    over = {*FINISHED_STATUSES, dg.DagsterRunStatus.CANCELING}
    assert goes_on(instance, run.run_id) is (status not in over)


def test_a_run_that_was_deleted_does_not_go_on(instance: dg.DagsterInstance) -> None:
    assert not goes_on(instance, "7fa49399-0000-0000-0000-000000000000")


def test_a_look_does_not_read_what_the_run_selects(instance: dg.DagsterInstance) -> None:
    selected = frozenset(dg.AssetKey(f"model_{number}") for number in range(5))
    run = instance.add_run(
        dg.DagsterRun(job_name="job", status=dg.DagsterRunStatus.STARTED, asset_selection=selected)
    )
    with counting_queries() as queries:
        assert goes_on(instance, run.run_id)
    (question,) = queries.statements
    assert "run_body" not in question
