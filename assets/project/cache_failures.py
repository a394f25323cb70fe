"""SQLMesh's own cache, where it cannot be written: one line in place of tracebacks.

SQLMesh caches models, queries and snapshots in files (``sqlmesh.utils.cache``), in ``.cache`` of
the project unless its ``cache_dir`` says otherwise. It cannot load models without writing there.
Snapshots of the state it only fails to cache: it logs a traceback for each of them, and goes on.
"""

from __future__ import annotations

import logging
import traceback

from ...config.errors import CacheNotWritable

_LOGGERS = ("sqlmesh.core.model.cache", "sqlmesh.core.snapshot.cache")


def cache_failure(error: BaseException | None) -> CacheNotWritable | None:
    """Returns the error to show, if SQLMesh's cache is the reason of another one."""
    while error is not None:
        if isinstance(error, OSError) and _is_raised_by_cache(error):
            place = error.filename and str(error.filename)
            return CacheNotWritable(place, error.strerror or str(error))
        error = error.__cause__ or error.__context__
    return None


def _is_raised_by_cache(error: OSError) -> bool:
    """Whether an error comes from a cache file, and not from what was to be cached."""
    functions = [
        frame.f_code.co_name
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__") == "sqlmesh.utils.cache"
    ]
    # FileCache.get_or_load also calls what loads a model, which runs the project's own code.
    return bool(functions) and functions[-1] != "get_or_load"


class _OneLine(logging.Filter):
    """Turns the first traceback about the cache into a warning and drops those that follow."""

    def __init__(self) -> None:
        super().__init__()
        self._is_told = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether a record is logged."""
        failure = cache_failure(record.exc_info[1]) if record.exc_info else None
        if failure is None:
            return True
        if self._is_told:
            return False
        self._is_told = True
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args = f"Every process reads the models anew. {failure}", ()
        record.exc_info = record.exc_text = None
        return True


_one_line = _OneLine()


def shorten_cache_tracebacks() -> None:
    """Has SQLMesh's loggers tell once in a process that the cache cannot be written."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_one_line)
