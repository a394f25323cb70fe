"""Errors of every driver that SQLMesh connects with: which are outages, as one table.

The classes of drivers that are not installed here are built with the names, modules and attributes
that they have in the drivers' sources: PyMySQL 1.2, snowflake-connector-python 4.8 and 5.2,
google-api-core 2.44, databricks-sql-connector 4.9, redshift-connector 2.2, pg8000 1.31,
trino 0.340, pymssql 2.4, pyodbc 5.5, mssql-python 1.16, clickhouse-connect 0.15 and 1.12,
pyathena 4.2, botocore 1.44, ibm_db 3.3, py4j 0.10, aiohttp 3.14.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

import duckdb
import psycopg2
import psycopg2.errors
import pytest
import requests
import urllib3.exceptions

from dagster_sqlmesh_automation.assets.project.outages import RULES, is_outage

pymysql_errors = pytest.importorskip("pymysql.err")


def driver_error(path: str, *args: Any, bases: Sequence[str] = (), **attributes: Any) -> Exception:
    """An error of a driver that is not installed.

    Args:
        path: Module and class, as in ``trino.exceptions.HttpError``.
        args: Its arguments.
        bases: Names of the classes in the same module that it derives from, nearest first.
        attributes: What else it has.
    """
    module, _, name = path.rpartition(".")
    kind: type[Exception] = Exception
    for each in [*reversed(bases), name]:
        kind = type(each, (kind,), {"__module__": module})
    error = kind(*args)
    for attribute, value in attributes.items():
        setattr(error, attribute, value)
    return error


def postgres(code: str) -> Exception:
    """An error as psycopg2 raises it for a SQLSTATE."""
    error = psycopg2.errors.lookup(code)("from the server")
    error.__setstate__({"pgcode": code})
    return error


def mysql(code: int, *, state: str | None = None, kind: str = "OperationalError") -> Exception:
    """An error as PyMySQL raises it; from version 1.2 on with a SQLSTATE."""
    error: Exception = getattr(pymysql_errors, kind)(code, "from the server")
    error.sqlstate = state  # type: ignore[attr-defined]
    return error


def snowflake(kind: str, errno: int, **attributes: Any) -> Exception:
    path = f"snowflake.connector.errors.{kind}"
    bases = (
        ["DatabaseError", "Error"] if kind not in {"HttpError", "BadGatewayError"} else ["Error"]
    )
    return driver_error(path, "…", bases=bases, errno=errno, **{"sqlstate": None, **attributes})


def google(kind: str, status: HTTPStatus, reason: str | None = None) -> Exception:
    path = f"google.api_core.exceptions.{kind}"
    bases = ["ClientError", "GoogleAPICallError", "GoogleAPIError"]
    errors = [{"reason": reason}] if reason else []
    return driver_error(path, "…", bases=bases, code=status, errors=errors)


def databricks(kind: str, *bases: str, **attributes: Any) -> Exception:
    every = [*bases, "OperationalError", "DatabaseError", "Error"]
    return driver_error(f"databricks.sql.exc.{kind}", "…", bases=every, **attributes)


def redshift(kind: str, *args: Any) -> Exception:
    return driver_error(f"redshift_connector.error.{kind}", *args, bases=["DatabaseError", "Error"])


def trino(kind: str, name: str) -> Exception:
    path, bases = f"trino.exceptions.{kind}", ["TrinoQueryError", "Error"]
    return driver_error(path, {}, bases=bases, error_name=name)


def pymssql(kind: str, *args: Any) -> Exception:
    return driver_error(f"pymssql.exceptions.{kind}", *args, bases=["DatabaseError", "Error"])


def pyodbc(kind: str, state: str, text: str = "") -> Exception:
    driver = f"[{state}] [Microsoft][ODBC Driver 18 for SQL Server]{text}"
    return driver_error(f"pyodbc.{kind}", state, driver, bases=["DatabaseError", "Error"])


def mssql_python(kind: str, driver: str, text: str = "") -> Exception:
    path = f"mssql_python.exceptions.{kind}"
    message = f"Driver Error: {driver}; DDBC Error: {text}"
    return driver_error(path, message, bases=["DatabaseError", "Error"], driver_error=driver)


def clickhouse(text: str, code: int | None = None, kind: str = "DatabaseError") -> Exception:
    path = f"clickhouse_connect.driver.exceptions.{kind}"
    return driver_error(path, text, bases=["DatabaseError", "Error"], code=code)


def aws(code: str) -> Exception:
    response = {"Error": {"Code": code, "Message": "…"}}
    return driver_error("botocore.exceptions.ClientError", "…", response=response)


def db2(kind: str, text: str) -> Exception:
    return driver_error(f"ibm_db_dbi.{kind}", text, bases=["DatabaseError", "Error"])


def grpc(status: str) -> Exception:
    answer = SimpleNamespace(name=status)
    path, base = "grpc._channel._InactiveRpcError", "RpcError"
    return driver_error(path, bases=[base], code=lambda: answer)


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def during(error: Exception, context: BaseException) -> Exception:
    error.__context__ = context
    return error


def of_duckdb(statement: str) -> Exception:
    """What a statement makes DuckDB raise."""
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE one (x INT PRIMARY KEY); INSERT INTO one VALUES (1)")
        with pytest.raises(duckdb.Error) as raised:
            connection.execute(statement)
    return raised.value


def http_answer(status: int) -> Exception:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError("…", response=response)


CERTIFICATE = urllib3.exceptions.SSLError("certificate verify failed")
LOCKED = 'IO Error: Could not set lock on file "/srv/state.duckdb": Conflicting lock is held'
GOOGLE_DBAPI = "google.cloud.bigquery.dbapi.exceptions.DatabaseError"
ATHENA = "pyathena.error.OperationalError"

OUTAGES: dict[str, Exception] = {
    "a socket: connection refused": ConnectionRefusedError(111, "Connection refused"),
    "a socket: connection reset": ConnectionResetError(104, "Connection reset by peer"),
    "a socket: no such host": driver_error("socket.gaierror", -2, "Name or service not known"),
    "requests: connection": requests.ConnectionError("…"),
    "requests: timeout": requests.ReadTimeout("…"),
    "urllib3: broken in the middle": urllib3.exceptions.ProtocolError("Connection broken"),
    "urllib3: gave up": urllib3.exceptions.MaxRetryError(None, "/", None),  # type: ignore[arg-type]
    "PostgreSQL: no server": psycopg2.OperationalError("could not connect to server"),
    "PostgreSQL: connection already closed": psycopg2.InterfaceError("connection already closed"),
    "PostgreSQL: shuts down": postgres("57P01"),
    "PostgreSQL: starts up": postgres("57P03"),
    "PostgreSQL: connection failure": postgres("08006"),
    "PostgreSQL: too many connections": postgres("53300"),
    "RisingWave: closed the connection": psycopg2.OperationalError("server closed the connection"),
    "Cloud SQL: network": caused(
        driver_error("pg8000.exceptions.InterfaceError", "network error", bases=["Error"]),
        BrokenPipeError(32, "Broken pipe"),
    ),
    "Cloud SQL: shuts down": driver_error(
        "pg8000.exceptions.DatabaseError", {"S": "FATAL", "C": "57P01"}, bases=["Error"]
    ),
    "Cloud SQL: its API does not answer": driver_error(
        "aiohttp.client_exceptions.ServerDisconnectedError",
        bases=["ServerConnectionError", "ClientConnectionError", "ClientError"],
    ),
    "Cloud SQL: cools down": driver_error(
        "google.cloud.sql.connector.exceptions.ResourceExhaustedError",
        bases=["CloudSQLConnectionError"],
    ),
    "MySQL: too many connections": mysql(1040, state="08004"),
    "MySQL: shuts down": mysql(1053, state="08S01"),
    "MySQL: shuts down, by a driver without SQLSTATE": mysql(1053),
    "MySQL: no server": mysql(2003),
    "MySQL: gone away": mysql(2006),
    "MySQL: lost during a query": mysql(2013),
    "MySQL: the driver's connection is closed": mysql(0, kind="InterfaceError"),
    "MySQL: an hourly limit": mysql(1226, state="42000"),
    "MariaDB: killed connection": mysql(1927, state="70100"),
    "StarRocks: lost during a query": mysql(2013),
    "Redshift: closed": redshift("InterfaceError", "connection is closed"),
    "Redshift: no server": redshift("InterfaceError", "communication error", OSError()),
    "Redshift: broken pipe": redshift("InterfaceError", "BrokenPipe: server socket closed. Please"),
    "Redshift: timed out": redshift("OperationalError", "connection time out", TimeoutError()),
    "Redshift: shuts down": redshift("ProgrammingError", {"S": "FATAL", "C": "57P01"}),
    "SQL Server, pymssql: no server": pymssql("OperationalError", (20009, b"Unable to connect")),
    "SQL Server, pymssql: dead in a query": pymssql(
        "OperationalError", 20047, b"DBPROCESS is dead"
    ),
    "SQL Server, pymssql: closed": pymssql("InterfaceError", "Connection is closed."),
    "Azure SQL, pymssql: not available": pymssql("OperationalError", (40613, b"Database 'x'")),
    "SQL Server, pyodbc: link failure": pyodbc("OperationalError", "08S01"),
    "SQL Server, pyodbc: login timeout": pyodbc("OperationalError", "HYT00"),
    "Azure SQL, pyodbc: throttled": pyodbc(
        "ProgrammingError", "42000", "[SQL Server]The service is busy. (40501) (SQLExecDirectW)"
    ),
    "Fabric, pyodbc: no connection": pyodbc("OperationalError", "08001"),
    "SQL Server, mssql-python: link failure": mssql_python(
        "OperationalError", "Communication link failure"
    ),
    "Azure SQL, mssql-python: not available": mssql_python(
        "OperationalError", "General error", "Database 'x' is not available. (40613)"
    ),
    "Snowflake: no connection": snowflake("OperationalError", 250001, sqlstate="08001"),
    "Snowflake: request failed": snowflake("OperationalError", 250003),
    "Snowflake: bad gateway": snowflake("BadGatewayError", 290502),
    "Snowflake: throttled": snowflake("HttpError", 290429),
    "Snowflake 5: I/O": snowflake("OperationalError", 4),
    "Snowflake 5: HTTP 503": snowflake("OperationalError", -1, http_status=503),
    "BigQuery: unavailable": google("ServiceUnavailable", HTTPStatus.SERVICE_UNAVAILABLE),
    "BigQuery: throttled": google("Forbidden", HTTPStatus.FORBIDDEN, "rateLimitExceeded"),
    "BigQuery: the job's backend": google("BadRequest", HTTPStatus.BAD_REQUEST, "jobBackendError"),
    "BigQuery: through its DB-API": during(
        driver_error(GOOGLE_DBAPI, "…", bases=["Error"]),
        google("InternalServerError", HTTPStatus.INTERNAL_SERVER_ERROR),
    ),
    "BigQuery: gave up": driver_error(
        "google.api_core.exceptions.RetryError", bases=["GoogleAPIError"]
    ),
    "BigQuery: no token": driver_error(
        "google.auth.exceptions.TransportError", bases=["GoogleAuthError"]
    ),
    "Databricks: no answer": databricks("RequestError", context={}),
    "Databricks: 503": databricks("RequestError", context={"http-code": 503}),
    "Databricks: retries took too long": databricks("MaxRetryDurationError", "RequestError"),
    "Databricks: network": databricks("OperationalError", code="NetworkError"),
    "Databricks: its client's HTTP": urllib3.exceptions.NewConnectionError(None, "refused"),  # type: ignore[arg-type]
    "Spark: its JVM is gone": driver_error("py4j.protocol.Py4JNetworkError", bases=["Py4JError"]),
    "Spark Connect: unavailable": grpc("UNAVAILABLE"),
    "Trino: connection": driver_error(
        "trino.exceptions.TrinoConnectionError", bases=["OperationalError", "DatabaseError"]
    ),
    "Trino: bad gateway": during(
        driver_error("trino.exceptions.OperationalError", "error 502: bad gateway"),
        driver_error("trino.exceptions.Http502Error", bases=["HttpError"]),
    ),
    "Trino: starts up": trino("TrinoQueryError", "SERVER_STARTING_UP"),
    "Trino: a worker is gone": trino("TrinoExternalError", "REMOTE_HOST_GONE"),
    "Trino: the queue is full": trino("TrinoQueryError", "QUERY_QUEUE_FULL"),
    "ClickHouse: no server": caused(
        clickhouse("Error … executing HTTP request attempt 1", kind="OperationalError"),
        urllib3.exceptions.ProtocolError("Connection aborted."),
    ),
    "ClickHouse 0.15: too many queries": clickhouse(
        "Received ClickHouse exception, code: 202, server response: Code: 202. DB::Exception"
    ),
    "ClickHouse 0.15: a proxy's 503": clickhouse(
        "HTTP driver received HTTP status 503 (for url …)"
    ),
    "ClickHouse 1: network": clickhouse("Code: 210. DB::NetException", 210),
    "Athena: throttled": caused(
        driver_error(ATHENA, "…", bases=["DatabaseError", "Error"]), aws("ThrottlingException")
    ),
    "Athena: no endpoint": caused(
        driver_error(ATHENA, "…", bases=["DatabaseError", "Error"]),
        driver_error(
            "botocore.exceptions.EndpointConnectionError",
            bases=["ConnectionError", "BotoCoreError"],
        ),
    ),
    "Db2: communication": db2("OperationalError", "SQL30081N … SQLSTATE=08001 SQLCODE=-30081"),
    "DuckDB: locked": duckdb.IOException(LOCKED),
    "MotherDuck: its connection is gone": duckdb.ConnectionException("Connection Error: closed"),
    "the first of two in a chain": during(
        mysql(0, kind="InterfaceError"), mysql(1064, kind="ProgrammingError")
    ),
    "the cause of SQLMesh's error": caused(
        RuntimeError("Execution failed for node …"), mysql(2013)
    ),
    "one of a group": ExceptionGroup("two", [ValueError("…"), mysql(2013)]),
}

ORDINARY: dict[str, Exception] = {
    "Python: division by zero": ZeroDivisionError("division by zero"),
    "Python: no such file": FileNotFoundError(2, "No such file or directory"),
    "requests: not found": http_answer(404),
    "requests: certificate": during(
        requests.exceptions.SSLError("…"),
        urllib3.exceptions.MaxRetryError(None, "/", CERTIFICATE),  # type: ignore[arg-type]
    ),
    "PostgreSQL: syntax": postgres("42601"),
    "PostgreSQL: division by zero": postgres("22012"),
    "PostgreSQL: unique key": postgres("23505"),
    "PostgreSQL: permission": postgres("42501"),
    "PostgreSQL: statement timeout": postgres("57014"),
    "PostgreSQL: disk full": postgres("53100"),
    "Cloud SQL: syntax": driver_error(
        "pg8000.exceptions.DatabaseError", {"S": "ERROR", "C": "42601"}, bases=["Error"]
    ),
    "Cloud SQL: a parameter": driver_error(
        "pg8000.exceptions.InterfaceError", "The 'user' connection parameter cannot be None"
    ),
    "MySQL: syntax": mysql(1064, kind="ProgrammingError", state="42000"),
    "MySQL: division by zero": mysql(1365, state="22012"),
    "MySQL: duplicate key": mysql(1062, kind="IntegrityError", state="23000"),
    "MySQL: permission": mysql(1142, state="42000"),
    "MySQL: deadlock": mysql(1213, state="40001"),
    "MySQL: a text for a code": pymysql_errors.ProgrammingError("Cursor closed"),
    "StarRocks: a column that cannot be used": mysql(1053, state="42000"),
    "Redshift: syntax": redshift("ProgrammingError", {"S": "ERROR", "C": "42601"}),
    "Redshift: unique key": redshift("IntegrityError", {"S": "ERROR", "C": "23505"}),
    "Redshift: permission": redshift("ProgrammingError", {"S": "ERROR", "C": "42501"}),
    "Redshift: a wrong password": redshift("InterfaceError", {"S": "FATAL", "C": "28000"}),
    "SQL Server, pymssql: syntax": pymssql("ProgrammingError", (102, b"Incorrect syntax")),
    "SQL Server, pymssql: division by zero": pymssql("OperationalError", 8134, b"Divide by zero"),
    "SQL Server, pymssql: login": pymssql("OperationalError", (18456, b"Login failed")),
    "SQL Server, pyodbc: syntax": pyodbc("ProgrammingError", "42000", "[SQL Server]… (102)"),
    "SQL Server, pyodbc: key": pyodbc("IntegrityError", "23000", "[SQL Server]… (2627)"),
    "SQL Server, pyodbc: login": pyodbc("InterfaceError", "28000", "[SQL Server]… (18456)"),
    "SQL Server, mssql-python: syntax": mssql_python("ProgrammingError", "Syntax error or access"),
    "Snowflake: syntax": snowflake("ProgrammingError", 1003, sqlstate="42000"),
    "Snowflake: division by zero": snowflake("ProgrammingError", 100051, sqlstate="22012"),
    "Snowflake: permission": snowflake("ProgrammingError", 3001, sqlstate="42501"),
    "Snowflake: a wrong password": snowflake("DatabaseError", 250001, sqlstate="08001"),
    "Snowflake: certificate": driver_error(
        "snowflake.connector.errors.NonRetryableTlsError",
        bases=["OperationalError", "DatabaseError", "Error"],
        errno=250003,
    ),
    "Snowflake: forbidden": snowflake("HttpError", 290403),
    "BigQuery: syntax": google("BadRequest", HTTPStatus.BAD_REQUEST, "invalidQuery"),
    "BigQuery: permission": google("Forbidden", HTTPStatus.FORBIDDEN, "accessDenied"),
    "BigQuery: a day's quota": google("Forbidden", HTTPStatus.FORBIDDEN, "quotaExceeded"),
    "BigQuery: no such table": google("NotFound", HTTPStatus.NOT_FOUND),
    "Databricks: syntax": driver_error(
        "databricks.sql.exc.ServerOperationError", bases=["DatabaseError", "Error"], context={}
    ),
    "Databricks: forbidden": databricks("RequestError", context={"http-code": 403}),
    "Databricks: not implemented": databricks("NonRecoverableNetworkError", "RequestError"),
    "Spark: a Java error": driver_error("py4j.protocol.Py4JJavaError", bases=["Py4JError"]),
    "Spark: analysis": driver_error("pyspark.errors.exceptions.captured.AnalysisException"),
    "Spark Connect: a bad plan": grpc("INVALID_ARGUMENT"),
    "Trino: syntax": trino("TrinoUserError", "SYNTAX_ERROR"),
    "Trino: division by zero": trino("TrinoUserError", "DIVISION_BY_ZERO"),
    "Trino: permission": trino("TrinoUserError", "PERMISSION_DENIED"),
    "Trino: unauthorized": driver_error("trino.exceptions.HttpError", "error 401"),
    "ClickHouse: syntax": clickhouse("Code: 62. DB::Exception: Syntax error", 62),
    "ClickHouse 0.15: division by zero": clickhouse("Received ClickHouse exception, code: 153"),
    "Athena: syntax": caused(
        driver_error(ATHENA, "…", bases=["DatabaseError", "Error"]), aws("InvalidRequestException")
    ),
    "Athena: permission": aws("AccessDeniedException"),
    "Athena: a query failed": driver_error(ATHENA, "DIVISION_BY_ZERO: Division by zero"),
    "Db2: syntax": db2("ProgrammingError", "SQL0104N … SQLSTATE=42601 SQLCODE=-104"),
    "Db2: key": db2("IntegrityError", "SQL0803N … SQLSTATE=23505 SQLCODE=-803"),
    "DuckDB: syntax": of_duckdb("SELEC 1"),
    "DuckDB: conversion": of_duckdb("SELECT CAST('x' AS INT)"),
    "DuckDB: key": of_duckdb("INSERT INTO one VALUES (1)"),
    "DuckDB: a missing file": of_duckdb("SELECT * FROM read_csv('/no/such.csv')"),
    "a class of that name elsewhere": driver_error("shop.errors.OperationalError", 2013),
}


@pytest.mark.parametrize("error", OUTAGES.values(), ids=OUTAGES)
def test_an_error_is_an_outage(error: Exception) -> None:
    assert is_outage(error)


@pytest.mark.parametrize("error", ORDINARY.values(), ids=ORDINARY)
def test_an_error_is_the_models_own(error: Exception) -> None:
    assert not is_outage(error)


def test_an_error_that_hides_another_speaks_for_itself() -> None:
    error = during(ValueError("told otherwise"), mysql(2013))
    assert is_outage(error)
    error.__suppress_context__ = True  # as "raise … from None" does
    assert not is_outage(error)


def test_a_chain_that_goes_in_circles_ends() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert not is_outage(first)


def links(error: BaseException) -> list[BaseException]:
    members = [error.exceptions[-1]] if isinstance(error, ExceptionGroup) else []
    origins = [error.__cause__, error.__context__, *members]
    return [error, *(link for origin in origins if origin for link in links(origin))]


def test_every_rule_has_a_row() -> None:
    errors = [link for error in OUTAGES.values() for link in links(error)]
    without = [rule for rule in RULES if not any(rule.covers(error) for error in errors)]
    # Spark Connect's class comes with a package of 300 MB; DuckDB's old module is not this one's.
    assert {rule.module for rule in without} == {"pyspark", "duckdb"}


def test_an_error_without_the_attributes_that_a_rule_reads_is_nobodys_fault() -> None:
    for rule in RULES:
        for name in rule.classes:
            assert is_outage(driver_error(f"{rule.module}.{name}")) in (True, False)
