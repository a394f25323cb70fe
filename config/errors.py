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
    │   ├── DatabaseMissing
    │   ├── ModelUnknown
    │   ├── PatternUnmatched
    │   ├── ModelNotEvaluated
    │   ├── DuplicateAssetKey
    │   ├── NotASQLMeshAsset
    │   ├── NothingRestated
    │   ├── SelectionRefused
    │   ├── ScaffoldingRefused
    │   ├── AheadOfClock
    │   ├── ManifestNotKept
    │   ├── StateVersionMismatch
    │   ├── DagsterHomeInvalid
    │   ├── RunTagInvalid
    │   ├── StorageLacking
    │   └── IncompatiblePackages
    ├── Unavailable                   may work a moment later; the CLI exits with 3
    │   ├── DagsterUnavailable
    │   ├── DatabaseLocked
    │   ├── LeaseTaken
    │   ├── LeaseLost
    │   └── StateUnavailable
    └── ExecutionError                a run could not do its work; the step fails with it
        ├── ExecutionAborted
        ├── ExecutionEndFailed
        ├── ExecutionStopped
        ├── SQLMeshFailed
        ├── WorkerDied
        ├── WorkerFailed
        ├── LedgerBroken
        └── OutcomeMissing

Each error builds its message from its arguments: the thing, the value, the cure. Those about the
project and its environment are here; :mod:`.setup_errors` has those about settings and the machine,
:mod:`.work_errors` those of a tick or a run at work. All are imported from here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

from .error_roots import (
    AutomationError as AutomationError,
    ConfigurationError as ConfigurationError,
    ExecutionError as ExecutionError,
    Unavailable as Unavailable,
)
from .paths import Projects
from .setup_errors import (
    AheadOfClock as AheadOfClock,
    CacheNotWritable as CacheNotWritable,
    DagsterHomeInvalid as DagsterHomeInvalid,
    IncompatiblePackages as IncompatiblePackages,
    ManifestFileTaken as ManifestFileTaken,
    ManifestNotKept as ManifestNotKept,
    PatternUnmatched as PatternUnmatched,
    RunTagInvalid as RunTagInvalid,
    ScaffoldingRefused as ScaffoldingRefused,
    SettingsError as SettingsError,
    StorageLacking as StorageLacking,
)
from .work_errors import (
    DagsterUnavailable as DagsterUnavailable,
    DatabaseLocked as DatabaseLocked,
    ExecutionAborted as ExecutionAborted,
    ExecutionEndFailed as ExecutionEndFailed,
    ExecutionStopped as ExecutionStopped,
    LeaseLost as LeaseLost,
    LeaseTaken as LeaseTaken,
    LedgerBroken as LedgerBroken,
    OutcomeMissing as OutcomeMissing,
    SQLMeshFailed as SQLMeshFailed,
    StateUnavailable as StateUnavailable,
    WorkerDied as WorkerDied,
    WorkerFailed as WorkerFailed,
)


class ProjectNotFound(ConfigurationError):
    """There is no SQLMesh project at the path."""

    def __init__(self, project: Path, place: str) -> None:
        what = (
            "holds no config.yaml, config.yml or config.py" if project.is_dir() else "is no folder"
        )
        super().__init__(
            f"No SQLMesh project at {project}: it {what}. "
            f"Set {place} to the folder with the SQLMesh configuration."
        )


class ProjectInvalid(ConfigurationError):
    """SQLMesh refuses the project's configuration.

    Args:
        projects: The projects' folders.
        reason: What SQLMesh says.
        command: SQLMesh's command that shows it.
        source: Where the setting ``SOURCE`` stands.
    """

    _go_on = ""

    def __init__(self, projects: Projects, reason: str, command: str, source: str) -> None:
        self.reason = reason
        super().__init__(
            f"SQLMesh cannot load the project at {projects}: {reason}\n"
            f"See it with SQLMesh itself: {command}"
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

    def __init__(self, projects: Projects, place: str) -> None:
        super().__init__(
            f"The SQLMesh project at {projects} has no models. "
            f"Add one below {projects.main / 'models'}, or point {place} at another project."
        )


class GatewayUnknown(ConfigurationError):
    """The gateway is not in the project's configuration."""

    def __init__(self, gateway: str, names: Iterable[str], projects: Projects, place: str) -> None:
        super().__init__(
            f"Gateway {gateway!r} ({place}) is not configured in {projects}. "
            f"Configured gateways: {', '.join(sorted(names)) or 'none'}"
        )


class EnvironmentNotFound(ConfigurationError):
    """The SQLMesh environment has never been planned, or this is not the state that has it.

    Args:
        environment: The environment.
        projects: The projects' folders.
        command: SQLMesh's command that makes it.
        place: Where its state was looked for.
        relative: Which relative path may have led to another place, and what to do about it.
    """

    def __init__(
        self, environment: str, projects: Projects, command: str, place: str, relative: str
    ) -> None:
        create = "If nobody has planned it yet, create" if relative else "Create"
        super().__init__(
            f"SQLMesh environment {environment!r} does not exist in the state of {projects}{place}"
            f". {relative and f'{relative}. '}{create} it with: "
            f"{command}"
        )


class DatabaseMissing(ConfigurationError):
    """The DuckDB file with the tables of an environment is not there, so SQLMesh would make one."""

    def __init__(self, file: Path, environment: str, relative: str) -> None:
        super().__init__(
            f"There is no file {file}, the DuckDB database with the tables of SQLMesh environment "
            f"{environment!r}. {relative or 'Bring it back, or plan the environment anew'}."
        )


class ModelUnknown(ConfigurationError):
    """The project has no such model."""

    def __init__(self, model: str, names: Iterable[str], projects: Projects) -> None:
        by_lower = {name.lower(): name for name in names}
        near = difflib.get_close_matches(model.lower(), by_lower, n=1, cutoff=0.5)
        hint = f"Did you mean {by_lower[near[0]]}? " if near else ""
        super().__init__(
            f"No model {model!r} in {projects}. {hint}Accepted: a model's or standalone audit's "
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


class SelectionRefused(ConfigurationError):
    """A selection of models holds more than names, patterns and tags."""

    def __init__(self, selection: str, reason: str) -> None:
        shown = selection if len(selection) <= 80 else f"{selection[:80]}…"
        super().__init__(
            f"The selection {shown!r} {reason}. Accepted: names, patterns such as sales.*, "
            "tag:finance; + in front or behind for what they read or what reads them; &, | and ^."
        )


class StateVersionMismatch(ConfigurationError):
    """SQLMesh's state was written by another version of SQLMesh than the installed one."""

    def __init__(self, projects: Projects, reason: str) -> None:
        super().__init__(f"SQLMesh's state of {projects} is of another version: {reason}")
