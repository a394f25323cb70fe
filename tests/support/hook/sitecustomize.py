"""Loaded by every Python process with this folder on PYTHONPATH: counts SQLMesh executions.

Says too which processes have imported SQLMesh, and when each model had been evaluated.

Waits for somebody to import SQLMesh's scheduler, and does not import it by itself: processes that
are not to import SQLMesh stay without it.
"""

import importlib.abc
import importlib.util
import os
import sys
import time
from pathlib import Path

_LOG = os.environ.get("COUNT_SQLMESH_EXECUTIONS")


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname == "sqlmesh":
            with Path(f"{_LOG}.imports").open("a") as file:
                file.write(f"{os.getpid()}\n")
        if fullname != "sqlmesh.core.scheduler":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        loader = spec.loader
        execute = loader.exec_module

        def exec_module(module):
            execute(module)
            original = module.Scheduler._run_or_audit

            def counted(self, *args, **kwargs):
                selected = kwargs.get("selected_snapshots")
                with Path(_LOG).open("a") as file:
                    file.write(
                        f"{os.getpid()} {len(selected) if selected is not None else 'all'}\n"
                    )
                return original(self, *args, **kwargs)

            module.Scheduler._run_or_audit = counted
            evaluate = module.Scheduler.evaluate

            def timed(self, snapshot, *args, **kwargs):
                result = evaluate(self, snapshot, *args, **kwargs)
                with Path(f"{_LOG}.evaluated").open("a") as file:
                    file.write(f"{time.time()} {snapshot.node.name}\n")
                return result

            module.Scheduler.evaluate = timed

        loader.exec_module = exec_module
        return spec


if _LOG:
    sys.meta_path.insert(0, _Finder())
