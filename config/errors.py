"""The errors of this package, one family with one root.

    AutomationError
    ├── ConfigurationError            something a person has to change; the CLI exits with 2
    │   ├── SettingsError
    │   ├── ProjectNotFound
    │   ├── ProjectInvalid
    │   │   └── ProjectFileInvalid
    │   ├── ProjectEmpty
    │   ├── GatewayUnknown
    │   ├── ManifestFileTaken
    │   ├── CacheNotWritable
    │   ├── EnvironmentNotFound
    │   ├── ModelUnknown
    │   ├── ModelNotEvaluated
    │   ├── DuplicateAssetKey
    │   ├── NotASQLMeshAsset
    │   ├── ScaffoldingRefused
    │   ├── AheadOfClock
    │   ├── ManifestNotKept
    │   ├── StateVersionMismatch
    │   ├── DagsterHomeInvalid
    │   ├── RunTagInvalid
    │   ├── StorageLacking
    │   └── IncompatiblePackages
    ├── Unavailable                   may work a moment later; the CLI exits with 3
    │   ├── DatabaseLocked
    │   ├── LeaseTaken
    │   ├── LeaseLost
    │   └── StateUnavailable
    └── ExecutionError                a run could not do its work; the step fails with it
        ├── ExecutionAborted
        ├── SQLMeshFailed
        ├── LedgerBroken
        └── OutcomeMissing

Each error builds its message from its arguments: the thing, the value, the cure.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path


class AutomationError(Exception):
    """Root of all errors that this package raises on purpose."""


class ConfigurationError(AutomationError):
    """Something a person has to change before it can work."""


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
        names = sorted(settings)
        by_lower = {setting.lower(): setting for setting in names}
        near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
        hint = f"Did you mean {by_lower[near[0]]}? " if near else ""
        return cls([f"{name} ({origin}) is not a setting. {hint}Settings: {', '.join(names)}"])


class ProjectNotFound(ConfigurationError):
    """There is no SQLMesh project at the path."""

    def __init__(self, project: Path, variable: str) -> None:
        what = (
            "holds no config.yaml, config.yml or config.py" if project.is_dir() else "is no folder"
        )
        super().__init__(
            f"No SQLMesh project at {project}: it {what}. "
            f"Set {variable} to the folder with the SQLMesh configuration."
        )


class ProjectInvalid(ConfigurationError):
    """SQLMesh refuses the project's configuration.

    Args:
        project: The project's folder.
        reason: What SQLMesh says.
        source: The variable of the setting ``SOURCE``.
    """

    _go_on = ""

    def __init__(self, project: Path, reason: str, source: str) -> None:
        self.reason = reason
        super().__init__(
            f"SQLMesh cannot load the project at {project}: {reason}\n"
            f"See it with SQLMesh itself: sqlmesh -p {project} info"
            f"{self._go_on.format(source=source)}"
        )


class ProjectFileInvalid(ProjectInvalid):
    """SQLMesh refuses one of the project's files, and not its configuration."""

    _go_on = (
        "\nTo go on with what the SQLMesh environment holds, whatever the files say: "
        "{source}=environment"
    )


class ProjectEmpty(ConfigurationError):
    """The project has a configuration and no models."""

    def __init__(self, project: Path, variable: str) -> None:
        super().__init__(
            f"The SQLMesh project at {project} has no models. Add one below {project / 'models'}, "
            f"or point {variable} at another project."
        )


class GatewayUnknown(ConfigurationError):
    """The gateway is not in the project's configuration."""

    def __init__(self, gateway: str, names: Iterable[str], project: Path, variable: str) -> None:
        super().__init__(
            f"Gateway {gateway!r} ({variable}) is not configured in {project}. "
            f"Configured gateways: {', '.join(sorted(names)) or 'none'}"
        )


class ManifestFileTaken(ConfigurationError):
    """The setting ``MANIFEST`` names something that is no manifest of this package."""

    def __init__(self, path: Path, what: str, variable: str) -> None:
        super().__init__(
            f"{variable}={str(path)!r} {what}, and is left as it is. "
            f"Set {variable} to a file of its own, which may be missing yet, or unset it."
        )


class CacheNotWritable(ConfigurationError):
    """SQLMesh has no place for the files of its cache."""

    def __init__(self, place: str | None, reason: str) -> None:
        super().__init__(
            f"SQLMesh cannot use its cache{f' at {place}' if place else ''}: {reason}. "
            "Set cache_dir in the SQLMesh project's configuration, or the variable "
            "SQLMESH__CACHE_DIR, to a folder that can be written, such as /tmp/sqlmesh-cache."
        )


class EnvironmentNotFound(ConfigurationError):
    """The SQLMesh environment has never been planned."""

    def __init__(self, environment: str, project: Path) -> None:
        super().__init__(
            f"SQLMesh environment {environment!r} does not exist in the state of {project}. "
            f"Create it with: sqlmesh -p {project} plan {environment}"
        )


class ModelUnknown(ConfigurationError):
    """The project has no such model."""

    def __init__(self, model: str, names: Iterable[str], project: Path) -> None:
        by_lower = {name.lower(): name for name in names}
        near = difflib.get_close_matches(model.lower(), by_lower, n=1, cutoff=0.5)
        hint = f"Did you mean {by_lower[near[0]]}? " if near else ""
        super().__init__(
            f"No model {model!r} in {project}. {hint}Accepted: a model's or standalone audit's "
            "name, asset key or fully qualified name; `sqlmesh-automation status` lists them."
        )


class ModelNotEvaluated(ConfigurationError):
    """The model is one that SQLMesh never evaluates, so nothing is decided about it."""

    def __init__(self, model: str, kind: str, readers: Sequence[str]) -> None:
        super().__init__(
            f"{model} is of kind {kind}, which SQLMesh never evaluates: there is nothing to "
            f"explain. Explain what reads it: {', '.join(readers) or 'nothing does'}"
        )


class DuplicateAssetKey(ConfigurationError):
    """Two models map to one asset key."""

    def __init__(self, key: str, first: str, second: str) -> None:
        super().__init__(
            f"Models {first} and {second} both map to the asset key {key!r}. "
            "Rename one of them, or override SQLMeshTranslator.get_asset_key."
        )


class NotASQLMeshAsset(ConfigurationError):
    """The condition ``SqlmeshDue()`` is evaluated for an asset that is not one of its models."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"SqlmeshDue() cannot be evaluated for the asset {key!r}: it is for models of a "
            "SQLMesh environment, and the environment's sensor, such as sqlmesh_prod_automation, "
            "has to evaluate it. Take it off this asset, or the asset out of the other sensor."
        )


class NothingRestated(ConfigurationError):
    """A restatement selects nothing that the environment has evaluated."""

    def __init__(self, models: Sequence[str], start: str, end: str | None) -> None:
        super().__init__(
            f"Nothing to restate: {', '.join(models)} from {start} to {end or 'now'} selects no "
            "interval that the environment has. Give models that are deployed, by name, pattern or "
            "tag:…, whose data begin before the end."
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

    def __init__(self, reason: str, variable: str) -> None:
        super().__init__(
            f"{reason}: every process would load the SQLMesh project. "
            f"Set {variable} to a file that can be written."
        )


class StateVersionMismatch(ConfigurationError):
    """SQLMesh's state was written by another version of SQLMesh than the installed one."""

    def __init__(self, project: Path, reason: str) -> None:
        super().__init__(f"SQLMesh's state of {project} is of another version: {reason}")


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


class Unavailable(AutomationError):
    """Something that may work a moment later."""


class DatabaseLocked(Unavailable):
    """Another process holds the DuckDB database."""

    def __init__(self, database: str, reason: str) -> None:
        super().__init__(f"The DuckDB database {database} is in use by another process: {reason}")


class DagsterUnavailable(Unavailable):
    """The storage of the Dagster instance cannot be reached."""

    def __init__(self, home: str, reason: str) -> None:
        super().__init__(
            f"The storage of the Dagster instance DAGSTER_HOME={home!r} is out of reach: {reason}"
        )


class LeaseTaken(Unavailable):
    """Another execution evaluates models that this one needs."""

    def __init__(self, blocked: str, variable: str) -> None:
        super().__init__(f"Gave up waiting: {blocked}. How long a run waits is set by {variable}.")


class LeaseLost(Unavailable):
    """The session that held the lease has ended."""

    def __init__(self) -> None:
        super().__init__(
            "The connection that held this run's lease was lost, so another run may have begun to "
            "evaluate the same models: stopped at the next model."
        )


class StateUnavailable(Unavailable):
    """The state database or the warehouse cannot be reached."""

    def __init__(self, project: Path, reason: str) -> None:
        super().__init__(
            f"The state database or the warehouse of {project} is out of reach: {reason}"
        )


class ExecutionError(AutomationError):
    """A run could not do its work."""


class ExecutionAborted(ExecutionError):
    """The execution stopped before this model had an outcome."""

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"{model} was not evaluated: the SQLMesh execution stopped. {reason}")


class SQLMeshFailed(ExecutionError):
    """SQLMesh gave up on something that belongs to no model, such as a signal's own error."""

    def __init__(self, project: Path, reason: str) -> None:
        super().__init__(f"SQLMesh gave up on {project}: {reason}")


class LedgerBroken(ExecutionError):
    """What became of a model could not be written to Dagster's event log."""

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(
            f"SQLMesh has dealt with {model}, and Dagster's event log did not take the record of "
            f"it: {reason}. The execution was stopped; the next tick reports what was evaluated."
        )


class OutcomeMissing(ExecutionError):
    """The execution ended and the ledger has nothing for this model."""

    def __init__(self, model: str, run_id: str) -> None:
        super().__init__(
            f"The SQLMesh execution of run {run_id} ended without an outcome for {model}. "
            "This is a defect of dagster-sqlmesh-automation: please report it with the run's log."
        )
