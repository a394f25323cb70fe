"""What of texts and errors is held back: secrets that a project holds, and SQL."""

from __future__ import annotations

import traceback
from pathlib import Path

import dagster as dg
import pytest

from dagster_sqlmesh_automation.assets.project.secrets import Secrets
from dagster_sqlmesh_automation.assets.project.withholding import Withholding, without_sql
from dagster_sqlmesh_automation.config.errors import SettingsError
from dagster_sqlmesh_automation.config.redaction import masked, redacted
from dagster_sqlmesh_automation.config.settings import AutomationSettings

TEXTS = {
    "a URL": ("at postgresql://u:p@ss/w@h:5432/d", "at postgresql://u:***@h:5432/d"),
    "a URL of an example": ("pg://user:password@host/db", "pg://user:password@host/db"),
    "a URL without a password": ("http://localhost:8080/x, a@b", "http://localhost:8080/x, a@b"),
    "a connection string": ("dbname=x password=abc host=h", "dbname=x password=*** host=h"),
    "a quoted one": ("password='a b' host=h", "password=*** host=h"),
    "a token in a URL": ("md:?motherduck_token=abc&x=1", "md:?motherduck_token=***&x=1"),
    "a mapping": ("{'password': 'abc', 'n': 3}", "{'password': ***, 'n': 3}"),
    "a list in JSON": ('{"api_key": ["a", "b"]}', '{"api_key": ***}'),
    "a line of YAML": ("line 4:\n  password: [abc\n  ^", "line 4:\n  password: ***\n  ^"),
    "pydantic's input": (
        "x [type=list_type, input_value={'a': 'b...c'}, input_type=dict]",
        "x [type=list_type, input_type=dict]",
    ),
    "a field that is named": (
        "Invalid field 'password':\n    Input should",
        "Invalid field 'password':\n    Input should",
    ),
    "what a server says": ("password authentication failed", "password authentication failed"),
    "what a parser says": ("Unexpected token: foo", "Unexpected token: foo"),
    "a key of a table": ("primary_key=id, unique_key=id", "primary_key=id, unique_key=id"),
}


@pytest.mark.parametrize(("text", "shown"), TEXTS.values(), ids=TEXTS)
def test_secrets_are_known_by_their_form(text: str, shown: str) -> None:
    assert redacted(text) == shown


def test_what_stands_under_the_name_of_a_secret_is_masked() -> None:
    value = {"a": [{"password": ["x"], "user": "u"}], "token": 5}
    assert masked(value) == {"a": [{"password": "***", "user": "u"}], "token": "***"}


CONFIG = """\
gateways:
  main:
    connection: {type: postgres, host: db.example.com, user: reader, password: abc123, port: 5432}
    state_connection:
      type: postgres
      user: dagster
      password: "{{ env_var('STATE_LOGIN', 'fallback-word') }}"
      database: dagster
  other:
    connection:
      type: bigquery
      keyfile_json:
        private_key: "-----BEGIN"
      api_token:
        - first-token
        - second-token   # rotated
variables: {region: "{{ env_var('REGION') }}", root: "{{ env_var('ROOT_FOLDER') }}"}
notification_url: https://bot:hook-word@chat.example.com
"""


@pytest.mark.parametrize("broken", ["", "x: [\n"], ids=["YAML", "no YAML"])
def test_the_values_of_secrets_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG + broken)
    (tmp_path / ".env").write_text("export SMTP_PASSWORD='mail word'\nOTHER=1\n")
    for name, value in {
        "STATE_LOGIN": "stateword", "REGION": "eu-north-7", "ROOT_FOLDER": "/srv/data",
        "UNRELATED": "plainword", "GITHUB_TOKEN": "ghp_word",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    secrets = Secrets([tmp_path])
    hidden = ("abc123", "fallback-word", "-----BEGIN", "first-token", "second-token", "hook-word")
    for word in (*hidden, "mail word"):
        assert secrets.redact(f"it says {word}!") == "it says ***!", word
    for word, name in {"stateword": "STATE_LOGIN", "ghp_word": "GITHUB_TOKEN"}.items():
        assert secrets.redact(f"it says {word}!") == f"it says ${name}!"
        assert secrets.redact_secrets(f"it says {word}!") == f"it says ${name}!"
    # What a project names and is no secret stays in SQL.
    assert secrets.redact("in eu-north-7") == "in $REGION"
    assert secrets.redact_secrets("in eu-north-7") == "in eu-north-7"
    for word in ("/srv/data/x.sql", "plainword", "reader", "db.example.com", "xabc1234", "rotated"):
        assert secrets.redact(f"it says {word}!") == f"it says {word}!"


def test_a_password_that_is_public_elsewhere_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("a: {user: dagster, password: dagster, token: xyz}\n")
    assert Secrets([tmp_path]).redact("dagster.orders xyz") == "dagster.orders ***"


def test_the_configuration_in_python_is_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(
        "import os\nPASSWORD = 'abc-123'\nc = C(password=os.environ['DB_LOGIN'], token=get_it(1)\n"
    )
    shown = Secrets([tmp_path]).redact("abc-123 get_it(1) DB_LOGIN")
    assert shown == "*** get_it(1) DB_LOGIN"


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert Secrets([tmp_path / "nosuch"]).redact("anything") == "anything"


SQL = {
    "one line": ("ParserError: syntax error", "ParserError: syntax error"),
    "DuckDB": (
        'BinderException: Referenced column "x" not found\n\nLINE 1: SELECT x FROM t\n   ^',
        'BinderException: Referenced column "x" not found …',
    ),
    "a statement on the first line": ("failed: CREATE TABLE a.b AS SELECT 1", "failed: …"),
    "a query with names": ("failed: with a as (select 1) select 2", "failed: …"),
    "a literal": (
        "Could not convert string 'abc' to INT32",
        "Could not convert string '…' to INT32",
    ),
    "SQLAlchemy": ("(x.Error) no column\n[SQL: SELECT 1]", "(x.Error) no column …"),
    "Python": (
        "\nFile '/m.py', line 3, in f\n  q = 'SELECT 1'\nValueError: no access",
        "File '…', line 3, in f ValueError: no access …",
    ),
    "words that are no SQL": ("could not select a database", "could not …"),
}


@pytest.mark.parametrize(("text", "shown"), SQL.values(), ids=SQL)
def test_sql_is_left_out_of_what_databases_say(text: str, shown: str) -> None:
    assert without_sql(text) == shown


@pytest.mark.parametrize("characters", [0, 5000])
def test_an_error_is_a_cause_only_if_all_of_it_may_be_shown(
    tmp_path: Path, characters: int
) -> None:
    (tmp_path / "config.yaml").write_text("password: abc-123\n")
    settings = AutomationSettings(project=tmp_path, description_sql_characters=characters)
    withholding = Withholding(settings)

    def raised(error: Exception, cause: Exception | None = None) -> Exception:
        try:
            raise error from cause
        except Exception as caught:  # noqa: BLE001 - to give it a traceback
            return caught

    harmless = raised(KeyError("x"), ValueError("y"))
    assert withholding.cause(harmless) is harmless
    assert withholding.cause(raised(KeyError("x"), ValueError("abc-123"))) is None
    assert withholding.story(raised(OSError("x"), ValueError("abc-123"))) == "x: ***"
    of_database = raised(KeyError("x"), type("DatabaseError", (Exception,), {})("no column"))
    assert withholding.cause(of_database) is (of_database if characters else None)


@pytest.mark.parametrize("name", ["timezone", "environment", "cron_map"])
def test_a_setting_that_is_read_from_a_secret_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "hunter-481516")
    with pytest.raises(SettingsError) as refused:
        AutomationSettings(**{"project": tmp_path, name: dg.EnvVar("WAREHOUSE_PASSWORD")})
    assert "dg.EnvVar('WAREHOUSE_PASSWORD')" in str(refused.value)
    assert "481516" not in "".join(traceback.format_exception(refused.value))
