"""The specs of all assets and checks of a manifest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import dagster as dg

from ...config.errors import DuplicateAssetKey
from ...config.keys import external_key
from ...config.rules import BatchLimit
from ...config.settings import AutomationSettings
from ..ledger.outcome import AuditOutcome, Outcome, audited_model, audits_of
from ..naming import key_part, op_name
from ..project.manifest import Manifest, ManifestModel, ManifestStandaloneAudit
from .check_keys import audit_keys, named, standalone_keys
from .freshness import freshness_of
from .metadata import asset_metadata
from .policy import Policy
from .translator import SQLMeshTranslator
from .versions import Versions

ENVIRONMENT_TAG = "sqlmesh/environment"
"""Tag on every asset, and on every run that the automation requests."""

PROJECT_TAG = "sqlmesh/project"
"""Tag like it: the setting ``NAME``, where that is set."""

AUTOMATION_TAG = "sqlmesh/automation"
"""Tag on every asset: ``id`` of its settings, which the names of its sensor and jobs begin with."""

GATEWAY_TAG = "sqlmesh/gateway"
"""Run tag: the gateway, ``default`` where none is set."""

Conditions = Callable[[ManifestModel | ManifestStandaloneAudit], dg.AutomationCondition[Any] | None]
"""Gives the default automation condition of a model or a standalone audit."""


@dataclass(frozen=True)
class Blueprint:
    """What all assets and checks of an environment are made from.

    Attributes:
        manifest: The project's facts.
        settings: The environment.
        translator: How models look as assets.
        policies: How each model is automated, by ``fqn``.
    """

    manifest: Manifest
    settings: AutomationSettings
    translator: SQLMeshTranslator
    policies: Mapping[str, Policy]

    @cached_property
    def index(self) -> AssetIndex:
        """Which asset, check or op stands for which model.

        Raises:
            DuplicateAssetKey: Two models map to one key.
        """
        return _index(self)

    @property
    def prefix(self) -> tuple[str, ...]:
        """What every asset key begins with."""
        return tuple(filter(None, self.settings.asset_key_prefix.split("/")))

    @cached_property
    def prefixed(self) -> Mapping[dg.AssetKey, dg.AssetKey]:
        """Keys of the environment's assets by what the translator calls them."""
        by_fqn = self.manifest.by_fqn
        return {
            self.translator.get_asset_key(by_fqn[fqn]): key for fqn, key in self.index.keys.items()
        }


@dataclass(frozen=True)
class ModelSpecs:
    """One model that SQLMesh evaluates, as Dagster sees it."""

    model: ManifestModel
    op: str
    asset: dg.AssetSpec
    checks: tuple[dg.AssetCheckSpec, ...]
    retry_policy: dg.RetryPolicy | None
    priority: int | None


@dataclass(frozen=True)
class AssetIndex:
    """Which asset, check or op stands for which model.

    Attributes:
        keys: Asset key of every model, by ``fqn``.
        names: Name of every model and standalone audit, by ``fqn`` and by :func:`.audits_of` that.
        ops: ``fqn`` of what each op reports, by the op's name.
        checks: The checks of each standalone audit, one for every model it reads, and of each
            external model with audits, one for every audit; by ``fqn``.
        audits: The check that shows a model's use of an audit, by ``fqn`` and the use.
        scope: Tells the environment's records in a run's log from those of others, which may hold
            models of the same names.
        ignoring: ``fqn`` of what is evaluated without what it reads, by its policy.
        limits: The longest that one batch may take, by ``fqn``, of what has a limit.
        versions: The versions of models that the definitions are of.
    """

    keys: Mapping[str, dg.AssetKey]
    names: Mapping[str, str]
    ops: Mapping[str, str]
    checks: Mapping[str, Sequence[dg.AssetCheckKey]]
    scope: str
    ignoring: frozenset[str]
    limits: Mapping[str, BatchLimit]
    versions: Versions
    audits: Mapping[str, Mapping[str, dg.AssetCheckKey]] = field(default_factory=dict)

    @cached_property
    def op_names(self) -> Mapping[str, str]:
        """Name of the op that reports a model, a standalone audit, or audits alone; by name."""
        ops = {fqn: op for op, fqn in self.ops.items()}
        return ops | {audits_of(fqn): op for fqn, op in ops.items()}

    @cached_property
    def models(self) -> Mapping[dg.AssetKey, str]:
        """``fqn`` of the model that an asset stands for."""
        return {key: fqn for fqn, key in self.keys.items()}

    @cached_property
    def evaluated(self) -> Mapping[str, dg.AssetKey]:
        """The assets that SQLMesh's evaluations materialize, by ``fqn``."""
        return {
            fqn: self.keys[fqn]
            for fqn in self.ops.values()
            if fqn in self.keys and fqn not in self.checks
        }

    def named(self, outcome: Outcome) -> Outcome:
        """Returns an outcome with its audits called as these definitions call their checks."""
        names = {
            use: key.name for use, key in self.audits.get(audited_model(outcome.model), {}).items()
        }
        return replace(outcome, audits=tuple(named(audit, names) for audit in outcome.audits))

    def audited(self, outcome: Outcome) -> Iterator[tuple[dg.AssetCheckKey, AuditOutcome]]:
        """Yields what an outcome tells of checks that are not part of a model's own step."""
        fqn = audited_model(outcome.model)
        keys, uses = self.checks.get(fqn, ()), self.audits.get(fqn)
        for audit in () if outcome.model in self.evaluated else outcome.audits:
            found = keys if uses is None else [uses[audit.use]] if audit.use in uses else ()
            for key in found:
                yield key, audit


def _index(blueprint: Blueprint) -> AssetIndex:
    """Gives every model its asset key, and every model and standalone audit its op."""
    manifest = blueprint.manifest
    models: dict[dg.AssetKey, ManifestModel] = {}
    keys = {model.fqn: _key(blueprint, model) for model in manifest.models}
    elsewhere = {each.fqn for each in manifest.models if _made_elsewhere(blueprint, each)}
    for model in manifest.models:
        first = models.setdefault(keys[model.fqn], model)
        # One asset of the user's may make several tables.
        if first is not model and not {first.fqn, model.fqn} <= elsewhere:
            key = keys[model.fqn].to_user_string()
            raise DuplicateAssetKey(key, first.fqn, model.fqn)
    audits = audit_keys(manifest, keys, elsewhere)
    standalone = standalone_keys(manifest, keys, audits)
    nodes: list[ManifestModel | ManifestStandaloneAudit] = [*manifest.models]
    names = {node.fqn: node.name for node in [*nodes, *manifest.standalone_audits]}
    return AssetIndex(
        keys=keys,
        names={**names, **{audits_of(fqn): name for fqn, name in names.items()}},
        ops={
            **{op_name(keys[model.fqn].path): model.fqn for model in manifest.executed},
            **{
                op_name([*blueprint.prefix, "standalone audit", audit.name]): audit.fqn
                for audit in manifest.standalone_audits
                if audit.fqn in standalone
            },
            **{
                op_name([*blueprint.prefix, "external model", model.name]): model.fqn
                for model in manifest.only_audited
            },
        },
        checks={
            **standalone,
            **{model.fqn: [*audits[model.fqn].values()] for model in manifest.only_audited},
        },
        audits=audits,
        scope="/".join([blueprint.settings.id, *blueprint.prefix]),
        ignoring=frozenset(
            fqn for fqn, policy in blueprint.policies.items() if not policy.waits_for_upstream
        ),
        limits={fqn: each.limit for fqn, each in blueprint.policies.items() if each.limit},
        versions=Versions(manifest, blueprint.settings),
    )


def _key(blueprint: Blueprint, model: ManifestModel) -> dg.AssetKey:
    """The translator's key below the prefix, but for tables that a user's own asset makes."""
    if template := _made_elsewhere(blueprint, model):
        table = (_catalog(model), model.schema, model.table)
        catalog, schema, name = (key_part(part) if part else "" for part in table)
        return dg.AssetKey(external_key(template, catalog, schema, name))
    key = blueprint.translator.get_asset_key(model)
    if not blueprint.prefix:
        return key
    prefixed = key.with_prefix(blueprint.prefix)
    if model.is_external:
        external = blueprint.translator.get_external_asset(model, dg.AssetSpec(prefixed))
        return key if external is None else external.key
    return prefixed


def _catalog(model: ManifestModel) -> str:
    """The name of a table's catalog, the default one's too; empty on engines without catalogs."""
    parts = re.findall(r'"((?:[^"]|"")*)"', model.fqn)
    return model.catalog or (parts[0].replace('""', '"') if len(parts) > 2 else "")


def _made_elsewhere(blueprint: Blueprint, model: ManifestModel) -> str | None:
    """The template of its key, where the setting says that an asset of the user's makes a table."""
    return blueprint.settings.external_asset_key if model.is_external else None


def model_specs(blueprint: Blueprint, conditions: Conditions) -> list[ModelSpecs]:
    """Specs of the models that SQLMesh evaluates, in topological order."""
    index, translator = blueprint.index, blueprint.translator
    return [
        ModelSpecs(
            model=model,
            op=index.op_names[model.fqn],
            asset=_asset(blueprint, model, conditions),
            checks=tuple(
                dg.AssetCheckSpec(
                    name=audit.check,
                    asset=index.keys[model.fqn],
                    description=translator.get_check_description(model, audit),
                    blocking=audit.blocking,
                )
                for audit in model.audits
            ),
            retry_policy=translator.get_retry_policy(model),
            priority=blueprint.policies[model.fqn].priority,
        )
        for model in blueprint.manifest.executed
    ]


def unexecuted_specs(blueprint: Blueprint) -> list[dg.AssetSpec]:
    """Specs of what nothing here evaluates: external tables, and embedded models.

    SQLMesh inlines an embedded model into what reads it. As an asset that cannot be materialized
    it keeps the lineage whole.
    """
    specs = []
    for model in blueprint.manifest.models:
        if not model.is_executed and not _made_elsewhere(blueprint, model):
            spec: dg.AssetSpec | None = _asset(blueprint, model, conditions=None)
            if spec is not None and model.is_external:
                spec = blueprint.translator.get_external_asset(model, spec)
            if spec is not None:
                specs.append(spec)
    return specs


def _asset(
    blueprint: Blueprint, model: ManifestModel, conditions: Conditions | None
) -> dg.AssetSpec:
    translator, manifest = blueprint.translator, blueprint.manifest
    default = conditions(model) if conditions is not None else None
    policy = blueprint.policies[model.fqn] if model.is_executed else None
    freshness = freshness_of(model, policy, blueprint.settings) if policy is not None else None
    deps = (blueprint.prefixed.get(key, key) for key in translator.get_deps(model, manifest))
    spec = dg.AssetSpec(
        key=blueprint.index.keys[model.fqn],
        deps=list(dict.fromkeys(deps)),
        description=translator.get_description(model),
        metadata={
            **asset_metadata(model, blueprint.index.keys, blueprint.settings.projects.main),
            **({"sqlmesh/schedule": str(policy.schedule)} if policy and policy.schedule else {}),
            **({"sqlmesh/freshness": freshness.reason} if freshness else {}),
            **translator.get_metadata(model),
        },
        freshness_policy=freshness.policy if freshness else None,
        # Without this, a step that yields nothing would record a materialization by itself.
        skippable=model.is_executed,
        group_name=(policy.group if policy else None) or translator.get_group_name(model),
        code_version=translator.get_code_version(model),
        owners=translator.get_owners(model),
        tags={
            **translator.get_tags(model),
            **location_tags(blueprint.settings),
            AUTOMATION_TAG: blueprint.settings.id,
        },
        kinds=translator.get_kinds(model, manifest),
        automation_condition=(
            translator.get_automation_condition(model, default) if default is not None else None
        ),
    )
    translated = translator.get_asset_spec(model, spec)
    if translated is spec:
        return spec
    # By its key and these tags the rest of the definitions find it.
    return translated.replace_attributes(key=spec.key).merge_attributes(
        tags=location_tags(blueprint.settings)
    )


def location_tags(settings: AutomationSettings) -> dict[str, str]:
    """The tags that tell the assets and runs of one environment from those of others."""
    tags = {ENVIRONMENT_TAG: settings.environment}
    return {**tags, PROJECT_TAG: settings.name} if settings.name else tags
