"""A Dagster storage that does not implement some methods, as Dagster+'s and others' do not."""

from __future__ import annotations

from typing import Any

from dagster import StringSource
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage


class LackingStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage without the methods that ``lacks`` names, after a comma each."""

    def __init__(self, base_dir: str, lacks: str = "", inst_data: Any = None) -> None:
        super().__init__(base_dir, inst_data)
        for name in filter(None, lacks.split(",")):
            for storage in (self.event_log_storage, self.run_storage, self.schedule_storage):
                if hasattr(storage, name):
                    setattr(storage, name, _unimplemented(name))

    @classmethod
    def config_type(cls) -> Any:
        return {"base_dir": StringSource, "lacks": StringSource}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> LackingStorage:
        return cls(inst_data=inst_data, **config_value)


def _unimplemented(name: str) -> Any:
    namespace: dict[str, Any] = {}
    # A function of that name, so that its traceback shows it.
    exec(f"def {name}(*_, **__):\n    raise NotImplementedError", namespace)
    return namespace[name]
