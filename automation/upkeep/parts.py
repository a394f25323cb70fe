"""Parts of a tick's upkeep, of which each can be switched off for itself."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator


class Parts:
    """Runs the parts of a tick's upkeep.

    Storages of others do not implement all that Dagster's own do: Dagster+'s raise
    ``NotImplementedError``. A part that meets one is switched off for as long as the process lives,
    and named once; the tick goes on.
    """

    def __init__(self) -> None:
        self._switched_off: set[str] = set()

    def run(self, part: str, work: Callable[[], Iterable[str]]) -> Iterator[str]:
        """Runs one part, unless it is switched off.

        Args:
            part: What the part does, for a person, such as ``reporting drift``.
            work: Does it; its lines are passed on.

        Yields:
            The lines of the part, and one line when it is switched off.
        """
        if part in self._switched_off:
            return
        try:
            yield from work()
        except NotImplementedError as error:
            self._switched_off.add(part)
            yield f"{part} is switched off: Dagster's storage has no {lacking(error)}"


def lacking(error: NotImplementedError) -> str:
    """The method that a storage does not implement, by the error that it raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return frames[-1].name if frames else "such method"
