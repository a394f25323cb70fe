"""Drift is where the loaded definitions are not what the SQLMesh environment holds.

Definitions come from project files, or from what the environment held when they were loaded; the
environment goes on with each plan. Ticks evaluate what the environment holds, whatever differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from ...assets.dagster_internals import AssetCheckExecutionRecord, AssetCheckExecutionRecordStatus
from ...assets.definitions.specs import AssetIndex
from ...assets.execution.executor import EXECUTION_TAG
from ...assets.lease.waiting import Wait
from ...assets.naming import ENVIRONMENT_CHECK
from ...assets.project.manifest import Manifest
from ...assets.project.opening import import_sqlmesh
from ...config.settings import AutomationSettings
from ..facts.facts import DueState
from .cures import cures

CHECK = ENVIRONMENT_CHECK
"""Names the check of every model that SQLMesh evaluates."""

_MOST_LINES = 20
_EVALUATED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}


def drift(manifest: Manifest, state: DueState, settings: AutomationSettings) -> Mapping[str, str]:
    """Returns where definitions and environment differ: a sentence for each model, by ``fqn``.

    External tables do not count, because SQLMesh never evaluates them. Of standalone audits it
    only counts whether they are there.
    """
    cure = cures(manifest, settings, state.plan_id)
    differences = {}
    models = [model for model in manifest.models if not model.is_external]
    for model in models:
        held = state.hashes.get(model.fqn)
        if held is None:
            differences[model.fqn] = (
                f"{model.name} is not in the SQLMesh environment: {cure.missing}"
            )
            continue
        # The hash of a SQL model's metadata contains its query, too.
        changed = ""
        if model.code_version != held.data:
            changed = "its logic"
        elif model.metadata_hash != held.metadata:
            changed = "its metadata"
        if changed:
            differences[model.fqn] = (
                f"{model.name} differs from what the SQLMesh environment holds in {changed}: "
                f"{cure.differs}"
            )
    audits = {audit.fqn: audit.name for audit in manifest.standalone_audits}
    for fqn in audits.keys() - state.hashes.keys():
        differences[fqn] = f"{audits[fqn]} is not in the SQLMesh environment: {cure.missing}"
    # A model that is gone from the project and still read looks like an external table there.
    for fqn in sorted(state.hashes.keys() - {model.fqn for model in models} - audits.keys()):
        name = fqn.replace('"', "")
        differences[fqn] = f"{name} is in the SQLMesh environment and has no asset: {cure.no_asset}"
    return differences


def differing(
    manifest: Manifest, state: DueState, settings: AutomationSettings
) -> Mapping[str, str]:
    """Returns what the checks tell: the drift, and of all other models if they are outdated."""
    differences = drift(manifest, state, settings)
    if manifest.outdated is None:
        return differences
    outdated = {model.fqn: manifest.outdated for model in manifest.executed}
    return {**outdated, **differences}


class DriftReport:
    """Reports drift once for each plan of the environment.

    Args:
        manifest: What the definitions were made from.
        index: Tells which asset stands for which model.
        settings: The SQLMesh environment.
    """

    def __init__(self, manifest: Manifest, index: AssetIndex, settings: AutomationSettings) -> None:
        self._manifest, self._index, self._settings = manifest, index, settings
        self._reported: str | None = None

    def report(self, instance: dg.DagsterInstance, state: DueState) -> Iterator[str]:
        """Reports drift as evaluations of asset checks that belong to no run.

        It repeats nothing that the latest evaluation of a check says, and reports no model that
        agrees and has never differed.

        Args:
            instance: Records the checks.
            state: What the environment holds; nothing is reported while a plan is being applied.

        Yields:
            A line for each model that differs, at most twenty, then how many more there are.
        """
        if state.planned_at is None or state.plan_id == self._reported:
            return
        differences = drift(self._manifest, state, self._settings)
        self._evaluate(instance, differing(self._manifest, state, self._settings))
        self._reported = state.plan_id
        lines = list(differences.values())
        yield from lines[:_MOST_LINES]
        if len(lines) > _MOST_LINES:
            yield f"{len(lines) - _MOST_LINES} more differ from the SQLMesh environment"

    def _evaluate(self, instance: dg.DagsterInstance, differences: Mapping[str, str]) -> None:
        fqns = {key: fqn for fqn, key in _keys(self._manifest, self._index).items()}
        latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(fqns))
        for key, fqn in fqns.items():
            differs = differences.get(fqn)
            record = _evaluated(instance, latest.get(key))
            evaluation = record.evaluation if record is not None else None
            passed = evaluation is None or evaluation.passed
            shown = None if evaluation is None or passed else evaluation.description
            if differs != shown:
                instance.report_runless_asset_event(
                    dg.AssetCheckEvaluation(**_verdict(key, differs))
                )


def drift_checks(
    settings: AutomationSettings, manifest: Manifest, index: AssetIndex
) -> dg.AssetChecksDefinition:
    """Returns the checks that show drift, one for every model that SQLMesh evaluates, in one op.

    Ticks report them; a run evaluates them only if a person selects them.

    Args:
        settings: The SQLMesh environment.
        manifest: What the definitions were made from.
        index: Tells which asset stands for which model.
    """
    fqns = {key: fqn for fqn, key in _keys(manifest, index).items()}
    description = (
        f"Whether the definition is what SQLMesh environment {settings.environment!r} holds"
    )
    specs = {
        f"model_{number}": dg.AssetCheckSpec(
            name=key.name, asset=key.asset_key, description=description
        )
        for number, key in enumerate(fqns)
    }

    # This is no @multi_asset_check: a step that does not wait for the assets' own steps can
    # report whatever becomes of those, and a thousand inputs take a tenth of the time that all
    # definitions take to load.
    @dg.op(
        name=f"{settings.id}_drift",
        out=dict.fromkeys(specs, dg.Out(dg.Nothing, is_required=False)),
        tags={EXECUTION_TAG: manifest.engine},
    )
    def compare(context):  # type: ignore[no-untyped-def]
        differences = _drift_now(settings, manifest, context.log.info)
        for key in sorted(context.selected_asset_check_keys):
            yield dg.AssetCheckResult(**_verdict(key, differences.get(fqns[key])))

    checks: dg.AssetChecksDefinition = dg.AssetChecksDefinition.create(
        node_def=compare,
        keys_by_input_name={},
        check_specs_by_output_name=specs,
        can_subset=True,
    )
    return checks


def _drift_now(
    settings: AutomationSettings, manifest: Manifest, say: Callable[[str], None]
) -> Mapping[str, str]:
    """Reads the environment and returns the drift; waits for an execution in the same run."""
    import_sqlmesh()
    from ..facts.due import DueReader

    # In a run that evaluates models as well, the execution may not have ended yet.
    wait = Wait(settings.lease_timeout_seconds, say, place=settings.place)
    state = DueReader(settings, wait).read(datetime.now(UTC))
    return differing(manifest, state, settings)


def _verdict(key: dg.AssetCheckKey, differs: str | None) -> dict[str, Any]:
    """Returns the arguments of a check's evaluation or result."""
    return {
        "asset_key": key.asset_key,
        "check_name": key.name,
        "passed": differs is None,
        "severity": dg.AssetCheckSeverity.WARN,
        "description": differs,
    }


def _keys(manifest: Manifest, index: AssetIndex) -> dict[str, dg.AssetCheckKey]:
    """Returns the check of every model that SQLMesh evaluates, by ``fqn``."""
    return {
        model.fqn: dg.AssetCheckKey(index.keys[model.fqn], CHECK) for model in manifest.executed
    }


def _evaluated(
    instance: dg.DagsterInstance, latest: AssetCheckExecutionRecord | None
) -> AssetCheckExecutionRecord | None:
    """Returns the latest execution of a check that came to an evaluation; others end before."""
    if latest is None or latest.status in _EVALUATED:
        return latest
    try:
        history = instance.event_log_storage.get_asset_check_execution_history(
            latest.key, limit=1, status=_EVALUATED
        )
    except NotImplementedError:
        # Dagster+. Without the history a difference is reported once more, and an agreement not.
        return None
    return history[0] if history else None
