"""Results of audits under the checks of definitions that the environment is ahead of."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from support.outcome_helpers import small_project
from support.projects import plan
from support.ticks import Automation

MODEL = """\
MODEL (name tiny.pairs, kind FULL, cron '@daily', audits ({audits}));
SELECT 1 AS a, 2 AS b, NULL::INT AS a_b
"""
LIST = "not_null(columns := (a, b))"
COLUMN = "not_null(columns := (a_b), blocking := false)"
NEXT_DAY = datetime(2026, 10, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(LIST, LIST, {"not_null__a_b": True}, id="nothing changed"),
        pytest.param(LIST, f"{COLUMN}, {LIST}", {"not_null__a_b": True}, id="one was added"),
        pytest.param(LIST, COLUMN, {}, id="another took its words"),
        pytest.param(
            f"{LIST}, {COLUMN}", LIST, {"not_null__a_b_a857a8": True}, id="one was removed"
        ),
    ],
)
def test_a_result_comes_under_the_name_that_the_loaded_definitions_have_for_that_use(
    tmp_path: Path,
    instance: dg.DagsterInstance,
    before: str,
    after: str,
    expected: dict[str, bool],
) -> None:
    project = small_project(tmp_path / "small", {"models/pairs.sql": MODEL.format(audits=before)})
    automation = Automation.of(project, instance)
    assert automation.location.manifest.by_fqn  # loaded before the plan
    if after != before:
        (project / "models" / "pairs.sql").write_text(MODEL.format(audits=after))
        plan(project, datetime(2026, 10, 14, 1, tzinfo=UTC))

    run = automation.run(["tiny/pairs"], NEXT_DAY)

    assert run.success
    assert {name: result.passed for (_, name), result in run.checks().items()} == expected
    told = {audit.check for outcome in run.outcomes.values() for audit in outcome.audits}
    assert len(told) == after.count("not_null")
