"""What Dagster does not clear away by itself."""

from __future__ import annotations

from datetime import datetime, timedelta

import dagster as dg

_EVERY = timedelta(days=1)


class Housekeeping:
    """Purges old records of what automation conditions were evaluated to, once a day.

    Dagster's daemon does that for conditions that it evaluates itself, after 30 days
    (``AssetDaemon``), not for those of sensors that evaluate in user code. The records of all
    automation sensors are in one table without the sensor's name.

    Args:
        keep: How long records are kept.
    """

    def __init__(self, keep: timedelta) -> None:
        self._keep = keep
        self._purged: datetime | None = None

    def tidy(self, instance: dg.DagsterInstance, now: datetime) -> bool:
        """Purges, if a day has passed since it last did, and at the first tick of a process.

        Returns:
            Whether it did.
        """
        if self._purged is not None and now < self._purged + _EVERY:
            return False
        storage = instance.schedule_storage
        if storage is not None:
            storage.purge_asset_evaluations(before=(now - self._keep).timestamp())
        self._purged = now
        return True
