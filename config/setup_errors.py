"""Errors about settings, the machine and Dagster's instance: what a person has set up."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from .error_roots import ConfigurationError


class SettingsError(ConfigurationError):
    """One or more settings cannot be used.

    Args:
        problems: One line for each setting, with the variable, its value and what is accepted.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(problems))

    @classmethod
    def unknown(cls, name: str, origin: str, settings: Iterable[str]) -> SettingsError:
        """Returns the error for a setting that does not exist, with the nearest one that does."""
        return cls([f"{name} ({origin}) is not a setting. {nearest_setting(name, settings)}"])


def nearest_setting(name: str, settings: Iterable[str]) -> str:
    """Returns which setting a person may have meant, and where all of them are."""
    by_lower = {setting.lower(): setting for setting in sorted(settings)}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    hint = f"Did you mean {by_lower[near[0]]}? " if near else ""
    return f"{hint}`sqlmesh-automation settings` lists them all"


class PatternUnmatched(ConfigurationError):
    """A pattern for models on the command line matches none."""

    def __init__(self, pattern: str, why: str) -> None:
        super().__init__(f"{pattern!r} {why}")


class ManifestFileTaken(ConfigurationError):
    """The setting ``MANIFEST`` names something that is no manifest of this package."""

    def __init__(self, path: Path, what: str, place: str) -> None:
        super().__init__(
            f"{place}={str(path)!r} {what}, and is left as it is. "
            f"Set {place} to a file of its own, which may be missing yet, or unset it."
        )


class CacheNotWritable(ConfigurationError):
    """SQLMesh has no place for the files of its cache."""

    def __init__(self, place: str | None, reason: str) -> None:
        super().__init__(
            f"SQLMesh cannot use its cache{f' at {place}' if place else ''}: {reason}. "
            "Set cache_dir in the SQLMesh project's configuration, or the variable "
            "SQLMESH__CACHE_DIR, to a folder that can be written, such as /tmp/sqlmesh-cache."
        )


class AheadOfClock(ConfigurationError):
    """Models are to be evaluated for a moment that has not come."""

    def __init__(self, source: str, at: datetime, now: datetime) -> None:
        super().__init__(
            f"{source} {at.isoformat()} is ahead of the clock, which shows {now:%Y-%m-%d %H:%M:%S} "
            "UTC. SQLMesh would record intervals that have not ended as evaluated, and data that "
            "arrive later would never be. To look ahead: tick --dry-run, status or explain."
        )


class ManifestNotKept(ConfigurationError):
    """The manifest cannot be written, so that nothing is prepared."""

    def __init__(self, reason: str, place: str) -> None:
        super().__init__(
            f"{reason}: every process would load the SQLMesh project. "
            f"Set {place} to a file that can be written."
        )


class ScaffoldingRefused(ConfigurationError):
    """The scaffolder cannot write what was asked for."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Nothing is written: {reason}")


class DagsterHomeInvalid(ConfigurationError):
    """Dagster refuses the instance folder."""

    def __init__(self, home: str, reason: str, *, file: bool = False) -> None:
        cure = (
            "Mend its dagster.yaml."
            if file
            else "Set it to the absolute path of the folder with your dagster.yaml, or unset it."
        )
        super().__init__(f"DAGSTER_HOME={home!r} cannot be used: {reason} {cure}")


class StorageLacking(ConfigurationError):
    """Dagster's storage does not implement what no tick can do without."""

    def __init__(self, method: str) -> None:
        super().__init__(
            f"Dagster's storage has no {method} (NotImplementedError), without which nothing can "
            "be decided. Use a storage that has it, such as Dagster's own on PostgreSQL or SQLite"
        )


class RunTagInvalid(ConfigurationError):
    """A run has a tag of this package that holds something else."""

    def __init__(self, tag: str, value: str, run_id: str, accepted: str) -> None:
        shown = value if len(value) <= 80 else f"{value[:80]}…"
        super().__init__(
            f"run {run_id} has the tag {tag}={shown!r}, which is not {accepted}. "
            "Launch it without the tag"
        )


class IncompatiblePackages(ConfigurationError):
    """SQLMesh cannot be imported beside another installed package."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            "SQLMesh cannot be imported because the package 'sqlglotc' is installed "
            f"(dagster-dbt brings it through sqlglot[rs]): {reason}. "
            "Cure: pip uninstall sqlglotc, or install dagster-dbt in another environment."
        )
