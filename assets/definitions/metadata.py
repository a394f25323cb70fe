"""Metadata of an asset that other assets or files are needed for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from ..project.manifest import ManifestModel


def asset_metadata(
    model: ManifestModel, keys: Mapping[str, dg.AssetKey], project: Path
) -> dict[str, Any]:
    """Columns, where they come from, and the model's file.

    Args:
        model: The model.
        keys: Asset keys by ``fqn``.
        project: Folder of the SQLMesh project.
    """
    metadata: dict[str, Any] = {}
    if model.columns:
        metadata["dagster/column_schema"] = dg.TableSchema(
            columns=[
                dg.TableColumn(column.name, column.type, description=column.description)
                for column in model.columns
            ]
        )
    lineage = {
        column.name: [
            dg.TableColumnDep(asset_key=keys[fqn], column_name=name)
            for fqn, name in column.reads
            if fqn in keys
        ]
        for column in model.columns
        if column.reads
    }
    if lineage:
        metadata["dagster/column_lineage"] = dg.TableColumnLineage(deps_by_column=lineage)
    if model.path is not None:
        metadata["dagster/code_references"] = _code_reference(project / model.path, model.line)
    return metadata


def _code_reference(file: Path, line: int) -> dg.CodeReferencesMetadataValue:
    with warnings.catch_warnings():
        # Not the user's to act on, and it would be there with every load.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.CodeReferencesMetadataValue(
            code_references=[dg.LocalFileCodeReference(file_path=str(file), line_number=line)]
        )
