"""A notification target of a project's own, which writes down what it is told."""

from __future__ import annotations

import json
from pathlib import Path

from .warehouse import Warehouse

TOKEN = "T0CKEN-of-the-webhook"

_CONFIG = """
import json
import time
from pathlib import Path

import yaml
from sqlmesh.core.config import Config
from sqlmesh.core.notification_target import GenericNotificationTarget

HERE = Path(__file__).parent


class FileTarget(GenericNotificationTarget):
    url: str = "https://hooks.example/services/{token}"

    def send(self, notification_status, msg, audit_error=None, exc=None, **kwargs):
        if (HERE / "target-raises").exists():
            raise ConnectionError("no route to /services/{token}")
        while (HERE / "target-hangs").exists():
            time.sleep(0.05)
        with (HERE / "told").open("a") as file:
            line = [notification_status.value, msg, str(audit_error or exc or "")]
            file.write(json.dumps(line) + "\\n")


config = Config(
    **yaml.safe_load((HERE / "base.yaml").read_text()),
    notification_targets=[
        FileTarget(
            notify_on=[
                *("run_start", "run_end", "run_failure", "audit_failure"),
                *("apply_start", "apply_end", "apply_failure"),
            ]
        )
    ],
)
"""


def add_target(shop: Warehouse) -> None:
    """Gives a project the target, in a ``config.py`` in place of its ``config.yaml``."""
    (shop.project / "config.yaml").rename(shop.project / "base.yaml")
    (shop.project / "config.py").write_text(_CONFIG.replace("{token}", TOKEN))


def told(project: Path) -> list[tuple[str, str, str]]:
    """What the target was told: the status, the message, and the error; in this order."""
    file = project / "told"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(status, message, error) for status, message, error in map(json.loads, lines)]
