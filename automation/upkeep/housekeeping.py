"""Housekeeping clears away what Dagster does not clear away by itself."""

from __future__ import annotations

from datetime import datetime, timedelta

import dagster as dg

_EVERY = timedelta(days=1)


class Housekeeping:
    """Purges old evaluations of automation conditions, once a day.

    Dagster's daemon purges those that it makes itself, after 30 days (``AssetDaemon``), and not
    those of sensors that evaluate in user code. The records of all automation sensors are in one
    table, without the sensor's name.

    Args:
        keep: How long records are kept.
    """

    def __init__(self, keep: timedelta) -> None:
        self._keep = keep
        self._purged: datetime | None = None

    def tidy(self, instance: dg.DagsterInstance, now: datetime) -> bool:
        """Purges if a day has passed since it last did, and at the first tick of a process.

        Returns:
            Whether it purged.
        """
        if self._purged is not None and now < self._purged + _EVERY:
            return False
        storage = instance.schedule_storage
        if storage is not None:
            storage.purge_asset_evaluations(before=(now - self._keep).timestamp())
        self._purged = now
        return True
