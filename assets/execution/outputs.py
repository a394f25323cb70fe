"""Outputs of a step that become no event of an asset or check."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import dagster as dg

from ..dagster_internals import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION


def outputs_without_result(
    context: Any, told: Iterable[dg.AssetCheckKey]
) -> Iterator[dg.Output[Any]]:
    """Yields an output for each check of a step that has no result.

    Dagster shows the check as it does without. It only does not say of each one that its output
    is missing, and of each blocking one that what reads the asset goes on without it.

    Args:
        context: The step's.
        told: The checks that have a result.
    """
    op_context, with_result = context.op_execution_context, frozenset(told)
    specs = op_context.assets_def.check_specs_by_output_name
    for name in sorted(op_context.selected_output_names & specs.keys()):
        if specs[name].key not in with_result:
            yield dg.Output(None, output_name=name)


def output_without_materialization(context: dg.AssetExecutionContext) -> dg.Output[Any]:
    """An output that lets what reads this asset run, and records no materialization.

    Without an output Dagster skips every descendant, also one that SQLMesh has executed. Dagster
    has no public way to say "ran, wrote nothing"; this is the mark with which it keeps the
    outputs of observed source assets from becoming events (``execute_step.py``,
    ``_log_materialization_or_observation_events_for_asset``).
    """
    (name,) = (
        name
        for name in context.op_execution_context.selected_output_names
        if name in context.assets_def.keys_by_output_name
    )
    return dg.Output(
        None, output_name=name, metadata={SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True}
    )
