"""How a SQLMesh model looks as a Dagster asset. Every method can be overridden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from .. import naming
from ..project.manifest import Manifest, ManifestAudit, ManifestModel


class SQLMeshTranslator:
    """Maps a model's facts to an asset's. Override a method to change one of them.

    Each method gets the model as the manifest has it and answers one question, so an override
    stays small::

        class OurTranslator(SQLMeshTranslator):
            def get_group_name(self, model: ManifestModel) -> str:
                return "finance" if "finance" in model.tags else super().get_group_name(model)


        defs = build_definitions(translator=OurTranslator())
    """

    def get_asset_key(self, model: ManifestModel) -> dg.AssetKey:
        """``[schema, name]``, with the catalog in front where it is not the default one.

        Also called for external models. Two models may not share a key.
        """
        parts = (model.catalog, model.schema, model.table)
        return dg.AssetKey([naming.key_part(part) for part in parts if part])

    def get_deps(self, model: ManifestModel, manifest: Manifest) -> Sequence[dg.AssetKey]:
        """The assets that the model reads, external and embedded ones included."""
        return [self.get_asset_key(manifest.by_fqn[fqn]) for fqn in model.depends_on]

    def get_group_name(self, model: ManifestModel) -> str:
        """The model's schema."""
        return naming.identifier(model.schema) if model.schema else "default"

    def get_tags(self, model: ManifestModel) -> Mapping[str, str]:
        """SQLMesh's tags, in the characters that Dagster allows."""
        return {naming.tag_key(tag): "" for tag in model.tags}

    def get_owners(self, model: ManifestModel) -> Sequence[str]:
        """SQLMesh's owner: an e-mail address as it is, any other name as a team."""
        return [naming.owner(model.owner)] if model.owner else []

    def get_kinds(self, model: ManifestModel, manifest: Manifest) -> set[str]:
        """The icons in the UI: ``sqlmesh``, with ``python`` where it is that; or the engine.

        Each takes room from the name in the catalog, so there are no more than tell models apart.
        """
        if model.is_external:
            return {manifest.engine}
        return {"sqlmesh", "python"} if model.source == "python" else {"sqlmesh"}

    def get_description(self, model: ManifestModel) -> str | None:
        """The model's description, or a sentence about it, and its query below."""
        query = f"```sql\n{model.sql}\n```" if model.sql else None
        described = (model.description or "").strip() or sentence(model)
        return "\n\n".join(filter(None, (described, query)))

    def get_metadata(self, model: ManifestModel) -> Mapping[str, Any]:
        """What SQLMesh knows of the model and a person asks for."""
        metadata: dict[str, Any] = {
            "sqlmesh/model": model.name,
            "sqlmesh/kind": model.kind,
            "dagster/table_name": model.relation,
        }
        if model.is_executed:
            metadata["sqlmesh/cron"] = " ".join(filter(None, (model.cron, model.cron_tz)))
        if model.signals:
            metadata["sqlmesh/signals"] = ", ".join(model.signals)
        for name in ("grains", "references"):
            if expressions := getattr(model, name):
                metadata[f"sqlmesh/{name}"] = ", ".join(expressions)
        if any(naming.tag_key(tag) != tag for tag in model.tags):
            metadata["sqlmesh/tags"] = ", ".join(model.tags)
        if model.owner and naming.owner(model.owner) != model.owner:
            metadata["sqlmesh/owner"] = model.owner
        if model.path:
            metadata["sqlmesh/path"] = model.path
        return metadata

    def get_code_version(self, model: ManifestModel) -> str | None:
        """SQLMesh's hash of what determines the model's data."""
        return model.code_version

    def get_check_description(self, model: ManifestModel, audit: ManifestAudit) -> str | None:
        """The audit with its arguments, as the model calls it."""
        args = ", ".join(f"{name} := {value}" for name, value in audit.args.items())
        return f"SQLMesh audit {audit.audit}({args}) of {model.name}"

    def get_external_asset(
        self, model: ManifestModel, default: dg.AssetSpec
    ) -> dg.AssetSpec | None:
        """The asset that stands for an external model: a table that is made outside SQLMesh.

        Return ``None`` where an asset of yours makes the table. Models that read it then depend on
        yours, provided that it has the key that :meth:`get_asset_key` gives.
        """
        return default

    def get_automation_condition(
        self, model: ManifestModel, default: dg.AutomationCondition[Any]
    ) -> dg.AutomationCondition[Any] | None:
        """When the model is requested; ``None`` leaves it to people and other schedules.

        Args:
            model: The model.
            default: Requested when it is due in SQLMesh and nothing holds it.
        """
        return default

    def get_asset_spec(self, model: ManifestModel, default: dg.AssetSpec) -> dg.AssetSpec:
        """The whole asset, for what no other method is about; its key stays as it is.

        Args:
            model: The model.
            default: As the other methods make it.
        """
        return default

    def get_retry_policy(self, model: ManifestModel) -> dg.RetryPolicy | None:
        """How often a step is tried again within its run; not at all unless overridden.

        Each further attempt is one further SQLMesh execution of all models of the run that have
        not succeeded.
        """
        return None


def sentence(model: ManifestModel) -> str:
    """Returns what there is to say of a model that nobody has described, in one line."""
    count = len(model.audits)
    audits = f"{count} audit{'s' * (count != 1)}" if count else ""
    if model.is_external:
        about = ["Table made outside SQLMesh"]
    elif not model.is_executed:
        about = [f"{model.kind} model, part of what reads it"]
    else:
        about = [f"{model.kind} model", " ".join(filter(None, (model.cron, model.cron_tz)))]
    return ", ".join(filter(None, [*about, audits]))
