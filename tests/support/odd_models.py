"""Python models that do to their process what a model should not."""

from __future__ import annotations

ODD = "odd"
"""The file in the project's folder whose being there makes them do it."""

_MODEL = """
import typing as t
from pathlib import Path
import pandas as pd
from sqlmesh import ExecutionContext, model

@model({name!r}, columns={{"id": "int"}}, kind="FULL", cron="@daily", depends_on={reads!r})
def execute(context: ExecutionContext, start, end, execution_time, **kwargs: t.Any) -> pd.DataFrame:
{body}
    return pd.DataFrame({{"id": [1]}})
"""

ABORTS = "import os; os.abort()"
EXITS = "import os; os._exit(7)"
SLEEPS = "import time; time.sleep(3600)"
HOARDS = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
held = []
while (place := libc.malloc(64 << 20)):
    held.append(place)
os_kill = __import__("os").kill
os_kill(__import__("os").getpid(), 9)
"""
"""Takes memory until there is no more, and is killed for it as the kernel would."""

TELLS = """
import json, logging, os, sys
print("said by the model")
logging.getLogger("of.the.model").warning("logged by the model")
(folder / "told").write_text(json.dumps({"pid": os.getpid(), "dagster": "dagster" in sys.modules}))
"""


def odd_model(name: str, body: str, reads: list[str] | None = None) -> str:
    """The text of a model.

    Args:
        name: The model's name.
        body: What it does when it is evaluated, once it has been planned.
        reads: Names of models that it reads.
    """
    # A plan evaluates it too. No environment variable, which would be a reason to load it anew.
    guarded = "folder = Path(context.var('gate')).parent\n"
    guarded += f"if (folder / {ODD!r}).exists():\n{_indented(body)}"
    return _MODEL.format(name=name, reads=reads or [], body=_indented(guarded))


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines())
