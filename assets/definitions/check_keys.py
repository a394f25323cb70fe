"""Which asset check shows which use of an audit, and which standalone audit."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import dagster as dg

from ..ledger.outcome import AuditOutcome
from ..naming import ENVIRONMENT_CHECK, audit_use, identifier, with_digest
from ..project.manifest import Manifest

AuditKeys = Mapping[str, Mapping[str, dg.AssetCheckKey]]
"""Checks by the ``fqn`` of a model and the use of an audit."""


def audit_keys(
    manifest: Manifest, keys: Mapping[str, dg.AssetKey], made_elsewhere: Collection[str]
) -> AuditKeys:
    """Returns the checks of all models' audits.

    Args:
        manifest: The models.
        keys: Asset keys by ``fqn``.
        made_elsewhere: ``fqn`` of tables that assets of the user's make. Such an asset may make
            several, and have checks of its own.
    """
    return {
        model.fqn: {
            audit.use: dg.AssetCheckKey(
                keys[model.fqn],
                f"{identifier(model.name)}__{audit.check}"
                if model.fqn in made_elsewhere
                else audit.check,
            )
            for audit in model.audits
        }
        for model in manifest.models
        if model.audits
    }


def standalone_keys(
    manifest: Manifest, keys: Mapping[str, dg.AssetKey], audits: AuditKeys
) -> dict[str, list[dg.AssetCheckKey]]:
    """Returns the checks of standalone audits by ``fqn``, one on each model that they read.

    Args:
        manifest: The audits. One that reads nothing of this project has no asset to be shown on.
        keys: Asset keys by ``fqn``.
        audits: The checks of models' audits, which keep their names.
    """
    taken: dict[dg.AssetKey, set[str]] = {}
    for check in (check for uses in audits.values() for check in uses.values()):
        taken.setdefault(check.asset_key, {ENVIRONMENT_CHECK}).add(check.name.lower())
    standalone: dict[str, list[dg.AssetCheckKey]] = {}
    for audit in manifest.standalone_audits:
        # An asset of the user's may make several of the tables that one audit reads.
        for key in dict.fromkeys(keys[fqn] for fqn in audit.depends_on if fqn in keys):
            name, others = identifier(audit.name), taken.setdefault(key, {ENVIRONMENT_CHECK})
            if name.lower() in others:
                name = with_digest(name, audit_use(audit.fqn, {}), others)
            others.add(name.lower())
            standalone.setdefault(audit.fqn, []).append(dg.AssetCheckKey(key, name))
    return standalone


def named(audit: AuditOutcome, names: Mapping[str, str]) -> AuditOutcome:
    """Returns an audit's outcome under the name of its check.

    Args:
        audit: The outcome.
        names: Names of the model's checks by use, as the definitions have them.
    """
    name = names.get(audit.use)
    if name is None and audit.check in names.values():
        # The environment has a use that the definitions have not, with the words of another one.
        name = with_digest(audit.check, audit.use, ())
    return audit if name is None else replace(audit, check=name)
