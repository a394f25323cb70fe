"""Tells a person what a command is doing while it prints nothing."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.live import Live

SILENCE = 1.0
"""So many seconds of silence are borne."""


class Working:
    """A spinner on standard error, shown after :data:`SILENCE` and only on a terminal.

    Call it with what begins, such as ``working("asking SQLMesh what is due")``; :meth:`printing`
    takes it away before a line is printed.
    """

    def __init__(self, doing: str) -> None:
        self._lock = threading.Lock()
        self._doing = doing
        self._timer: threading.Timer | None = None
        self._live: Live | None = None
        self._is_shown_at_all = sys.stderr.isatty()

    def __call__(self, doing: str) -> None:
        """Says what begins now."""
        with self._lock:
            self._doing = doing
            if self._live is not None:
                self._live.update(self._spinner())
            elif self._timer is None and self._is_shown_at_all:
                self._timer = threading.Timer(SILENCE, self._show)
                self._timer.daemon = True
                self._timer.start()

    def printing(self) -> None:
        """Takes the spinner away, because something is printed or the command ends."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._live is not None:
                self._live.stop()
                self._live = None

    def _show(self) -> None:
        # Imported by now: it takes a second until this is called.
        from rich.console import Console
        from rich.live import Live

        with self._lock:
            if self._timer is None:
                return  # something was printed meanwhile
            self._timer = None
            # It leaves sys.stdout alone, which --json redirects.
            self._live = Live(
                self._spinner(),
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def _spinner(self) -> Any:
        from rich.spinner import Spinner

        return Spinner("dots", text=f"{self._doing} …")

    def __enter__(self) -> Working:
        self(self._doing)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.printing()
