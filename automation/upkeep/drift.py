"""Drift is where the loaded definitions are not what the SQLMesh environment holds.

Definitions come from project files, or from what the environment held when they were loaded; the
environment goes on with each plan. Ticks evaluate what the environment holds, whatever differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import dagster as dg

from ...assets.dagster_internals import AssetCheckExecutionRecord, AssetCheckExecutionRecordStatus
from ...assets.definitions.specs import AssetIndex
from ...assets.definitions.versions import verdict
from ...assets.execution.executor import EXECUTION_TAG
from ...assets.execution.outputs import outputs_without_result
from ...assets.execution.selection import selection
from ...assets.lease.waiting import Wait
from ...assets.naming import ENVIRONMENT_CHECK
from ...assets.project.cures import cures, difference
from ...assets.project.manifest import Manifest
from ...assets.project.opening import import_sqlmesh
from ...config.errors import AutomationError
from ...config.settings import AutomationSettings
from ..facts.facts import DueState

_MOST_NAMES = 3
"""How many models a line of a tick's log names."""

_EVALUATED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}


class Kind(StrEnum):
    """Tells in which way definition and environment differ."""

    MISSING = "not in it"
    DIFFERS = "in another version"
    NO_ASSET = "there without an asset"


@dataclass(frozen=True, slots=True)
class Difference:
    """Holds where the definition of a model and the environment differ.

    Attributes:
        name: The model, as a person knows it.
        kind: In which way.
        what: That in words, with the model.
        cure: What ends it.
    """

    name: str
    kind: Kind
    what: str
    cure: str

    @property
    def text(self) -> str:
        """The sentence that a person reads."""
        return f"{self.what}: {self.cure}"


def drift(
    manifest: Manifest, state: DueState, settings: AutomationSettings
) -> Mapping[str, Difference]:
    """Returns where definitions and environment differ, by ``fqn``.

    External tables do not count, because SQLMesh never evaluates them. Of standalone audits it
    only counts whether they are there.
    """
    cure = cures(manifest, settings, state.plan_id)
    differences = {}
    models = [model for model in manifest.models if not model.is_external]
    audits = {audit.fqn: audit.name for audit in manifest.standalone_audits}
    for fqn, name in [*((model.fqn, model.name) for model in models), *audits.items()]:
        if fqn not in state.hashes:
            what = f"{name} is not in the SQLMesh environment"
            differences[fqn] = Difference(name, Kind.MISSING, what, cure.missing)
    for model in models:
        held = state.hashes.get(model.fqn)
        if held is not None and (told := difference(model, held)):
            differences[model.fqn] = Difference(model.name, Kind.DIFFERS, told, cure.differs)
    # A model that is gone from the project and still read looks like an external table there.
    for fqn in sorted(state.hashes.keys() - {model.fqn for model in models} - audits.keys()):
        name = fqn.replace('"', "")
        what = f"{name} is in the SQLMesh environment and has no asset"
        differences[fqn] = Difference(name, Kind.NO_ASSET, what, cure.no_asset)
    return differences


def summaries(differences: Mapping[str, Difference], environment: str) -> Iterator[str]:
    """Yields a line for each way in which models differ, with the first of them and the cure."""
    for kind in Kind:
        alike = [each for each in differences.values() if each.kind is kind]
        if not alike:
            continue
        shown = ", ".join(each.name for each in alike[:_MOST_NAMES])
        if len(alike) > _MOST_NAMES:
            shown += f" and {len(alike) - _MOST_NAMES} more"
        yield f"drift from SQLMesh environment {environment!r}: {kind}: {shown}: {alike[0].cure}"


def differing(manifest: Manifest, differences: Mapping[str, Difference]) -> Mapping[str, str]:
    """Returns what the checks tell: the drift, and of all other models if they are outdated."""
    texts = {fqn: each.text for fqn, each in differences.items()}
    if manifest.outdated is None:
        return texts
    outdated = {model.fqn: manifest.outdated for model in manifest.executed}
    return {**outdated, **texts}


class DriftReport:
    """Reports drift: as checks once for each plan of the environment, in words at every tick.

    Args:
        manifest: What the definitions were made from.
        index: Tells which asset stands for which model.
        settings: The SQLMesh environment.
    """

    def __init__(self, manifest: Manifest, index: AssetIndex, settings: AutomationSettings) -> None:
        self._manifest, self._settings = manifest, settings
        self._keys = _keys(manifest, index)
        self._reported: str | None = None
        self._differing: Mapping[str, str] = {}
        self._lines: tuple[str, ...] = ()

    def report(self, instance: dg.DagsterInstance, state: DueState) -> Iterator[str]:
        """Reports drift as evaluations of asset checks that belong to no run.

        All checks after a plan; at other ticks those of models that differ, which a run may pass.

        It repeats nothing that the latest evaluation of a check says, and reports no model that
        agrees and has never differed.

        Args:
            instance: Records the checks.
            state: What the environment holds; nothing is reported while a plan is being applied.

        Yields:
            A line for each way in which models differ, as long as they do.
        """
        if state.planned_at is None:
            return
        if state.plan_id != self._reported:
            differences = drift(self._manifest, state, self._settings)
            self._differing = differing(self._manifest, differences)
            self._evaluate(instance, self._keys)
            self._lines = tuple(summaries(differences, self._settings.environment))
            self._reported = state.plan_id
        elif self._differing:
            # A run's process has loaded the files of now, which may be what was planned, and has
            # passed the check. People see the definitions of this process, which are not.
            self._evaluate(instance, [fqn for fqn in self._differing if fqn in self._keys])
        yield from self._lines

    def _evaluate(self, instance: dg.DagsterInstance, fqns: Iterable[str]) -> None:
        verdicts = {self._keys[fqn]: self._differing.get(fqn) for fqn in fqns}
        latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(verdicts))
        records = {key: _evaluated(instance, latest.get(key)) for key in verdicts}
        failed = [record for key, record in records.items() if record and verdicts[key]]
        hidden = _hidden(instance, failed)
        for key, differs in verdicts.items():
            if key in hidden or differs != _text(records[key]):
                instance.report_runless_asset_event(
                    dg.AssetCheckEvaluation(**verdict(key, differs))
                )


def _hidden(
    instance: dg.DagsterInstance, records: Sequence[AssetCheckExecutionRecord]
) -> Set[dg.AssetCheckKey]:
    """Returns of which Dagster shows "Not evaluated", as a run has materialized the asset since.

    As ``AssetCheckExecutionRecord.targets_latest_materialization`` has it, for an evaluation that
    belongs to no run. Some storages keep its moment in whole seconds; the next tick's is later.
    """
    by_asset = {record.key.asset_key: record for record in records}
    hidden = set()
    for asset in instance.get_asset_records(list(by_asset)) if by_asset else ():
        record = by_asset[asset.asset_entry.asset_key]
        latest = asset.asset_entry.last_materialization
        if latest is None or latest.run_id == record.run_id:
            continue
        if latest.timestamp >= record.create_timestamp:
            hidden.add(record.key)
    return hidden


def _text(record: AssetCheckExecutionRecord | None) -> str | None:
    """Returns what an evaluation says that did not pass."""
    evaluation = record.evaluation if record is not None else None
    return None if evaluation is None or evaluation.passed else evaluation.description


def drift_checks(
    settings: AutomationSettings, manifest: Manifest, index: AssetIndex
) -> dg.AssetChecksDefinition:
    """Returns the checks that show drift, one for every model that SQLMesh evaluates, in one op.

    Ticks report them, and so does the step of each model that a run evaluates. This op evaluates
    them where a person selects the checks alone.

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
        keys, models = context.selected_asset_check_keys, selection(context, index).models
        # Of models that the run evaluates, their own steps tell. This one would wait for them,
        # so it repeats what was told last, for steps that come to nothing.
        own = {key for key in keys if fqns[key] in models}
        told = _told_before(context.instance, own, context.run.run_id)
        try:
            if keys - own:
                differences = _drift_now(settings, manifest, context.log.info)
                told |= {key: differences.get(fqns[key]) for key in keys - own}
        except AutomationError as error:
            # Nothing was found out, which is not the model's failure.
            context.log.error(f"The checks have no result from this run. {error}")
        for key, differs in sorted(told.items()):
            yield dg.AssetCheckResult(**verdict(key, differs))
        yield from outputs_without_result(context, told)

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
    """Reads the environment and returns the drift; waits for whoever has the database open."""
    import_sqlmesh()
    from ..facts.due import DueReader

    wait = Wait(settings.lease_timeout_seconds, say, place=settings.place)
    state = DueReader(settings, wait).read(datetime.now(UTC))
    return differing(manifest, drift(manifest, state, settings))


def _told_before(
    instance: dg.DagsterInstance, keys: Set[dg.AssetCheckKey], run_id: str
) -> dict[dg.AssetCheckKey, str | None]:
    """Returns what checks told last, of those of which a run has told nothing yet."""
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(sorted(keys))
    told = {}
    for key, record in latest.items():
        last = _evaluated(instance, record)
        if last is not None and last.evaluation is not None and last.run_id != run_id:
            told[key] = _text(last)
    return told


def _keys(manifest: Manifest, index: AssetIndex) -> dict[str, dg.AssetCheckKey]:
    """Returns the check of every model that SQLMesh evaluates, by ``fqn``."""
    return {
        model.fqn: dg.AssetCheckKey(index.keys[model.fqn], ENVIRONMENT_CHECK)
        for model in manifest.executed
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
