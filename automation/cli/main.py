"""The command ``sqlmesh-automation`` and its subcommands begin here."""

from __future__ import annotations

import atexit
import gc
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from .listing import settings_command
from .options import (
    EXIT_FAILED,
    READS,
    VERBOSE,
    at_option,
    exit_codes,
    json_option,
    settings_options,
    warn,
)
from .shell import complete_model, completion
from .working import Working

if TYPE_CHECKING:
    from ...config.settings import AutomationSettings


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=exit_codes("done, also when nothing is due"),
)
@click.version_option(package_name="dagster-sqlmesh-automation")
@click.option("-v", "--verbose", is_flag=True, help=VERBOSE)
@click.pass_context
def main(ctx: click.Context, verbose: bool) -> None:
    """Run SQLMesh models on Dagster, each as its own asset, all due ones in one execution.

    Every option is also an environment variable SQLMESH_AUTOMATION_<OPTION>, read by the Dagster
    code location too:

    \b
    Is everything in place, what is due, one tick here and now, the Dagster UI:
      export SQLMESH_AUTOMATION_PROJECT=/srv/analytics
      sqlmesh-automation doctor
      sqlmesh-automation status
      sqlmesh-automation tick
      dagster dev -m dagster_sqlmesh_automation.definitions
    """  # noqa: D301 - click reads the character
    ctx.with_resource(_seldom_collected())
    if not verbose:
        # Dagster's own lines; what a person wants to know is printed by the commands.
        logging.disable(logging.WARNING)


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """Has the garbage collector look seldom at what imports make, and not at all at the end.

    That is a third of a short command's time.
    """
    atexit.register(gc.freeze)
    before = gc.get_threshold()
    gc.set_threshold(200_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@main.command(epilog=exit_codes("the manifest is kept", *READS))
@click.option("--force", is_flag=True, help="Load the project even if nothing has changed.")
@settings_options()
def prepare(settings: AutomationSettings, force: bool) -> None:
    """Load the SQLMesh project once and keep its facts in the manifest.

    Code servers and run workers read the manifest and start without SQLMesh. Run this when you
    build an image or deploy; otherwise the first process that needs it does it.
    """
    from ...assets.project.deployed import current_manifest
    from ...assets.project.manifest_file import manifest_path, not_kept
    from ...config.errors import ManifestNotKept

    with Working(f"loading the SQLMesh project {settings.projects}"):
        manifest = current_manifest(settings, force=force)
    if reason := not_kept(settings, manifest):
        raise ManifestNotKept(reason, settings.place("manifest"))
    executed = len(manifest.executed)
    click.echo(
        f"{executed} models, {len(manifest.models) - executed} external or embedded, "
        f"{len(manifest.standalone_audits)} standalone audits: {manifest_path(settings)}"
    )


@main.command(epilog=exit_codes("done, whatever is due or held", *READS))
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...", shell_complete=complete_model)
@at_option
@click.option("--due", is_flag=True, help="Show only the models that are due or not ready.")
@json_option
@settings_options()
def status(
    settings: AutomationSettings,
    patterns: tuple[str, ...],
    at: datetime | None,
    due: bool,
    as_json: bool,
) -> None:
    """Show for every model whether a tick would request it now, and why.

    Also what is set for it, and by which rule; and schedules that are not likely to do what is
    meant. With PATTERNs only the models that one of them matches: over names, with * and ?, or
    tag:<tag> or kind:<kind>, as in the setting MODELS. In a pipe, and on a terminal of less than
    100 columns, each model has one line. Reads only: nothing is executed and nothing is written.

    \b
    Examples:
      sqlmesh-automation status --due
      sqlmesh-automation status 'sales.*' tag:finance
      sqlmesh-automation status | grep customer_segments
      sqlmesh-automation status --at 2026-11-24T00:05
      sqlmesh-automation status --json | jq '.models[] | {model, cron, next_at}'
    """  # noqa: D301 - click reads the character
    with Working("starting Dagster and SQLMesh") as working:
        from rich.console import Console

        from ..definitions import Location
        from .home import dagster_instance
        from .statuses import print_status, selected, status_json

        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            working(f"loading the models of {settings.projects}")
            location = Location(settings)
            shown = selected(location, patterns)
            with dagster_instance() as instance:
                working(f"asking SQLMesh what is due in {settings.environment}")
                plan = location.planner.plan(instance, at or datetime.now(UTC))
    if due:
        shown = {fqn for fqn in shown if plan.decisions[fqn].due is not None}
    if as_json:
        click.echo(json.dumps(status_json(location, plan, shown)))
    else:
        print_status(Console(), location, plan, shown)


@main.command(epilog=exit_codes("done, whatever is decided", *READS))
@click.argument("model", shell_complete=complete_model)
@at_option
@json_option
@settings_options()
def explain(settings: AutomationSettings, model: str, at: datetime | None, as_json: bool) -> None:
    """Explain what is decided about one MODEL, and why: all that is known of it.

    MODEL is the name of a model or standalone audit, its asset key or its fully qualified name.
    Shown are the decision part by part, as in the UI's tree; what is due and what is recorded;
    what is set for it and by which rule; what it reads; its last runs; and what happens next.
    Reads only.

    \b
    Examples:
      sqlmesh-automation explain sales.orders
      sqlmesh-automation explain sales/orders --at 2026-11-24T00:05
      sqlmesh-automation explain sales.orders --json | jq '.parts[] | select(.holds == false)'
    """  # noqa: D301 - click reads the character
    with Working("starting Dagster and SQLMesh") as working:
        from rich.console import Console

        from ..definitions import Location
        from .explaining import explain as explained
        from .home import dagster_instance
        from .rendering import print_explanation

        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            working(f"loading the models of {settings.projects}")
            location = Location(settings)
            with dagster_instance() as instance:
                working(f"asking SQLMesh what is due in {settings.environment}")
                explanation = explained(location, instance, model, at or datetime.now(UTC))
    for line in explanation.plan.warnings:
        warn(f"warning: {line}")
    if as_json:
        click.echo(json.dumps(explanation.to_json()))
    else:
        print_explanation(Console(), explanation)


@main.command(epilog=exit_codes("no model failed, also when nothing is due"))
@at_option
@click.option("--dry-run", is_flag=True, help="Decide only; request and execute nothing.")
@json_option
@settings_options()
def tick(settings: AutomationSettings, at: datetime | None, dry_run: bool, as_json: bool) -> None:
    """Do one tick here and now: decide, and execute the run that it asks for in this process.

    The same code as the sensor's. The run is recorded in the Dagster instance of DAGSTER_HOME;
    without one, nothing remembers it. With --at the whole tick, execution included, is done as
    if it were that moment, which must have come: only --dry-run looks ahead.

    \b
    Examples:
      sqlmesh-automation tick --dry-run
      sqlmesh-automation tick --at 2026-11-24T00:05
      sqlmesh-automation tick --json | jq '.models[] | select(.due)'
    """  # noqa: D301 - click reads the character
    from ...config.clock import check_reached

    if at is not None and not dry_run:
        check_reached(at, "--at")
    with Working("starting Dagster and SQLMesh") as working:
        from rich.console import Console

        from ..definitions import Location
        from ..upkeep.recovery import end_dead_runs
        from .home import dagster_instance
        from .rendering import ProgressBar, print_decisions, print_outcomes
        from .ticking import AbortWatch, TickReport, run_tick, tick_json

        def say(line: str) -> None:
            working.printing()
            warn(line)
            working("going on")

        console = Console(stderr=as_json)
        watch = AbortWatch(None if as_json else ProgressBar(console, working))
        # A project's own Python code may print.
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            working(f"loading the models of {settings.projects}")
            location = Location(settings, observer=watch)
            with dagster_instance() as instance:
                if not dry_run:
                    for line in end_dead_runs(instance):
                        say(line)
                working(f"asking SQLMesh what is due in {settings.environment}")
                plan = location.planner.plan(instance, at or datetime.now(UTC))
                for line in plan.warnings:
                    say(f"warning: {line}")
                if not as_json:
                    working.printing()
                    print_decisions(console, plan)
                working("starting the run" if plan.requested else "looking after earlier runs")
                if dry_run:
                    report = TickReport.undone(plan)
                else:
                    simulated = at is not None
                    report = run_tick(location, instance, plan, watch, simulated=simulated, say=say)
    if as_json:
        click.echo(json.dumps(tick_json(location, report)))
    elif report.run_id:
        print_outcomes(console, report)
    if watch.error is not None:
        warn(f"Error: {watch.error}")
    if report.failed:
        sys.exit(EXIT_FAILED)


@main.command(epilog=exit_codes("nothing has to change"))
@json_option
@settings_options()
def doctor(settings: AutomationSettings, as_json: bool) -> None:
    """Check that everything is in place, and say what to do where it is not.

    Looks at the settings and where each comes from, versions, the project, SQLMesh's state and
    the warehouse, the time that a tick takes, time zones and schedules; and, where DAGSTER_HOME
    is set, at the deployment's storage, daemons, sensor, executor and queue.

    \b
    Examples:
      sqlmesh-automation doctor
      sqlmesh-automation doctor --json | jq '.findings[] | select(.level != "ok")'
    """  # noqa: D301 - click reads the character
    options = click.get_current_context().params
    arguments = [name for name in type(settings).model_fields if options.get(name) is not None]
    with Working("starting Dagster and SQLMesh") as working:
        from rich.console import Console

        from .doctor import examine
        from .rendering import print_findings

        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            working("looking at settings, project, state and deployment")
            findings = list(examine(settings, arguments))
    worst = max((finding.exit_code for finding in findings), default=0)
    if as_json:
        documents = [finding.to_json() for finding in findings]
        click.echo(json.dumps({"exit_code": worst, "findings": documents}))
    else:
        print_findings(Console(), findings)
    sys.exit(worst)


main.add_command(settings_command)
main.add_command(completion)
