"""Several environments and projects in one code location: nothing of one reaches another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from support import projects
from support.outcome_helpers import runless
from support.ticks import Run
from support.warehouse import NEXT_DAY, PLANNED_AT, Warehouse, warehouse

from dagster_sqlmesh_automation import SQLMeshTranslator
from dagster_sqlmesh_automation.assets.ledger.ledger import read_history
from dagster_sqlmesh_automation.automation.cli.main import main
from dagster_sqlmesh_automation.automation.definitions import Location
from dagster_sqlmesh_automation.automation.tick.planner import TickPlan
from dagster_sqlmesh_automation.config.errors import ProjectNotFound, SettingsError
from dagster_sqlmesh_automation.config.settings import AutomationSettings

MODELS = ("best", "customers", "events", "totals")
RAW = dg.AssetKey(["raw", "events"])


class Connected(SQLMeshTranslator):
    """``raw.events`` is an asset of the user's."""

    def get_external_asset(self, model, default):
        return None if model.name == "raw.events" else default


@dg.asset(key=RAW)
def raw_events() -> None:
    """Loaded by somebody else, read by all."""


@dataclass
class Several:
    """Three environments in one code location.

    ``PROD_`` and ``DEV_`` are of one project; ``OTHER_`` is the prod of another one, whose models
    and database have the same names.
    """

    instance: dg.DagsterInstance
    projects: Mapping[str, Warehouse]
    locations: Mapping[str, Location]
    definitions: dg.Definitions

    def plan(self, prefix: str, at: datetime) -> TickPlan:
        return self.locations[prefix].planner.plan(self.instance, at)

    def recover(self, prefix: str, at: datetime) -> list[str]:
        """What one sensor reports at its tick, a line each."""
        planner, plan = self.locations[prefix].planner, self.plan(prefix, at)
        return [*planner.recover(self.instance), *planner.report_outside(self.instance, plan)]

    def tick(self, prefix: str, at: datetime) -> dg.RunRequest | None:
        """What one sensor requests, with the whole code location in sight."""
        with dg.build_sensor_context(
            instance=self.instance, repository_def=self.definitions.get_repository_def()
        ) as context:
            plan = self.plan(prefix, at)
            data = self.locations[prefix].sensor.request(context, plan, simulated=True)
        requests = data.run_requests or ()
        assert len(requests) <= 1
        return requests[0] if requests else None

    def execute(self, request: dg.RunRequest) -> Run:
        job = self.definitions.resolve_implicit_global_asset_job_def().get_subset(
            asset_selection=set(request.asset_selection or ()),
            asset_check_selection=set(request.asset_check_keys or ()),
        )
        result = job.execute_in_process(
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            instance=self.instance,
            raise_on_error=False,
            tags=dict(request.tags),
        )
        return Run(self.instance, result.run_id, result.success, {})

    def outcomes(self, prefix: str, run: Run) -> set[str]:
        scope = self.locations[prefix].index.scope
        found = read_history(self.instance, run.run_id, scope).outcomes
        return {outcome.name for outcome in found.values()}


@pytest.fixture
def several(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> Several:
    shop, other = warehouse(tmp_path / "shop"), warehouse(tmp_path / "other")
    totals = shop.project / "models" / "totals.sql"
    text = totals.read_text()
    totals.write_text(text.replace("GROUP BY", "WHERE amount > -1 GROUP BY"))
    projects.plan(shop.project, PLANNED_AT, "dev", include_unmodified=True)
    totals.write_text(text)
    for variable, value in {
        "PROD_PROJECT": shop.project,
        "DEV_PROJECT": shop.project,
        "DEV_ENVIRONMENT": "dev",
        "DEV_SOURCE": "environment",
        "DEV_ASSET_KEY_PREFIX": "dev",
        "OTHER_PROJECT": other.project,
        "OTHER_NAME": "other",
        "OTHER_ASSET_KEY_PREFIX": "other/prod",
        "OTHER_CRON_MAP": json.dumps({"@daily": "0 6 * * *"}),
    }.items():
        monkeypatch.setenv(variable, str(value))
    locations = {
        prefix: Location(AutomationSettings(_env_prefix=prefix), Connected())
        for prefix in ("PROD_", "DEV_", "OTHER_")
    }
    merged = dg.Definitions.merge(
        dg.Definitions(assets=[raw_events]), *(each.definitions for each in locations.values())
    )
    warehouses = {"PROD_": shop, "DEV_": shop, "OTHER_": other}
    return Several(instance, warehouses, locations, merged)


def keys(*prefix: str, models: tuple[str, ...] = MODELS) -> set[dg.AssetKey]:
    return {dg.AssetKey([*prefix, "shop", model]) for model in models}


def test_all_load_as_one_with_a_sensor_each(several: Several) -> None:
    dg.Definitions.validate_loadable(several.definitions)
    repository = several.definitions.get_repository_def()
    assert {sensor.name for sensor in repository.sensor_defs} == {
        "sqlmesh_prod_automation",
        "sqlmesh_dev_automation",
        "sqlmesh_other_prod_automation",
    }
    assert {schedule.name for schedule in repository.schedule_defs} == {
        "sqlmesh_prod_janitor",
        "sqlmesh_dev_janitor",
        "sqlmesh_other_prod_janitor",
    }
    assert repository.asset_graph.materializable_asset_keys == {
        RAW,
        *keys(),
        *keys("dev"),
        *keys("other", "prod"),
    }


def test_a_shared_table_is_one_asset_above_all(several: Several) -> None:
    graph = several.definitions.resolve_asset_graph()
    events = keys(models=("events",)) | keys("dev", models=("events",))
    assert graph.get(RAW).child_keys == events | keys("other", "prod", models=("events",))


def test_a_table_outside_is_under_the_prefix_where_nobody_makes_it(several: Several) -> None:
    locations = several.locations.values()
    plain = dg.Definitions.merge(*(Location(each.settings).definitions for each in locations))
    external = plain.resolve_asset_graph().get_all_asset_keys()
    assert {RAW, RAW.with_prefix("dev"), RAW.with_prefix(["other", "prod"])} <= external


def test_each_sensor_sees_its_own_assets_and_no_others(several: Several) -> None:
    graph = several.definitions.resolve_asset_graph()
    for prefix, expected in (
        ("PROD_", keys()),
        ("DEV_", keys("dev")),
        ("OTHER_", keys("other", "prod")),
    ):
        assert several.locations[prefix].sensor.asset_selection.resolve(graph) == expected


def test_each_tick_requests_its_own_under_its_own_tags(several: Several) -> None:
    prod, dev = several.tick("PROD_", NEXT_DAY), several.tick("DEV_", NEXT_DAY)
    assert prod is not None
    assert dev is not None
    assert set(prod.asset_selection or ()) == keys()
    assert set(dev.asset_selection or ()) == keys("dev")
    assert (prod.tags["sqlmesh/environment"], dev.tags["sqlmesh/environment"]) == ("prod", "dev")
    assert {"sqlmesh/project"}.isdisjoint({*prod.tags, *dev.tags})
    # Its own cron map: not before six.
    assert several.tick("OTHER_", NEXT_DAY) is None
    other = several.tick("OTHER_", NEXT_DAY.replace(hour=6))
    assert other is not None
    assert set(other.asset_selection or ()) == keys("other", "prod")
    assert other.tags["sqlmesh/project"] == "other"
    assert other.tags["dagster/sensor_name"] == "sqlmesh_other_prod_automation"


def test_runs_of_one_hold_nothing_of_another(several: Several) -> None:
    job = several.definitions.resolve_implicit_global_asset_job_def()
    several.instance.create_run_for_job(
        job.get_subset(asset_selection=keys()),
        asset_selection=frozenset(keys()),
        status=dg.DagsterRunStatus.STARTED,
    )
    assert several.tick("PROD_", NEXT_DAY) is None
    assert {each.name for each in several.plan("PROD_", NEXT_DAY).due if each.in_progress} == {
        f"shop.{model}" for model in MODELS
    }
    for prefix in ("DEV_", "OTHER_"):
        at = NEXT_DAY.replace(hour=6)
        assert not any(each.held for each in several.plan(prefix, at).due)


def test_what_one_evaluated_and_its_failures_are_not_anothers(several: Several) -> None:
    at = NEXT_DAY.replace(hour=6)
    # The first tick of each reports what its plan evaluated.
    assert several.recover("PROD_", at)
    assert several.recover("DEV_", at)
    known = {
        path: len(runless(several.instance, path))
        for path in [
            "/".join([*key, model]) for key in (["shop"], ["dev", "shop"]) for model in MODELS
        ]
    }
    several.projects["OTHER_"].fail("shop.customers")
    request = several.tick("OTHER_", at)
    assert request is not None
    run = several.execute(request)
    assert not run.success
    assert several.outcomes("OTHER_", run) == {f"shop.{model}" for model in MODELS}

    for prefix in ("PROD_", "DEV_"):
        assert len(several.plan(prefix, at).requested) == len(MODELS)
        assert several.recover(prefix, at) == []
    assert known == {path: len(runless(several.instance, path)) for path in known}
    assert {each.name for each in several.plan("OTHER_", at).due if each.retry} == {
        "shop.customers"
    }


def test_a_failed_model_of_one_is_not_retried_for_another(several: Several) -> None:
    several.projects["PROD_"].fail("shop.customers")
    request = several.tick("PROD_", NEXT_DAY)
    assert request is not None
    several.execute(request)
    decisions = {each.name: each for each in several.plan("PROD_", NEXT_DAY).due}
    assert decisions["shop.customers"].retry
    # The table of totals is dev's own; what both have in common, prod's run has evaluated.
    dev = {each.name: each.held for each in several.plan("DEV_", NEXT_DAY).due}
    assert dev == {"shop.customers": "", "shop.totals": "", "shop.best": ""}


def test_one_run_of_a_persons_with_models_of_all(several: Several) -> None:
    chosen = {"PROD_": keys(), "DEV_": keys("dev"), "OTHER_": keys("other", "prod")}
    run = several.execute(
        dg.RunRequest(
            asset_selection=sorted(key for found in chosen.values() for key in found),
            tags={"sqlmesh/execution_time": NEXT_DAY.isoformat()},
        )
    )
    assert run.success
    for prefix in chosen:
        assert several.outcomes(prefix, run) == {f"shop.{model}" for model in MODELS}
        assert not several.plan(prefix, NEXT_DAY).due
    # What prod and dev share is evaluated once, by the first of them.
    made = run.materialized().keys()
    assert {key.to_user_string() for key in chosen["OTHER_"]} <= made
    assert {"shop/totals", "dev/shop/totals"} <= made


def test_errors_name_the_variable_with_its_prefix(
    several: Several, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEV_MODELS", json.dumps({"shop.nothing": {"paused": True}}))
    with pytest.raises(SettingsError, match=r"^DEV_MODELS\['shop.nothing'\] matches no model"):
        Location(AutomationSettings(_env_prefix="DEV_"))
    monkeypatch.setenv("DEV_MODELS", "{}")
    monkeypatch.setenv("DEV_PROJECT", str(tmp_path))
    with pytest.raises(ProjectNotFound, match="Set DEV_PROJECT to"):
        Location(AutomationSettings(_env_prefix="DEV_"))
    monkeypatch.setenv("DEV_CRONMAP", "{}")
    with pytest.raises(SettingsError, match="Did you mean DEV_CRON_MAP"):
        AutomationSettings(_env_prefix="DEV_")


def test_the_command_line_takes_the_prefix(several: Several) -> None:
    done = CliRunner().invoke(main, ["status", "--prefix", "OTHER_", "--at", NEXT_DAY.isoformat()])
    assert done.exit_code == 0, done.output
    assert "prod at 2026-10-09 00:00 UTC: 4 of 4 models due, 0 requested" in done.output
    done = CliRunner().invoke(main, ["tick", "--dry-run", "--prefix", "DEV_"])
    assert done.output.startswith("dev at")
