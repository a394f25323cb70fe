"""Tells whether the version of a model that was evaluated is the one that its definition is of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import dagster as dg

from ...config.settings import AutomationSettings
from ..ledger.outcome import Outcome
from ..naming import ENVIRONMENT_CHECK
from ..project.cures import Cures, cures, difference
from ..project.manifest import Manifest, ManifestModel

_CODE_VERSION = "dagster/code_version"


@dataclass(frozen=True, eq=False)
class Versions:
    """The versions of models that the definitions are of.

    Attributes:
        manifest: What the definitions were made from.
        settings: The SQLMesh environment.
    """

    manifest: Manifest
    settings: AutomationSettings

    def evaluation(self, key: dg.AssetKey, outcome: Outcome) -> dg.AssetCheckEvaluation | None:
        """What the check shows after an execution; ``None`` if the environment has no such model.

        Args:
            key: The model's asset key.
            outcome: What the execution did to it.
        """
        model = self._models.get(outcome.model)
        if model is None or outcome.hashes is None:
            return None
        differs = difference(model, outcome.hashes)
        if differs is not None:
            differs = f"{differs}: {self._cures(outcome.plan or '').differs}"
        check = dg.AssetCheckKey(key, ENVIRONMENT_CHECK)
        return dg.AssetCheckEvaluation(**verdict(check, differs or self.manifest.outdated))

    def tags(self, outcome: Outcome) -> Mapping[str, str]:
        """Tags for a step's materialization: the code version that was evaluated.

        Empty where that is the definition's, which Dagster adds by itself.
        """
        model = self._models.get(outcome.model)
        if model is None or outcome.hashes is None or model.code_version == outcome.hashes.data:
            return {}
        return {_CODE_VERSION: outcome.hashes.data}

    @cached_property
    def _models(self) -> Mapping[str, ManifestModel]:
        return {model.fqn: model for model in self.manifest.executed}

    @cached_property
    def _cures(self) -> Any:
        # It reads the project's files, so once for each plan that a process meets.
        @cache
        def of(plan_id: str) -> Cures:
            return cures(self.manifest, self.settings, plan_id)

        return of


def verdict(key: dg.AssetCheckKey, differs: str | None) -> dict[str, Any]:
    """Returns the arguments of the check's evaluation or result.

    Args:
        key: The check.
        differs: How definition and environment differ; ``None`` if they do not.
    """
    return {
        "asset_key": key.asset_key,
        "check_name": key.name,
        "passed": differs is None,
        "severity": dg.AssetCheckSeverity.WARN,
        "description": differs,
    }
