"""Makes the reference of all settings, ``docs/settings.md``, from the settings classes.

``make docs-settings`` writes it: ``python -m dagster_sqlmesh_automation.config.reference``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .rules import ModelRule, RetrySettings
from .settings import PREFIX, AutomationSettings

EXAMPLES: Mapping[str, str] = {
    "project": "/srv/analytics",
    "gateway": "warehouse",
    "sqlmesh_config": "test_config",
    "environment": "dev_anna",
    "enabled": "true",
    "interval_seconds": "60",
    "manifest": "/var/lib/dagster/manifest.json",
    "lease_timeout_seconds": "600",
    "cancel_grace_seconds": "60",
    "max_concurrent_executions": "1",
    "isolation": "process",
    "max_models_per_run": "200",
    "auto_upstream": "false",
    "notifications": "false",
    "timezone": "Europe/Berlin",
    "cron_map": '{"@daily": "0 6 * * 1-5 Europe/Berlin", "@weekly": "off"}',
    "models": '{"finance.*": {"schedule": "0 7 * * *"}, "tag:nightly": {"priority": 10}}',
    "upstream": "ignore",
    "retry": '{"max_attempts": 5, "delay_seconds": 60}',
    "retry__max_attempts": "5",
    "retry__delay_seconds": "60",
    "retry__max_delay_seconds": "1800",
    "source": "environment",
    "on_invalid_project": "fail",
    "name": "finance",
    "asset_key_prefix": "finance/dev",
    "external_asset_key": "raw/{schema}/{name}",
    "freshness": "false",
    "freshness_grace_seconds": "7200",
    "description_sql": "rendered",
    "description_sql_characters": "0",
    "keep_evaluations_days": "7",
    "config": "/etc/sqlmesh-automation.yaml",
}
"""An example of each environment variable, by the setting's name."""

RULE_EXAMPLES: Mapping[str, Any] = {
    "schedule": "0 6 * * 1-5 Europe/Berlin",
    "paused": True,
    "retry": {"max_attempts": 1},
    "min_gap_seconds": 3600,
    "max_seconds": 1800,
    "upstream": "ignore",
    "priority": 10,
    "group": "finance",
}
"""An example of each key of a rule."""

MERGED = """\
# automation.yaml, named by SQLMESH_AUTOMATION_CONFIG
timezone: Europe/Berlin
cron_map:
  "@daily": 0 6 * * 1-5
  "@hourly": 5 * * * *
models:
  finance.*: {priority: 10, retry: {max_attempts: 5}}
"""
"""The YAML file of the example in which maps are merged."""

MERGED_VARIABLES: Mapping[str, str] = {
    f"{PREFIX}CRON_MAP": '{"@hourly": "off"}',
    f"{PREFIX}MODELS": '{"finance.*": {"priority": 20}, "finance.orders": {"paused": true}}',
    f"{PREFIX}RETRY__MAX_ATTEMPTS": "2",
}
"""The environment variables of that example."""


def reference() -> str:
    """Returns the text of ``docs/settings.md``."""
    variables = "\n".join(f"export {name}='{value}'" for name, value in MERGED_VARIABLES.items())
    return f"""\
# Settings

<!-- Made by `make docs-settings` from config/settings.py and config/rules.py; do not edit. -->

Every setting is an environment variable; a key of the YAML file that `CONFIG` names, in lower case
and without the prefix `{PREFIX}`; and an argument of `AutomationSettings`. A variable
or key that does not exist is an error, and so is a value that cannot be used: the message names it
and what is accepted. `sqlmesh-automation doctor` shows which settings are in use and where each
comes from; `sqlmesh-automation status` shows what they mean for every model. An argument, and every
value and key within one, may be Dagster's `dg.EnvVar("SHOP_ENV")` or `dg.EnvVar.int("SECONDS")`: it
is read when the settings are made, as JSON where the setting is an object, and a variable that is
not set is an error. So it is in the templates of a component's `defs.yaml`:
`{{{{ env.SHOP_ENV }}}}` has to be set, `{{{{ env('SHOP_ENV', 'dev') }}}}` need not be.

{_table("variable", described())}

## Rules for models

`MODELS` maps patterns to rules. A pattern is over names, with `*`, `?` and `[…]` as in file
names (`finance.*`); over tags (`tag:nightly`); or over SQLMesh's kinds (`kind:full`). Upper and
lower case are the same. Where several patterns match a model, the last one that sets a value
counts. A rule has these keys, all of them optional:

{_table("key", _rules())}

## Schedules

A schedule is five cron fields or an alias such as `@hourly`, with an IANA time zone behind it where
it is not that of `TIMEZONE`; or `off`. It says when intervals are requested that SQLMesh holds due,
and makes none due: an interval is requested at the schedule's first tick at or after the tick of
the model's cron. Equivalent spellings of a cron, such as `@daily` and `0 0 * * *`, match alike in
`CRON_MAP`. The schedule of a rule for models wins over the one of the map. `status` and
`doctor` warn of schedules that are not likely to do what is meant.

## Precedence

Highest first: arguments, environment variables, the YAML file, the defaults. `CRON_MAP`, `MODELS`
and `RETRY` are merged key by key, so that each source adds to the ones below it. Patterns of the
YAML file come before those that only the environment has.

```yaml
{MERGED}```

```sh
{variables}
```

Together: daily models at 06:00 on weekdays in Berlin, hourly ones not at all; two attempts for
every model, but five in `finance`, which has priority 20; `finance.orders` paused.
"""


def described() -> Iterator[list[str]]:
    """Yields of every setting its variable, type, default, description and an example."""
    for name, field in AutomationSettings.model_fields.items():
        yield _row(f"{PREFIX}{name.upper()}", field, EXAMPLES[name])
        if isinstance(field.default, RetrySettings):
            for part, inner in RetrySettings.model_fields.items():
                nested = f"{name}__{part}"
                yield _row(f"{PREFIX}{nested.upper()}", inner, EXAMPLES[nested])


def _rules() -> Iterator[list[str]]:
    for name, field in ModelRule.model_fields.items():
        yield _row(name, field, json.dumps(RULE_EXAMPLES[name]))


def _row(name: str, field: FieldInfo, example: str) -> list[str]:
    description = (field.description or "").replace("``", "`").replace("<", r"\<")
    return [f"`{name}`", _type(field), _default(field.default), description, f"`{example}`"]


def _table(first: str, rows: Iterator[list[str]]) -> str:
    head = [first, "type", "default", "what it says", "example"]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _default(default: object) -> str:
    if default is None or default == Path():
        return "not set" if default is None else "the working directory"
    if isinstance(default, BaseModel):
        return f"`{default.model_dump_json()}`"
    if isinstance(default, str) and not default:
        return "empty"
    return f"`{default}`" if isinstance(default, str) else f"`{json.dumps(default)}`"


def _type(field: FieldInfo) -> str:
    """Returns a field's type in words, with the limits of a number."""
    arguments = get_args(field.annotation)
    kind: Any = field.annotation
    if NoneType in arguments:
        kind = next(argument for argument in arguments if argument is not NoneType)
    limits = [
        f"{word} {getattr(constraint, name)}"
        for constraint in field.metadata
        for name, word in (("ge", "at least"), ("le", "at most"))
        if hasattr(constraint, name)
    ]
    if kind is bool:
        return "`true` or `false`"
    if kind is int:
        return ", ".join(["whole number", *limits])
    if kind is Path:
        return "path"
    if Path in arguments:
        return "path, or JSON list of paths"
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return " or ".join(f"`{member.value}`" for member in kind)
    is_object = get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, BaseModel))
    return "JSON object" if is_object else "text"


if __name__ == "__main__":
    sys.stdout.write(reference())
