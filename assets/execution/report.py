"""What a step tells Dagster of its model's outcome: the truth table in code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dagster as dg

from ..dagster_internals import extract_data_version_from_entry
from ..definitions.specs import AssetIndex
from ..definitions.versions import Versions
from ..ledger.outcome import FAILURES, AuditOutcome, Outcome, OutcomeStatus
from ..ledger.run_tags import BACKFILL_TAG
from .interval_tables import interval_tables
from .outputs import output_without_materialization, outputs_without_result

AssetEvent = dg.MaterializeResult[Any] | dg.AssetCheckResult | dg.Output[Any]

EVALUATED_AT = "sqlmesh/evaluated_at"
"""Metadata of a materialization: when SQLMesh had evaluated the model."""

PLAN = "sqlmesh/plan"
"""Metadata of a materialization: the plan that the environment was at."""

_LINEAGE = "dagster/column_lineage"
_LONGEST_SQL = 10_000
_RUN_ID = "sqlmesh/run_id"


def report(
    context: dg.AssetExecutionContext, key: dg.AssetKey, outcome: Outcome, versions: Versions
) -> Iterator[AssetEvent]:
    """Yields the events of one model's step.

    Args:
        context: The step's.
        key: The model's asset key.
        outcome: What the execution did to the model.
        versions: The versions of models that the definitions are of.

    Raises:
        dagster.Failure: The model failed, a blocking audit failed, an upstream failed, or the
            run was cancelled before it.
    """
    audits = ((dg.AssetCheckKey(key, audit.check), audit) for audit in outcome.audits)
    results = selected_results(context, audits)
    metadata = outcome_metadata(outcome, context.run_id)
    if (version := versions.evaluation(key, outcome)) is not None:
        # Not as one of the step's own checks: Dagster would plan each, ask each for an output, and
        # take twice the events. It takes this one for the check of what this run materializes.
        context.log_event(version)
    if outcome.status is OutcomeStatus.EXECUTED:
        lineage = context.assets_def.metadata_by_key.get(key, {}).get(_LINEAGE)
        yield dg.MaterializeResult(
            asset_key=key,
            # Dagster takes it from the last materialization, not from the definition.
            metadata={**metadata, **({_LINEAGE: lineage} if lineage is not None else {})},
            data_version=dg.DataVersion(_data_version(outcome, context.run_id)),
            tags=versions.tags(outcome),
            check_results=list(results.values()),
        )
        yield from outputs_without_result(context, results)
    elif outcome.succeeded:
        if outcome.status is OutcomeStatus.UP_TO_DATE and _is_waited_for(context, outcome):
            yield dg.MaterializeResult(
                asset_key=key,
                metadata=metadata,
                data_version=_unchanged(context, key, outcome),
                tags=versions.tags(outcome),
            )
        else:
            yield output_without_materialization(context)
        yield from outputs_without_result(context, ())
    else:
        if outcome.status is OutcomeStatus.AUDIT_FAILED:
            yield from results.values()
        raise dg.Failure(
            description=failure_text(outcome),
            metadata=metadata,
            # A further attempt executes once more; what was skipped is not started before that.
            allow_retries=outcome.status in FAILURES,
        )


def fail_with_end(error: str | None, outcome: Outcome) -> None:
    """Fails the step of a model that is reported, if the execution failed after its last model.

    Args:
        error: Why it did, where it did.
        outcome: The model's.

    Raises:
        dagster.Failure: It did.
    """
    if error is not None:
        raise dg.Failure(
            description=(
                f"{outcome.name} itself is as reported ({outcome.summary()}); the run fails for "
                f"what comes after all models. {error}\nNo model is evaluated again for it. "
                "SQLMesh executes after_all again with the next model that is due, and a "
                "re-execution of this run from failure does at once."
            ),
            # A retry of this step alone would execute nothing.
            allow_retries=False,
        )


def outcome_metadata(outcome: Outcome, run_id: str = "") -> dict[str, Any]:
    """An outcome as metadata of a materialization or a failure; of a run, where one did it."""
    metadata: dict[str, Any] = {
        "sqlmesh/outcome": outcome.status.value,
        "sqlmesh/model": outcome.name,
        "sqlmesh/batches": outcome.batches,
        "sqlmesh/duration_ms": outcome.duration_ms,
    }
    metadata.update(interval_tables(outcome, run_id))
    if outcome.interval_count:
        metadata["sqlmesh/interval_count"] = outcome.interval_count
    if outcome.audits:
        metadata["sqlmesh/audits"] = len(outcome.audits)
        metadata["sqlmesh/audits_failed"] = sum(not audit.passed for audit in outcome.audits)
    if outcome.snapshot:
        metadata["sqlmesh/snapshot"] = outcome.snapshot
    if outcome.table:
        metadata["sqlmesh/table"] = outcome.table
    if outcome.plan:
        metadata[PLAN] = outcome.plan
    if outcome.evaluated_at:
        metadata[EVALUATED_AT] = dg.MetadataValue.timestamp(outcome.evaluated_at)
    if outcome.rows is not None:
        metadata["dagster/row_count"] = outcome.rows
    if outcome.bytes is not None:
        metadata["sqlmesh/bytes_processed"] = outcome.bytes
    if outcome.error:
        metadata["sqlmesh/error"] = outcome.error
    if outcome.sql:
        metadata["sqlmesh/sql"] = dg.MetadataValue.md(_sql(outcome.sql))
    return metadata


def selected_results(
    context: Any, audits: Iterable[tuple[dg.AssetCheckKey, AuditOutcome]]
) -> dict[dg.AssetCheckKey, dg.AssetCheckResult]:
    """Returns the results of audits, of those checks that a step was asked for."""
    selected = context.selected_asset_check_keys
    return {check: audit_result(check, audit) for check, audit in audits if check in selected}


def audit_result(check: dg.AssetCheckKey, audit: AuditOutcome) -> dg.AssetCheckResult:
    """One audit's result as an asset check's."""
    metadata: Mapping[str, Any] = {"sqlmesh/failing_rows": audit.count}
    if audit.query:
        metadata = {**metadata, "sqlmesh/query": dg.MetadataValue.md(_sql(audit.query))}
    return dg.AssetCheckResult(
        asset_key=check.asset_key,
        check_name=check.name,
        passed=audit.passed,
        severity=dg.AssetCheckSeverity.ERROR if audit.blocking else dg.AssetCheckSeverity.WARN,
        metadata=metadata,
    )


def report_runless(
    instance: dg.DagsterInstance, index: AssetIndex, outcome: Outcome, run_id: str
) -> bool:
    """Reports a model that a run evaluated and that no step of it reports.

    SQLMesh evaluates upstream models whose intervals are missing, selected or not; and a run can
    end between the evaluation and the step. Does nothing where the run has reported it already,
    as a process may have done that died before it could say so.

    Args:
        instance: Records the run.
        index: Tells which asset stands for the model.
        outcome: What the execution did to it.
        run_id: The run.

    Returns:
        Whether it was reported.
    """
    key = index.evaluated[outcome.model]
    if outcome.status is not OutcomeStatus.EXECUTED or is_reported(instance, key, run_id):
        return False
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            asset_key=key,
            description=f"Evaluated by the SQLMesh execution of run {run_id}",
            metadata={
                **outcome_metadata(outcome, run_id),
                _RUN_ID: dg.MetadataValue.dagster_run(run_id),
            },
            tags={"dagster/data_version": _data_version(outcome, run_id)},
        )
    )
    report_version(instance, index, outcome)
    return True


def report_version(instance: dg.DagsterInstance, index: AssetIndex, outcome: Outcome) -> None:
    """Reports the check of a model's version, after a materialization that belongs to no run."""
    version = index.versions.evaluation(index.evaluated[outcome.model], outcome)
    if version is not None:
        instance.report_runless_asset_event(version)


def report_without_step(
    instance: dg.DagsterInstance, index: AssetIndex, outcome: Outcome, run_id: str
) -> None:
    """Reports what a run evaluated or audited and no step of it reports.

    Args:
        instance: Records the run.
        index: Tells which asset or checks stand for the model.
        outcome: What the execution did to it.
        run_id: The run.
    """
    if outcome.model in index.evaluated:
        report_runless(instance, index, outcome, run_id)
    for check, audit in index.audited(outcome):
        result = audit_result(check, audit)
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=check.asset_key,
                check_name=check.name,
                passed=result.passed,
                severity=result.severity,
                description=f"Audited by the SQLMesh execution of run {run_id}",
                metadata={**result.metadata, _RUN_ID: dg.MetadataValue.dagster_run(run_id)},
            )
        )


def is_reported(instance: dg.DagsterInstance, key: dg.AssetKey, run_id: str) -> bool:
    """Whether an asset's last materialization is a run's, by a step of it or without one."""
    # From the log: what the asset itself names as its last is stored later (see Recovery).
    for record in instance.fetch_materializations(key, limit=1).records:
        materialization = record.asset_materialization
        reporter = materialization.metadata.get(_RUN_ID) if materialization is not None else None
        return run_id in {
            record.event_log_entry.run_id,
            reporter.value if reporter is not None else None,
        }
    return False


def _data_version(outcome: Outcome, run_id: str) -> str:
    # The snapshot says which logic, the run which evaluation of it.
    return f"{outcome.snapshot}@{run_id}"


def _is_waited_for(context: dg.AssetExecutionContext, outcome: Outcome) -> bool:
    """Returns whether Dagster needs a materialization of a model that is up to date.

    A selected descendant that is executed reads it in this run; an asset backfill fails where a
    run of it ends without a materialization of each of its targets, and then starts nothing that
    depends on them.
    """
    return outcome.feeds_executed or BACKFILL_TAG in context.run.tags


def _unchanged(
    context: dg.AssetExecutionContext, key: dg.AssetKey, outcome: Outcome
) -> dg.DataVersion:
    event = context.instance.get_latest_materialization_event(key)
    version = extract_data_version_from_entry(event) if event is not None else None
    return version or dg.DataVersion(str(outcome.snapshot))


def failure_text(outcome: Outcome) -> str:
    """Returns why a step fails with an outcome."""
    if outcome.status is OutcomeStatus.AUDIT_FAILED:
        failed = [audit for audit in outcome.audits if not audit.passed and audit.blocking]
        named = ", ".join(f"{audit.check} ({audit.count:,} rows)" for audit in failed)
        return f"{outcome.subject}: blocking audit failed: {named or outcome.error}"
    if outcome.status is OutcomeStatus.FAILED and outcome.is_alone:
        return f"{outcome.subject} could not all be evaluated: {outcome.error}"
    if outcome.status is OutcomeStatus.FAILED:
        return f"{outcome.name} failed in SQLMesh: {outcome.error}"
    if outcome.status is OutcomeStatus.SKIPPED:
        return f"{outcome.name} was skipped by SQLMesh: {outcome.reason}"
    when = outcome.reason or "before it"
    return f"{outcome.name} was not evaluated: the run was cancelled {when}"


def _sql(sql: str) -> str:
    shown = sql if len(sql) <= _LONGEST_SQL else f"{sql[:_LONGEST_SQL]}\n-- (cut)"
    return f"```sql\n{shown}\n```"
