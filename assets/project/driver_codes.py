"""Which codes of database drivers say that a server was out of reach, or had no room.

Each function tells the outages among the errors of one driver, and says where its codes come from.
They are handed the drivers' own errors and import no driver.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ..lease.waiting import lock_refusal

TRANSIENT_HTTP = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP statuses of servers that are overloaded or not there."""


def _first(error: BaseException) -> Any:
    """The first argument, where most drivers put the code."""
    return error.args[0] if error.args else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _is_lost_session(state: object) -> bool:
    """Whether a SQLSTATE of PostgreSQL says that a session ended or found no place.

    From PostgreSQL's appendix "Error Codes": class 08 is the connection itself, 57P a server that
    shuts down or starts, 53300 too many connections.
    """
    return isinstance(state, str) and state.startswith(("08", "57P", "53300"))


def postgres(error: BaseException) -> bool:
    """Tells the errors of psycopg2's that have no code, or one that says so.

    It has no code where the connection itself broke or was never there.
    """
    code = getattr(error, "pgcode", None)
    return code is None or _is_lost_session(code)


def postgres_fields(error: BaseException) -> bool:
    """pg8000 and redshift_connector raise the server's message as a dict; ``C`` is its SQLSTATE."""
    fields = _first(error)
    return isinstance(fields, Mapping) and _is_lost_session(fields.get("C"))


def says(*beginnings: str) -> Callable[[BaseException], bool]:
    """Tells errors apart that have no code, by the words that the driver's source gives them."""
    return lambda error: str(_first(error)).startswith(beginnings)


_MYSQL_SHUTS_DOWN = 1053
_MYSQL_CODES = frozenset(
    {
        0,  # InterfaceError(0, ""): pymysql's connection is closed
        1040,  # too many connections
        1077,  # normal shutdown
        1079,  # shutdown complete
        *(1152, 1158, 1159, 1160, 1161, 1184),  # connection aborted; packets not read or written
        *(1203, 1226),  # a user has too many connections, or has used up an hourly limit
        1927,  # MariaDB: the connection was killed
        3168,  # the server is not available
        4031,  # MySQL 8: disconnected because of inactivity
        *(2002, 2003, 2005, 2006, 2012, 2013, 2055),  # client: no server, lost, gone away
    }
)
"""Codes of MySQL's ``mysqld_error.h`` and ``errmsg.h``; StarRocks speaks the same protocol."""


def mysql(error: BaseException) -> bool:
    """Tells them by the number that the server or pymysql itself gives."""
    code = _number(_first(error))
    if code == _MYSQL_SHUTS_DOWN:
        # StarRocks gives 1053 to a column that cannot be used. pymysql tells the SQLSTATE from
        # version 1.2 on: MySQL's is 08S01.
        return str(getattr(error, "sqlstate", None) or "08").startswith("08")
    return code in _MYSQL_CODES


_SNOWFLAKE_CODES = frozenset({250001, 250002, 250003, 250005, 251011, 251012, 4, 14})
"""``errorcode.py`` of version 4: no connection, closed, request failed, timeouts. Version 5 gives
its kinds ``IO`` and ``TIMEOUT`` as numbers (``_internal/error_kinds.py``)."""

_SNOWFLAKE_HTTP = 290000
"""``errorcode.py`` of version 4: the code of an HTTP failure is this plus the HTTP status."""


def snowflake(error: BaseException) -> bool:
    """Tells them by the driver's number, the SQLSTATE's class 08, or the HTTP status."""
    state = getattr(error, "sqlstate", None)
    return (
        _number(getattr(error, "errno", None)) in _SNOWFLAKE_CODES
        or (isinstance(state, str) and state.startswith("08"))
        or _number(getattr(error, "http_status", None)) in TRANSIENT_HTTP
    )


def snowflake_http(error: BaseException) -> bool:
    """Tells the HTTP failures that pass from those that do not."""
    code = _number(getattr(error, "errno", None))
    return code is not None and code - _SNOWFLAKE_HTTP in TRANSIENT_HTTP


_GOOGLE_REASONS = frozenset(
    {
        *("rateLimitExceeded", "backendError", "internalError", "badGateway"),
        *("jobRateLimitExceeded", "jobBackendError", "jobInternalError"),
    }
)
"""Those for which ``google/cloud/bigquery/retry.py`` tries again."""


def google(error: BaseException) -> bool:
    """Tells them by the reason in the answer, or by the HTTP status where there is none."""
    details = getattr(error, "errors", None) or ()
    reasons = [detail.get("reason") for detail in details if isinstance(detail, Mapping)]
    if reasons:
        return reasons[0] in _GOOGLE_REASONS
    return _number(getattr(error, "code", None)) in TRANSIENT_HTTP


def databricks_request(error: BaseException) -> bool:
    """Tells requests without an answer, or with one that passes, from those that were refused."""
    context = getattr(error, "context", None)
    status = context.get("http-code") if isinstance(context, Mapping) else None
    return status is None or _number(status) in TRANSIENT_HTTP


def databricks_kernel(error: BaseException) -> bool:
    """Tells them by the code that the driver's Rust core gives (``backend/kernel/_errors.py``)."""
    codes = ("Unavailable", "ResourceExhausted", "Timeout", "NetworkError")
    return getattr(error, "code", None) in codes


_TRINO_NAMES = frozenset(
    {
        *("SERVER_STARTING_UP", "SERVER_SHUTTING_DOWN", "NO_NODES_AVAILABLE", "REMOTE_HOST_GONE"),
        *("REMOTE_TASK_ERROR", "PAGE_TRANSPORT_ERROR", "PAGE_TRANSPORT_TIMEOUT"),
        *("TOO_MANY_REQUESTS_FAILED", "QUERY_QUEUE_FULL"),
    }
)
"""Names in Trino's ``StandardErrorCode.java`` for nodes that are gone and queues that are full."""


def trino(error: BaseException) -> bool:
    """Tells the errors of Trino's that come from its cluster and not from the query."""
    return getattr(error, "error_name", None) in _TRINO_NAMES


_SQL_SERVER_CODES = frozenset(
    {
        *(64, 233, 10053, 10054, 10060),  # the connection was closed, reset, timed out
        *(10928, 10929, 40501, 49918, 49919, 49920),  # Azure: limits, throttling
        *(40197, 40613, 4221, 615, 926),  # Azure: fails over, database or replica not available
        *(42108, 42109, 6005),  # pool paused or waking up; the server shuts down
    }
)
"""From Microsoft's list "Transient errors for Azure SQL Database", without 4060, which is a name
or a permission as often as not."""

_DB_LIB_CODES = frozenset({20002, 20003, 20004, 20006, 20008, 20009, 20013, 20017, 20047})
"""FreeTDS' ``sybdb.h``: connection failed, timed out, not read, not written, dead."""


def pymssql(error: BaseException) -> bool:
    """Tells them by the number of FreeTDS or of the server."""
    code = _first(error)
    if isinstance(code, tuple):  # DB-API errors have the number in a pair, or the pair unpacked
        code = next(iter(code), None)
    return _number(code) in _DB_LIB_CODES | _SQL_SERVER_CODES or code == "Connection is closed."


def pyodbc(error: BaseException) -> bool:
    """Tells them by the SQLSTATE, or by the server's own number.

    From ODBC's appendix A: class 08 is the connection, HYT00 and HYT01 are its timeouts.
    """
    state = str(_first(error))
    return state.startswith(("08", "HYT00", "HYT01")) or _odbc_native(error)


def _odbc_native(error: BaseException) -> bool:
    """Whether ODBC passes on a code of SQL Server's, which stands in brackets in its text only."""
    return any(int(code) in _SQL_SERVER_CODES for code in re.findall(r"\((\d{2,5})\)", str(error)))


_MSSQL_PYTHON_STATES = frozenset(
    {
        *("Client unable to establish connection", "Connection not open"),
        *("Server rejected the connection", "Connection failure during transaction"),
        *("Communication link failure", "Timeout expired", "Connection timeout expired"),
    }
)
"""The driver replaces SQLSTATEs 08… and HYT… by these (its ``exceptions.py``) and drops them."""


def mssql_python(error: BaseException) -> bool:
    """Tells them by the words for the SQLSTATE, or by the server's own number."""
    return getattr(error, "driver_error", None) in _MSSQL_PYTHON_STATES or _odbc_native(error)


_CLICKHOUSE_CODES = frozenset({202, 203, 209, 210, 242, 279, 745, 999})
"""``ErrorCodes.cpp``: too many queries, no free connection, network, read-only for want of its
keeper, all tries to connect failed, overloaded, keeper."""


def clickhouse(error: BaseException) -> bool:
    """Tells them by the server's code, which drivers before 1.0 have in their text alone."""
    text = str(_first(error))
    code = _number(getattr(error, "code", None))
    if code is None and (match := re.search(r"exception, code: (\d+)", text)):
        code = int(match.group(1))
    status = re.search(r"received HTTP status (\d+)", text)
    return code in _CLICKHOUSE_CODES or bool(status and int(status.group(1)) in TRANSIENT_HTTP)


_AWS_CODES = frozenset(
    {
        *("Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException"),
        *("RequestLimitExceeded", "SlowDown", "RequestTimeout", "RequestTimeoutException"),
        *("ServiceUnavailable", "InternalServerException", "InternalFailure", "InternalError"),
    }
)
"""``botocore/retries/standard.py`` tries again for these, and Athena's API adds two."""


def aws(error: BaseException) -> bool:
    """Tells the answers of a service that is busy from those to a bad request."""
    response = getattr(error, "response", None)
    answer = response.get("Error") if isinstance(response, Mapping) else None
    return isinstance(answer, Mapping) and answer.get("Code") in _AWS_CODES


def db2(error: BaseException) -> bool:
    """Tells them by the SQLSTATE, which the driver's ``_get_exception`` finds in the text as well.

    Class 08 is the connection, 40003 one that was lost in a statement, 57030 one too many.
    """
    return str(error).partition("SQLSTATE=")[2].startswith(("08", "40003", "57030"))


def duckdb_io(error: BaseException) -> bool:
    """Tells a file that another process has locked, and a web server that does not answer.

    A missing file is an ``IOException`` too, and a lock has no code of its own.
    """
    status = _number(getattr(error, "status_code", None))
    return status in TRANSIENT_HTTP or lock_refusal(str(error)) is not None


def urllib3_retries(error: BaseException) -> bool:
    """Tells retries that gave up on a server from those on a certificate, which stays as it is."""
    return type(getattr(error, "reason", None)).__name__ != "SSLError"


def grpc(error: BaseException) -> bool:
    """Tells them by gRPC's status code."""
    code = getattr(error, "code", None)
    status = code() if callable(code) else None
    return getattr(status, "name", None) in ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
