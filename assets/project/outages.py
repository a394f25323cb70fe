"""Which errors of database drivers are outages: the server was out of reach, or had no room.

An outage says nothing about the model, so the model is asked for again without an attempt being
counted. One table covers the drivers of every engine in SQLMesh's ``core/config/connection.py``.
An error is recognised by the name and module of its class and by the driver's or the server's own
code, so that no driver is imported here. What no rule recognises is the model's own failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from . import driver_codes as codes

When = Callable[[Any], bool]


def _always(error: BaseException) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Rule:
    """Errors of one driver that are outages.

    Attributes:
        module: The module that defines the class, or a package above it.
        classes: Names of the classes; classes that derive from them count.
        when: Tells the outages among them by their code. Without it, all of them are.
        excluded: Names of derived classes that are no outage.
    """

    module: str
    classes: frozenset[str]
    when: When = _always
    excluded: frozenset[str] = frozenset()

    def covers(self, error: BaseException) -> bool:
        """Whether an error is one of these outages."""
        ours = {
            kind.__name__
            for kind in type(error).__mro__
            if kind.__module__ == self.module or kind.__module__.startswith(f"{self.module}.")
        }
        return bool(ours & self.classes) and not ours & self.excluded and self.when(error)


def is_outage(error: BaseException) -> bool:
    """Whether an error, or one that it comes from, says that a server was out of reach."""
    return any(rule.covers(link) for link in chain(error) for rule in RULES)


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it comes from, as a traceback shows it; groups with all their members."""
    waiting, visited = [error], set[int]()
    while waiting:
        link = waiting.pop()
        if id(link) in visited:
            continue
        visited.add(id(link))
        yield link
        if isinstance(link, BaseExceptionGroup):
            waiting.extend(link.exceptions)
        context = None if link.__suppress_context__ else link.__context__
        if (origin := link.__cause__ or context) is not None:
            waiting.append(origin)


_PGWIRE_CLOSED = codes.says("network error", "communication error", "connection is closed")
_REDSHIFT_CLOSED = codes.says("communication error", "connection is closed", "BrokenPipe")


def _rule(module: str, classes: str, when: When = _always, excluded: str = "") -> Rule:
    return Rule(module, frozenset(classes.split()), when, frozenset(excluded.split()))


RULES: tuple[Rule, ...] = (
    # Sockets and HTTP, under drivers that pass such errors on. A model in Python may raise them
    # as well: what it reads is out of reach then, which is the same to it.
    _rule("builtins", "ConnectionError"),
    _rule("socket", "gaierror"),
    _rule("requests", "ConnectionError Timeout ChunkedEncodingError", excluded="SSLError"),
    _rule("urllib3", "TimeoutError ProtocolError"),
    _rule("urllib3", "MaxRetryError", codes.urllib3_retries),
    _rule("aiohttp", "ClientConnectionError", excluded="ClientSSLError"),
    _rule("grpc", "RpcError", codes.grpc),
    # PostgreSQL, RisingWave, and Cloud SQL, which is reached through pg8000.
    _rule("psycopg2", "OperationalError InterfaceError", codes.postgres),
    _rule("pg8000", "InterfaceError", _PGWIRE_CLOSED),
    _rule("pg8000", "DatabaseError", codes.postgres_fields),
    _rule("google.cloud.sql.connector", "CloudSQLConnectionError"),
    # MySQL, MariaDB, StarRocks.
    _rule("pymysql", "Error", codes.mysql),
    _rule("redshift_connector", "OperationalError"),
    _rule("redshift_connector", "InterfaceError", _REDSHIFT_CLOSED),
    _rule("redshift_connector", "ProgrammingError", codes.postgres_fields),
    # SQL Server, Azure SQL and Fabric, through any of three drivers.
    _rule("pymssql", "Error", codes.pymssql),
    _rule("pyodbc", "Error", codes.pyodbc),
    _rule("mssql_python", "Error", codes.mssql_python),
    # A wrong password is a DatabaseError with the code of a connection, so these classes alone.
    _rule(
        "snowflake.connector",
        "OperationalError InterfaceError",
        codes.snowflake,
        excluded="NonRetryableTlsError RevocationCheckError",
    ),
    _rule("snowflake.connector", "HttpError", codes.snowflake_http),
    _rule(
        "snowflake.connector",
        "RequestTimeoutError TooManyRequests InternalServerError BadGatewayError "
        "ServiceUnavailableError GatewayTimeoutError OtherHTTPRetryableError "
        "RequestExceedMaxRetryError",
    ),
    # BigQuery.
    _rule("google.api_core", "GoogleAPICallError", codes.google),
    _rule("google.api_core", "RetryError"),
    _rule("google.auth", "TransportError"),
    _rule(
        "databricks.sql",
        "RequestError",
        codes.databricks_request,
        excluded="NonRecoverableNetworkError",
    ),
    _rule("databricks.sql", "Error", codes.databricks_kernel),
    # Spark, and Databricks through Databricks Connect.
    _rule("py4j", "Py4JNetworkError"),
    _rule("pyspark", "RetriesExceeded"),
    _rule("trino", "TrinoConnectionError Http502Error Http503Error Http504Error"),
    _rule("trino", "TrinoQueryError", codes.trino),
    _rule("clickhouse_connect", "DatabaseError", codes.clickhouse),
    # Athena: the errors of pyathena come from those of botocore.
    _rule("botocore", "ConnectionError HTTPClientError", excluded="SSLError"),
    _rule("botocore", "ClientError", codes.aws),
    # Db2.
    _rule("ibm_db_dbi", "Error", codes.db2),
    # DuckDB and MotherDuck, whose classes are in another module before version 1.4.
    _rule("_duckdb", "IOException", codes.duckdb_io),
    _rule("_duckdb", "ConnectionException"),
    _rule("duckdb", "IOException", codes.duckdb_io),
    _rule("duckdb", "ConnectionException"),
)
