"""What of an outcome the ledger keeps: without secrets, and without SQL if none is to be shown."""

from __future__ import annotations

import dataclasses
from functools import cached_property

from ...config.settings import AutomationSettings
from ..ledger.outcome import Outcome
from ..project.withholding import Withholding


class OutcomeWithholding:
    """Takes out of outcomes what the settings keep from Dagster.

    Args:
        settings: The project, and how much SQL is shown.
    """

    def __init__(self, settings: AutomationSettings) -> None:
        self._settings = settings

    @cached_property
    def _withholding(self) -> Withholding:
        return Withholding(self._settings)

    def __call__(self, outcome: Outcome) -> Outcome:
        """Returns an outcome as it may be stored."""
        queries = [audit for audit in outcome.audits if audit.query]
        if not (outcome.error or outcome.sql or queries):
            return outcome  # nothing that is written by hand, so the project need not be read
        return dataclasses.replace(
            outcome,
            error=outcome.error and self._withholding.text(outcome.error),
            sql=self._withholding.sql(outcome.sql),
            audits=tuple(
                dataclasses.replace(audit, query=self._withholding.sql(audit.query))
                for audit in outcome.audits
            ),
        )
