"""The notification targets of a SQLMesh project, told so that none of them can harm a run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from sqlmesh.core.notification_target import NotificationTargetManager

from ...config.settings import AutomationSettings
from ..ledger.outcome import error_message

if TYPE_CHECKING:
    from sqlmesh.core.context import Context
    from sqlmesh.core.notification_target import BaseNotificationTarget, NotificationEvent

PATIENCE_SECONDS = 30.0
"""How long one target may take for one event; a mail server that hangs holds up no model."""

_SHORTEST_SECRET = 4

_log = logging.getLogger(__name__)


def guard_notifications(
    context: Context, settings: AutomationSettings, say: Callable[[str], None]
) -> None:
    """Has a context's notification targets told without harm, or not at all.

    SQLMesh itself lets a target that raises fail the run, or the model whose audit it is told of.

    Args:
        context: The project, opened; nothing has been told yet.
        settings: Tells whether they are told.
        say: Writes a line to the run's log for each target that could not be told.
    """
    manager = context.notification_target_manager
    if not settings.notifications:
        context.notification_target_manager = NotificationTargetManager()
        return

    def guarded(targets: Any) -> Any:
        return {key: {_Guarded(each, say) for each in those} for key, those in targets.items()}

    context.notification_target_manager = NotificationTargetManager(
        guarded(manager.notification_targets),
        guarded(manager.user_notification_targets),
        username=manager.username,
    )


class _Guarded:
    """A notification target that raises nothing and takes no longer than the patience.

    Args:
        target: The target.
        say: Writes a line to the run's log.
    """

    def __init__(self, target: BaseNotificationTarget, say: Callable[[str], None]) -> None:
        self._target, self._say = target, say

    @property
    def notify_on(self) -> frozenset[NotificationEvent]:
        """The events that it is told of."""
        return self._target.notify_on

    def __getattr__(self, name: str) -> Callable[..., None]:
        """A method of the target, such as ``notify_run_end``, guarded."""
        return partial(self._tell, name)

    def _tell(self, method: str, *args: Any, **kwargs: Any) -> None:
        errors: list[BaseException] = []

        def tell() -> None:
            try:
                getattr(self._target, method)(*args, **kwargs)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - named in a line, below
                errors.append(error)

        thread = threading.Thread(target=tell, name=method, daemon=True)
        thread.start()
        thread.join(PATIENCE_SECONDS)
        if errors:
            self._name(method, self._without_secrets(error_message(errors[0])))
        elif thread.is_alive():
            self._name(method, f"it has not answered within {PATIENCE_SECONDS:g} s")

    def _name(self, method: str, why: str) -> None:
        kind, event = type(self._target).__name__, method.removeprefix("notify_")
        line = f"The notification target {kind} could not be told of {event}: {why}"
        _log.warning(line)
        try:
            self._say(line)
        except Exception:  # noqa: BLE001 - the line is in the process's log, and why it is not here
            _log.warning("Cannot write this line to the run's log", exc_info=True)

    def _without_secrets(self, text: str) -> str:
        """A message without what the target is configured with, as a webhook's URL is a secret."""
        for secret in sorted(self._texts(), key=len, reverse=True):
            if len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, "***")
        return text

    def _texts(self) -> Iterator[str]:
        for name in type(self._target).model_fields.keys() - {"type_", "notify_on"}:
            value = getattr(self._target, name)
            text = value.get_secret_value() if isinstance(value, SecretStr) else value
            if isinstance(text, str):
                yield text
                # Of a URL, messages have its path alone.
                yield text.partition("://")[2].partition("/")[2]
