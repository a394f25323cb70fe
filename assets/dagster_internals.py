"""The one door to what Dagster keeps private: every name, its reason, and the test that notices.

An upgrade of Dagster that breaks this package breaks this file. Import from here, never from
``dagster._…``; ``tests/docs/test_internals.py`` looks. :data:`INTERNALS` is the table at the end of
ARCHITECTURE.md.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
)
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.automation_tick_evaluation_context import (
    AutomationTickEvaluationContext,
)
from dagster._core.definitions.data_version import extract_data_version_from_entry
from dagster._core.definitions.definitions_load_context import (
    DefinitionsLoadContext,
    DefinitionsLoadType,
)
from dagster._core.definitions.executor_definition import check_cross_process_constraints
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from dagster._core.event_api import EventLogCursor
from dagster._core.events import (
    AssetMaterializationPlannedData,
    DagsterEventType,
    EngineEventData,
)
from dagster._core.scheduler.instigation import InstigatorState, InstigatorTick, TickStatus
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.base import AssetRecord
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.runs import SqlRunStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import (
    DagsterSqliteStorage,
    _event_logs_directory,
    _runs_directory,
)
from dagster._daemon.asset_daemon import (
    asset_daemon_cursor_from_instigator_serialized_cursor,
    asset_daemon_cursor_to_instigator_serialized_cursor,
)
from dagster._grpc.impl import core_execute_run
from dagster._grpc.utils import default_sensor_grpc_timeout
from dagster._serdes import ConfigurableClassData
from dagster._utils.interrupts import pop_captured_interrupt

if TYPE_CHECKING:
    import dagster as dg

__all__ = [
    "FINISHED_STATUSES",
    "INTERNALS",
    "SQLITE_BUSY_TIMEOUT_SECONDS",
    "SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION",
    "AssetCheckEvaluationPlanned",
    "AssetCheckExecutionRecord",
    "AssetCheckExecutionRecordStatus",
    "AssetGraphView",
    "AssetMaterializationPlannedData",
    "AssetRecord",
    "AutomationTickEvaluationContext",
    "BaseAssetGraph",
    "ConfigurableClassData",
    "DagsterSqliteStorage",
    "DefinitionsLoadContext",
    "DefinitionsLoadType",
    "EngineEventData",
    "EventLogCursor",
    "InstigatorState",
    "InstigatorTick",
    "SensorExecutionData",
    "SqlEventLogStorage",
    "SqlRunStorage",
    "SqliteEventLogStorage",
    "SqliteRunStorage",
    "TickStatus",
    "asset_daemon_cursor_from_instigator_serialized_cursor",
    "asset_daemon_cursor_to_instigator_serialized_cursor",
    "check_cross_process_constraints",
    "default_sensor_grpc_timeout",
    "extract_data_version_from_entry",
    "graph_view",
    "is_marked_as_cancelled",
    "pop_captured_interrupt",
    "run_assets",
    "run_being_loaded",
    "run_checks",
    "sqlite_directories",
    "upstream_ops",
    "with_metadata",
]


class Internal(NamedTuple):
    """Private names of Dagster that are used together.

    Attributes:
        names: As this module exports them.
        reason: What they are for.
        test: The test file that fails when they change.
    """

    names: tuple[str, ...]
    reason: str
    test: str


INTERNALS = (
    Internal(
        (
            "AutomationTickEvaluationContext",
            "asset_daemon_cursor_from_instigator_serialized_cursor",
            "asset_daemon_cursor_to_instigator_serialized_cursor",
            "SensorExecutionData",
            "with_metadata",
        ),
        "evaluating conditions without the limit of 500 assets, with a skip message and tags",
        "tests/tick/test_sensor.py",
    ),
    Internal(
        ("AssetGraphView", "BaseAssetGraph", "graph_view"),
        "the one view that all conditions of a tick share, and what it has requested so far",
        "tests/tick/test_composed_conditions.py",
    ),
    Internal(
        ("extract_data_version_from_entry", "SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION"),
        "an output without a materialization, and the data version that stays",
        "tests/execution/test_outcomes_unevaluated.py",
    ),
    Internal(
        ("EngineEventData", "EventLogCursor"),
        "the ledger: a run's engine events, read from where one stopped",
        "tests/execution/test_executors.py",
    ),
    Internal(
        ("FINISHED_STATUSES",),
        "which statuses a run does not leave; all others are in progress",
        "tests/execution/test_continuation.py",
    ),
    Internal(
        ("run_assets", "run_checks", "upstream_ops"),
        "the subset of the job that a step belongs to, and the order of its steps",
        "tests/execution/test_mixed_runs.py",
    ),
    Internal(
        ("check_cross_process_constraints",),
        "whether a run's steps can have processes of their own",
        "tests/execution/test_executor_choice.py",
    ),
    Internal(
        ("is_marked_as_cancelled", "pop_captured_interrupt"),
        "whether a run that is being terminated is to stop at once",
        "tests/execution/test_stopped_at_once.py",
    ),
    Internal(
        ("DefinitionsLoadContext", "DefinitionsLoadType"),
        "whether definitions are loaded by a code server or again by a run's process",
        "tests/project/test_source_environment.py",
    ),
    Internal(
        ("run_being_loaded",),
        "whose worker a process is, while it loads the definitions for it",
        "tests/worker/test_early.py",
    ),
    Internal(
        ("AssetMaterializationPlannedData", "AssetCheckEvaluationPlanned"),
        "what a run of a whole job is to materialize and check",
        "tests/cli/test_explaining.py",
    ),
    Internal(
        ("AssetRecord", "AssetCheckExecutionRecord", "AssetCheckExecutionRecordStatus"),
        "the last runs and check results of assets, as the storage returns them",
        "tests/tick/test_retries.py",
    ),
    Internal(
        ("SqlEventLogStorage",),
        "a materialization that was stored while its asset's record was not",
        "tests/upkeep/test_recovery.py",
    ),
    Internal(
        ("SqlRunStorage",),
        "storages that ask their schema once, whichever database they are on",
        "tests/storage/test_sqlite.py",
    ),
    Internal(
        ("InstigatorState", "InstigatorTick", "TickStatus", "default_sensor_grpc_timeout"),
        "the sensor's state and ticks, and how long a tick may take",
        "tests/cli/test_doctor.py",
    ),
    Internal(
        (
            "DagsterSqliteStorage",
            "SqliteEventLogStorage",
            "SqliteRunStorage",
            "ConfigurableClassData",
            "SQLITE_BUSY_TIMEOUT_SECONDS",
            "sqlite_directories",
        ),
        "a SQLite storage that keeps its connections, in the files of Dagster's own",
        "tests/storage/test_sqlite.py",
    ),
)
"""All of it; a test holds that nothing is left out and that the tests are there."""


def graph_view(evaluation: AutomationTickEvaluationContext) -> AssetGraphView:
    """The one view of the asset graph that an evaluation hands to every condition."""
    return evaluation._evaluator.asset_graph_view


def run_assets(context: Any) -> Any:
    """The asset layer of the job subset that a step's run selects.

    ``context.selected_asset_keys`` holds the step's own assets only.
    """
    return context.op_execution_context.job_def.asset_layer


def run_checks(context: Any) -> frozenset[Any]:
    """Keys of the checks that a step's run selects, of all its steps."""
    return frozenset(key for each in run_assets(context).data for key in each.assets_def.check_keys)


def upstream_ops(context: Any) -> dict[str, set[str]]:
    """The ops that each op of a step's job waits for, by name; for an op of a graph, the graph.

    They are those that make what the op's asset reads, and those of blocking checks of that.
    """
    job = context.op_execution_context.job_def
    structure = job.dependency_structure
    return {
        node.name: {
            output.node_name for output in structure.all_upstream_outputs_from_node(node.name)
        }
        for node in job.nodes
    }


def is_marked_as_cancelled(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a run was marked as cancelled from outside, as "Force termination" does.

    The run's own end comes with what ended it.
    """
    kind = DagsterEventType.RUN_CANCELED
    events = [
        record.event_log_entry.dagster_event
        for record in instance.get_records_for_run(run_id, of_type=kind).records
    ]
    return any(event is not None and event.event_specific_data is None for event in events)


def run_being_loaded() -> dg.DagsterRun | None:
    """The run that this process was started for, while it loads the definitions for it.

    Dagster tells definitions no more than that some run's process loads them, which may be that of
    a step. So this looks which function of Dagster's is waiting for them.
    """
    frame = sys._getframe()
    while (caller := frame.f_back) is not None:
        frame = caller
        if frame.f_code is core_execute_run.__code__:
            run: dg.DagsterRun = frame.f_locals["dagster_run"]
            return run
    return None


def sqlite_directories(base_dir: str) -> tuple[str, str]:
    """Where Dagster's SQLite storage keeps runs, and where events."""
    return _runs_directory(base_dir), _event_logs_directory(base_dir)


def with_metadata(
    copy: dg.AutomationConditionSensorDefinition,
    original: dg.AutomationConditionSensorDefinition,
    metadata: Any,
) -> None:
    """Gives a copy of a sensor the metadata of the original, or other metadata.

    Dagster's own ``with_attributes`` makes a sensor of its own class.
    """
    copy._metadata = original._metadata if metadata is None else metadata
