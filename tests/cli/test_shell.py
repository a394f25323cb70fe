"""The command line as a program in a shell: what it imports, completes, and says meanwhile."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.schema import invoke

from dagster_sqlmesh_automation.automation.cli.main import main
from dagster_sqlmesh_automation.config.settings import AutomationSettings

PROGRAM = (
    "import sys; from dagster_sqlmesh_automation.automation.cli.main import main; "
    "main(prog_name='sqlmesh-automation')"
)
IMPORTED = (
    "import sys\nbefore = set(sys.modules)\n"
    "from dagster_sqlmesh_automation.automation.cli.main import main\n"
    "try: main(sys.argv[1:], prog_name='sqlmesh-automation')\n"
    "except SystemExit: pass\n"
    "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
    "print(*sorted(new - set(sys.stdlib_module_names)), file=sys.stderr)"
)
COMMANDS = set(main.commands)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A folder with the command under the name by which shells call it."""
    script = tmp_path / "bin" / "sqlmesh-automation"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\n{PROGRAM}\n")
    script.chmod(0o755)
    return script.parent


@pytest.fixture(scope="module")
def prepared(planned_example: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with its manifest, and with a configuration that prints."""
    project = tmp_path_factory.mktemp("prepared") / "jaffle_shop"
    shutil.copytree(planned_example, project)
    with (project / "config.py").open("a") as file:
        file.write("\nprint('a line of the project')\n")
    assert invoke("prepare", "--project", project).exit_code == 0
    return project


def complete(shell: str, line: str, **variables: str | Path) -> Result:
    """Answers what a shell's completion script asks."""
    environment = {**asked(shell, line), **{k: str(value) for k, value in variables.items()}}
    try:
        return CliRunner(env=environment).invoke(main, [], prog_name="sqlmesh-automation")
    finally:
        logging.disable(logging.NOTSET)


# What is imported


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--version"], id="version"),
        pytest.param(["--help"], id="help"),
        *(pytest.param([name, "--help"], id=f"help of {name}") for name in sorted(COMMANDS)),
        pytest.param(["completion", "bash"], id="completion"),
        pytest.param(["tick", "--nix"], id="an unknown option"),
    ],
)
def test_help_and_version_import_click_and_nothing_else(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1].split() == ["click", "dagster_sqlmesh_automation"]


def test_completion_of_models_imports_neither_dagster_nor_sqlmesh(prepared: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED],
        env={
            **os.environ,
            **asked("bash", "status sales."),
            "SQLMESH_AUTOMATION_PROJECT": prepared,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert "plain,sales.orders" in done.stdout
    assert not {"dagster", "sqlmesh", "sqlglot", "pandas"} & set(done.stderr.split())


# Completion


def asked(shell: str, line: str) -> dict[str, str]:
    """What a shell's completion script asks for a line whose last word is begun."""
    words = line.split(" ")
    last = {"fish": words[-1]}.get(shell, f"{len(words)}")
    return {
        "_SQLMESH_AUTOMATION_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": f"sqlmesh-automation {line}",
        "COMP_CWORD": last,
    }


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("", COMMANDS, id="commands"),
        pytest.param("do", {"doctor"}, id="a command"),
        pytest.param("tick --dr", {"--dry-run"}, id="an option"),
        pytest.param("explain SALES.or", {"sales.orders"}, id="a model in capitals"),
        pytest.param(
            "status sales.orders assert_ev", {"assert_every_order_has_payment"}, id="more"
        ),
        pytest.param("explain nix", set(), id="no model"),
        pytest.param("settings RETRY__MAX_A", {"RETRY__MAX_ATTEMPTS"}, id="a setting"),
        pytest.param("completion z", {"zsh"}, id="a shell"),
    ],
)
def test_shells_complete_commands_options_models_and_settings(
    prepared: Path, shell: str, line: str, expected: set[str]
) -> None:
    result = complete(shell, line, SQLMESH_AUTOMATION_PROJECT=prepared)
    words = [re.split(r"[,\t]", each) for each in result.stdout.splitlines()]
    found = {part for each in words for part in each if part not in {"plain", "_"}}
    assert found & (COMMANDS | expected) == expected
    assert result.stderr == ""


def test_bash_itself_completes(prepared: Path, program: Path) -> None:
    asks = (
        'eval "$(sqlmesh-automation completion bash)"; complete -p sqlmesh-automation; '
        "COMP_WORDS=(sqlmesh-automation explain sales.o); COMP_CWORD=2; "
        '_sqlmesh_automation_completion sqlmesh-automation; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", asks],
        env={
            **os.environ,
            "PATH": f"{program}:{os.environ['PATH']}",
            "SQLMESH_AUTOMATION_PROJECT": str(prepared),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    declared, completed = done.stdout.splitlines()
    assert declared.endswith("-F _sqlmesh_automation_completion sqlmesh-automation")
    assert (completed, done.stderr) == ("sales.orders", "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_accept_their_scripts(shell: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(invoke("completion", shell).stdout)
    assert f"{shell}_complete" in script.read_text()
    if (found := shutil.which(shell)) is not None:
        subprocess.run([found, "-n", script], check=True)


@pytest.mark.parametrize("broken", ["no manifest", "a damaged one", "a bad setting"])
def test_completion_without_a_manifest_offers_nothing_and_says_nothing(
    prepared: Path, tmp_path: Path, broken: str
) -> None:
    (kept,) = prepared.glob(".cache/dagster_sqlmesh_automation/*.json")
    path = tmp_path / "manifest.json"
    shutil.copy(kept, path)
    variables = {
        "SQLMESH_AUTOMATION_PROJECT": str(prepared),
        "SQLMESH_AUTOMATION_MANIFEST": str(path),
    }
    assert "sales.orders" in complete("bash", "explain sales", **variables).stdout
    if broken == "no manifest":
        path.unlink()
    elif broken == "a damaged one":
        path.write_text(path.read_text()[:-10])
    else:
        variables["SQLMESH_AUTOMATION_INTERVAL_SECONDS"] = "soon"
    result = complete("bash", "explain sales", **variables)
    assert (result.stdout.strip(), result.stderr, result.exit_code) == ("", "", 0)


# What is said while nothing is printed


def on_a_terminal(*arguments: str, **variables: str) -> str:
    """What a call writes to a terminal on which both of its streams end."""
    reader, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200", **variables},
        stdout=terminal,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        written = b""
        while True:
            try:
                read = os.read(reader, 65536)
            except OSError:  # Linux's way to say that nobody can write any more
                break
            if not read:
                break
            written += read
        process.wait()
    os.close(reader)
    return written.decode()


STATUS = ("status", "--at", "2026-10-14T01:00")


def test_a_terminal_is_told_what_a_silent_command_does_and_keeps_nothing_of_it(
    prepared: Path,
) -> None:
    written = on_a_terminal(*STATUS, "--project", str(prepared))
    table = written.index("7 of 18 models due")
    assert re.search(r"(starting|loading|asking) .* …", written[:table])
    assert written.rindex("\x1b[2K", 0, table) > written.rindex("…", 0, table)  # it is erased
    assert "…" not in written[table:]
    assert "decision" in written[table:]


def test_json_on_a_terminal_is_whole_beside_the_spinner(prepared: Path) -> None:
    written = on_a_terminal(*STATUS, "--json", "--project", str(prepared))
    document = json.loads(written[written.index('{"environment"') :].splitlines()[0])
    assert document["environment"] == "prod"
    assert "…" in written
    assert "a line of the project" in written


# Verbosity and unknown settings


@pytest.mark.parametrize("place", ["before", "after", "not at all"])
def test_verbose_stands_before_or_after_the_command_and_a_pipe_gets_no_spinner(
    prepared: Path, tmp_path: Path, place: str
) -> None:
    before, after = (["-v"] if place == each else [] for each in ("before", "after"))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *before, *STATUS, "--project", prepared, *after],
        env={**os.environ, "DAGSTER_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    if place == "not at all":
        assert done.stderr == ""
    else:
        assert "No dagster instance configuration file" in done.stderr
        assert "…" not in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_an_unknown_setting_names_the_near_one_and_where_the_rest_is(example: Path) -> None:
    result = invoke("status", "--project", example, SQLMESH_AUTOMATION_CRONMAP="{}")
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: SQLMESH_AUTOMATION_CRONMAP (environment variable) is not a setting. Did you mean "
        "SQLMESH_AUTOMATION_CRON_MAP? `sqlmesh-automation settings` lists them all\n"
    )


def test_settings_lists_all_with_what_is_in_use_and_tells_all_about_one(example: Path) -> None:
    variables = {"SQLMESH_AUTOMATION_TIMEZONE": "Europe/Berlin"}
    result = invoke("settings", "--environment", "dev", **variables)
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert len(lines) == len(AutomationSettings.model_fields) + 3
    assert lines["SQLMESH_AUTOMATION_TIMEZONE"] == "Europe/Berlin (SQLMESH_AUTOMATION_TIMEZONE)"
    assert lines["SQLMESH_AUTOMATION_ENVIRONMENT"] == "dev (argument)"
    assert lines["SQLMESH_AUTOMATION_INTERVAL_SECONDS"] == "30 (default)"

    told = invoke("settings", "cron").stdout
    assert told.startswith("SQLMESH_AUTOMATION_CRON_MAP\n  When models with a SQLMesh cron")
    assert "example: " in told

    result = invoke("settings", "retri")
    assert result.exit_code == 2
    assert "Did you mean RETRY?" in result.stderr


def test_settings_are_listed_where_one_cannot_be_used() -> None:
    result = invoke("settings", SQLMESH_AUTOMATION_INTERVAL_SECONDS="soon")
    assert result.exit_code == 0
    assert "SQLMESH_AUTOMATION_CRON_MAP" in result.stdout
    assert "SQLMESH_AUTOMATION_INTERVAL_SECONDS='soon' cannot be used" in result.stderr


# Exit codes


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_each_command_lists_the_exit_codes_that_it_has(command: str) -> None:
    shown = re.findall(r"^ *(\d)  \S", invoke(command, "--help").stdout, re.MULTILINE)
    fails = {"tick", "doctor"}
    expected = ["0", "1", "2", "3"] if command in fails else ["0", "2", "3"]
    assert shown == (["0", "2"] if command in {"completion", "settings"} else expected)
