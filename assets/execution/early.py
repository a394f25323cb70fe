"""Starts SQLMesh's process while Dagster still loads the definitions of a run.

The import of SQLMesh takes two seconds, and a run's process needs as long until its first step.
"""

from __future__ import annotations

from contextlib import suppress

from ..dagster_internals import run_being_loaded
from ..definitions.specs import AssetIndex
from ..worker.places import Place, Places


class EarlyPlaces:
    """Makes the places of runs; that of the run whose worker this process is may be there already.

    Args:
        make: Makes a place.
    """

    def __init__(self, make: Places) -> None:
        self._make = make
        self._early: Place | None = None

    def start(self, index: AssetIndex) -> None:
        """Starts the place of the run that this process loads the definitions for.

        Only where all steps are sure to be executed in this process. What executes them elsewhere,
        or may not execute any, starts a place of its own when it needs one.

        Args:
            index: The definitions that the run's steps come from.
        """
        run = run_being_loaded()
        if run is None or not run.asset_selection or "execution" in run.run_config:
            return
        if run.asset_selection <= index.models.keys():
            self._early = self._make()
            # Whoever calls it tries once more, and tells.
            with suppress(OSError):
                self._early.start()

    def __call__(self) -> Place:
        """Returns the place that is there already, once; after that, a new one."""
        place, self._early = self._early, None
        return place or self._make()
