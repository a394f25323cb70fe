"""SQLMesh's own cache at a place that cannot be written, as on a read-only file system."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import dagster as dg
import pytest
from sqlmesh.utils.cache import FileCache
from support.schema import invoke
from support.ticks import Automation
from support.warehouse import NEXT_DAY, Warehouse, warehouse

from dagster_sqlmesh_automation.assets.project import cache_failures
from dagster_sqlmesh_automation.assets.project.deployed import current_manifest
from dagster_sqlmesh_automation.config.errors import CacheNotWritable
from dagster_sqlmesh_automation.config.settings import AutomationSettings


@pytest.fixture
def shop(tmp_path: Path) -> Warehouse:
    return warehouse(tmp_path / "shop")


@pytest.fixture
def settings(shop: Warehouse, tmp_path: Path) -> AutomationSettings:
    """A project that can keep its manifest, and SQLMesh no cache."""
    # For root no folder is read-only; below a file nobody can write.
    shutil.rmtree(shop.project / ".cache")
    (shop.project / ".cache").touch()
    return AutomationSettings(project=shop.project, manifest=tmp_path / "manifest.json")


def test_the_error_names_the_cache_and_sqlmeshs_own_setting_for_it(
    settings: AutomationSettings,
) -> None:
    with pytest.raises(CacheNotWritable) as caught:
        current_manifest(settings)
    place = settings.project / ".cache" / "model_definition"
    assert str(caught.value) == (
        f"SQLMesh cannot use its cache at {place}: Not a directory. "
        "Set cache_dir in the SQLMesh project's configuration, or the variable "
        "SQLMESH__CACHE_DIR, to a folder that can be written, such as /tmp/sqlmesh-cache."
    )


def test_the_command_line_shows_that_line_and_no_traceback(settings: AutomationSettings) -> None:
    result = invoke("status", "--project", settings.project)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: SQLMesh cannot use its cache at ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("way", ["cache_dir", "SQLMESH__CACHE_DIR"])
def test_either_cure_helps(
    settings: AutomationSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "cache_dir":
        with (settings.project / "config.yaml").open("a") as file:
            file.write(f"\ncache_dir: {tmp_path / 'cache'}\n")
    else:
        monkeypatch.setenv(way, str(tmp_path / "cache"))
    assert len(current_manifest(settings).executed) > 1
    assert (tmp_path / "cache" / "model_definition").is_dir()


def test_an_error_of_what_is_to_be_cached_is_not_taken_for_one_of_the_cache(
    tmp_path: Path,
) -> None:
    cache = FileCache[str](tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        cache.get_or_load("a model", loader=lambda: (tmp_path / "nowhere").read_text())
    assert cache_failures.cache_failure(caught.value) is None

    shutil.rmtree(tmp_path)
    tmp_path.touch()
    with pytest.raises(FileExistsError) as caught_from_cache:
        cache.get_or_load("a model", loader=lambda: "its text")
    assert cache_failures.cache_failure(caught_from_cache.value) is not None


def test_a_tick_and_its_run_go_on_with_one_warning_and_no_traceback(
    shop: Warehouse,
    settings: AutomationSettings,
    instance: dg.DagsterInstance,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one_line = cache_failures._OneLine()
    for name in cache_failures._LOGGERS:
        monkeypatch.setattr(logging.getLogger(name), "filters", [one_line])
    caplog.set_level(logging.WARNING)

    automation = Automation.of(
        shop.project, instance, source="environment", manifest=settings.manifest
    )
    tick, run = automation.tick_and_run(NEXT_DAY)

    assert tick.requested
    assert run is not None
    assert run.success
    about = [record for record in caplog.records if "cache" in record.getMessage()]
    assert [record.levelname for record in about] == ["WARNING"]
    assert "SQLMESH__CACHE_DIR" in about[0].getMessage()
    assert not [record for record in caplog.records if record.exc_info]
