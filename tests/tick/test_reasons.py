"""Every reason in two forms: what Dagster's tree has room for, and the whole sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from support.decisions import AT, INTERVAL, NODES, PARTIAL, moment

from dagster_sqlmesh_automation.assets.definitions.policy import DEFAULT, Policy
from dagster_sqlmesh_automation.automation.facts.facts import Attempt, Due, Limits, Node
from dagster_sqlmesh_automation.automation.tick import reasons
from dagster_sqlmesh_automation.automation.tick.conditions import Part, parts
from dagster_sqlmesh_automation.automation.tick.decision import REASONS, Decision
from dagster_sqlmesh_automation.automation.tick.fitting import PILL, label_of
from dagster_sqlmesh_automation.automation.tick.reasons import Reason
from dagster_sqlmesh_automation.config.cron import Schedule

RUN = "7fa49399-791a-4ad8-a361-a2c34bd01b03"
ORDERS = "sales.orders"
LONG = "marketing.audience_of_everything_that_was_ever_sold"
BERLIN, AIRES = ZoneInfo("Europe/Berlin"), ZoneInfo("America/Argentina/Buenos_Aires")
UTC = ZoneInfo("UTC")
NOON = moment("12:00")  # a Tuesday
FAILED = Attempt(RUN, AT, AT, AT, "failed")
UNTRIED = Attempt(RUN, AT, AT, AT, "not evaluated", tried=False)
CANCELLED = Attempt(RUN, AT, AT, AT, "cancelled", retried=False)
NEW_YEAR = moment("2027-01-01 00:00")


def opens(cron: str, zone: str) -> Reason:
    schedule = Schedule(cron, zone)
    return reasons.outside_schedule(schedule, schedule.opens(NOON), NOON, UTC)


def retried(again: datetime, failures: int = 1, attempt: Attempt = FAILED) -> Reason:
    return reasons.retried(attempt, failures, 3, again, NOON)


def spent(again: datetime, attempt: Attempt = FAILED, failures: int = 3) -> Reason:
    return reasons.retried_at_cron(attempt, failures, 3, again, NOON, scheduled=False)


def due(*intervals: str) -> Due:
    pairs = [each.split(" to ") for each in intervals]
    return Due(tuple((moment(start), moment(end)) for start, end in pairs))


PAUSED = reasons.paused("MODELS sales.*")
SHOWN: list[tuple[object, Reason, str]] = [
    (reasons.UNAUTOMATED, reasons.UNAUTOMATED, "has no automation condition"),
    (reasons.WITHHELD, reasons.WITHHELD, "held by a condition of yours"),
    (reasons.AUDITED_WITH_READERS, reasons.AUDITED_WITH_READERS, "audited with what reads it"),
    (reasons.UNPLANNED, reasons.UNPLANNED, "a plan has to add it"),
    (reasons.UNKNOWN, reasons.UNKNOWN, "not in this SQLMesh environment"),
    (reasons.UP_TO_DATE, reasons.UP_TO_DATE, "up to date"),
    (
        reasons.plan_unfinished,
        reasons.plan_unfinished(RUN.replace("-", ""), "plan … is being applied"),
        "plan 7fa49399 is being applied",
    ),
    (reasons.paused, PAUSED, "paused by MODELS sales.*"),
    (reasons.paused, reasons.paused(f"MODELS {LONG}"), "paused by audience_of_e…as_ever_sold"),
    (reasons.outside_schedule, opens("0 6 * * 1-5", "Europe/Berlin"), "opens Wed 06:00 Berlin"),
    (reasons.outside_schedule, opens("0 6 * * 1", "Europe/Berlin"), "opens Mon 06:00 Berlin"),
    (reasons.outside_schedule, opens("30 12 * * *", "UTC"), "opens 12:30"),
    (reasons.outside_schedule, opens("0 0 1 * *", "Etc/UTC"), "opens 1 Dec 00:00"),
    (
        reasons.outside_schedule,
        opens("0 6 1 12 *", str(AIRES)),
        "opens 1 Dec 06:00 Buenos Aires",
    ),
    (
        reasons.outside_schedule,
        opens("0 6 1 11 *", str(AIRES)),
        "opens 2027-11-01 06:00 Buenos Aires",
    ),
    (
        reasons.requested_lately,
        reasons.requested_lately(timedelta(hours=1), moment("12:34:56"), NOON),
        "least gap until 12:35",
    ),
    (
        reasons.requested_lately,
        reasons.requested_lately(
            timedelta(days=400), moment("2027-12-27 18:35").astimezone(AIRES), NOON
        ),
        "least gap until 2027-12-27 15:35 Bu…",
    ),
    (reasons.being_evaluated, reasons.being_evaluated(RUN), "run 7fa49399 is evaluating it"),
    (
        reasons.read_by_run,
        reasons.read_by_run(ORDERS, RUN),
        "reader sales.orders runs, 7fa49399",
    ),
    (reasons.read_by_run, reasons.read_by_run(LONG, RUN), "reader audience_of_…s_ever_sold runs"),
    (
        reasons.upstream_running,
        reasons.upstream_running(ORDERS, RUN),
        "waits for sales.orders (running)",
    ),
    (
        reasons.upstream_running,
        reasons.upstream_running(LONG, RUN),
        "waits for audience…er_sold (running)",
    ),
    (
        reasons.upstream_failed,
        reasons.upstream_failed(ORDERS, "signal loaded: KeyError: 1"),
        "waits for sales.orders (failed)",
    ),
    (
        reasons.upstream_held,
        reasons.upstream_held(ORDERS, retried(moment("18:35"))),
        "waits for sales.orders (18:35)",
    ),
    (
        reasons.upstream_held,
        reasons.upstream_held(ORDERS, PAUSED),
        "waits for sales.orders (paused)",
    ),
    (
        reasons.upstream_held,
        reasons.upstream_held(LONG, retried(moment("18:35"))),
        "waits for audience_…ver_sold (18:35)",
    ),
    (
        reasons.upstream_held,
        reasons.upstream_held("marketing.customer_segments", opens("0 6 * * 1", "Europe/Berlin")),
        "customer_segments: Mon 06:00 Berlin",
    ),
    (
        reasons.upstream_held,
        reasons.upstream_held(LONG, opens("0 6 1 11 *", "America/Port-au-Prince")),
        "waits for audience_of_e…as_ever_sold",
    ),
    (
        reasons.upstream_withheld,
        reasons.upstream_withheld("sales/orders"),
        "waits for sales/orders (held)",
    ),
    (reasons.unready, reasons.unready("signal loaded: KeyError: 1"), "signal loaded failed"),
    (
        reasons.unready,
        reasons.unready(f"signal {LONG}: KeyError: 1"),
        "signal marketing.audience_of… failed",
    ),
    (
        reasons.unready,
        reasons.unready("no gateway of this name is in the configuration"),
        "no gateway of this name is in the c…",
    ),
    (reasons.retried, retried(moment("18:35")), "retry 18:35 (2 of 3), run 7fa49399"),
    (reasons.retried, retried(moment("18:34:01"), 2), "retry 18:35 (3 of 3), run 7fa49399"),
    (
        reasons.retried,
        retried(moment("18:35"), 0, UNTRIED),
        "retry 18:35 (not evaluated)",
    ),
    (
        reasons.retried,
        retried(moment("2026-11-25 00:05").astimezone(BERLIN)),
        "retry Wed 01:05 Berlin (2 of 3)",
    ),
    (reasons.retried_at_cron, spent(moment("2026-11-25 00:00")), "retry Wed 00:00 (3 failed)"),
    (reasons.retried_at_cron, spent(moment("18:35")), "retry 18:35 (3 failed), run 7fa49399"),
    (reasons.retried_at_cron, spent(NEW_YEAR), "retry 1 Jan 00:00 (3 failed)"),
    (
        reasons.retried_at_cron,
        spent(NEW_YEAR, CANCELLED, 1),
        "retry 1 Jan 00:00 (cancelled)",
    ),
    (
        reasons.unrecorded,
        reasons.unrecorded(FAILED, NEW_YEAR, NOON, scheduled=True),
        "retry 1 Jan 00:00 (unrecorded)",
    ),
    (reasons.just_evaluated, reasons.just_evaluated(RUN), "just evaluated by run 7fa49399"),
    (
        reasons.goes_on,
        reasons.goes_on(RUN, moment("18:35"), NOON),
        "goes on 18:35 after run 7fa49399",
    ),
    (
        reasons.only_lookback,
        reasons.only_lookback(Due((INTERVAL,), "…", signal="loaded")),
        "waits for signal loaded",
    ),
    (
        reasons.runs_at_limit,
        reasons.runs_at_limit([RUN], Limits(executions=1)),
        "runs at limit (1): 7fa49399",
    ),
    (
        reasons.runs_at_limit,
        reasons.runs_at_limit([RUN, *map(str, range(99))], Limits(executions=100)),
        "runs at limit (100): 7fa49399 +99",
    ),
    (
        reasons.run_is_full,
        reasons.run_is_full(Limits(models=500)),
        "next run: this one has 500",
    ),
    (reasons.goes_after, reasons.goes_after(ORDERS), "sales.orders goes first"),
    (reasons.goes_after, reasons.goes_after(LONG), "audience_of_…as_ever_sold goes first"),
    (
        reasons.due_now,
        reasons.due_now(due("2026-11-23 00:00 to 2026-11-24 00:00")),
        "due 2026-11-23",
    ),
    (
        reasons.due_now,
        reasons.due_now(due("2026-11-20 00:00 to 2026-11-24 00:00")),
        "due 2026-11-20 to 2026-11-23",
    ),
    (reasons.due_now, reasons.due_now(due("10:00 to 11:00")), "due 2026-11-24 10:00 to 11:00"),
    (
        reasons.due_now,
        reasons.due_now(due("10:00 to 2026-11-25 11:00")),
        "due 2026-11-24 10:00 to 11-25 11:00",
    ),
    (
        reasons.due_now,
        reasons.due_now(due("10:00 to 11:00", "12:00 to 13:00")),
        "due 2 ranges from 2026-11-24 10:00",
    ),
    (reasons.waiting, reasons.waiting(Due((), "…", signal="loaded")), "waits for signal loaded"),
    (
        reasons.waiting,
        reasons.waiting(Due((), "…", signal="raw_loads_complete")),
        "waits for signal raw_loads_complete",
    ),
    (
        reasons.waiting,
        reasons.waiting(Due((), "…", signal="are_all_raw_loads_complete")),
        "signal are_all_raw_loads_complete",
    ),
    (
        reasons.waiting,
        reasons.waiting(Due((), "…", signal="loaded", signal_of="sales.daily_revenue")),
        "waits for daily_revenue (signal)",
    ),
    (reasons.waiting, reasons.waiting(Due((), "…")), "waits for upstream"),
    (
        reasons.next_interval,
        reasons.next_interval(moment("2026-11-27 00:00")),
        "next 2026-11-27 00:00",
    ),
    (
        reasons.next_interval,
        reasons.next_interval(moment("2026-11-27 00:00").astimezone(BERLIN)),
        "next 2026-11-27 01:00 Berlin",
    ),
    (reasons.not_started, reasons.not_started(NEW_YEAR, None), "starts 2027-01-01"),
    (reasons.has_ended, reasons.has_ended(NEW_YEAR), "nothing after 2026-12-31"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "short"), [row[1:] for row in SHOWN], ids=lambda value: str(value)
)
def test_what_the_tree_shows_says_why_and_until_when(reason: Reason, short: str) -> None:
    assert reason.short == short
    assert len(short) <= PILL


def test_no_reason_is_without_a_row_above() -> None:
    makers = {
        name: value
        for name, value in vars(reasons).items()
        if isinstance(value, Reason) or _makes_reasons(value)
    }
    tried = {id(maker) for maker, *_ in SHOWN}
    assert not [name for name, maker in makers.items() if id(maker) not in tried]
    assert len(makers) > 25


def _makes_reasons(value: object) -> bool:
    return inspect.isfunction(value) and value.__annotations__.get("return") == "Reason"


def test_a_text_that_fits_nowhere_is_cut() -> None:
    assert Reason("x" * 99, "whole").short == "x" * (PILL - 1) + "…"


@pytest.mark.parametrize("name", REASONS)
def test_whatever_holds_a_model_is_in_its_tree(name: str) -> None:
    held = _held_by(name)
    assert held.held_by == name
    assert held.holding is not None
    shown = [
        reason.short
        for node in (NODES[0], _external())
        for part in parts(node, DEFAULT)
        for holds, reason in [part.look(held)]
        if not holds and reason is not None
    ]
    assert held.holding.short in shown


def test_a_model_that_a_run_evaluates_and_that_is_not_due_says_what_comes_next() -> None:
    running = reasons.being_evaluated(RUN)
    waits = Decision("m", "m", Due((), "…", signal="loaded"), None, in_progress=running)
    idle = Decision("m", "m", None, NEW_YEAR, in_progress=running)
    first, *_ = parts(NODES[0], DEFAULT)
    for decision, short in ((waits, "waits for signal loaded"), (idle, "next 2027-01-01 00:00")):
        holds, reason = first.look(decision)
        assert not holds
        assert reason is not None
        assert reason.short == short


def _held_by(name: str) -> Decision:
    """A decision on a model that is due, and held by one of the reasons alone."""
    if name == "readiness":
        return Decision("m", "m", Due((INTERVAL,), failed="signal x: KeyError: 1"), None)
    if name == "lookback":
        return Decision("m", "m", Due((INTERVAL,), "signal x", only_lookback=True), None)
    assert name in {field.name for field in fields(Decision)}
    return Decision("m", "m", PARTIAL, None, **{name: Reason(f"short {name}", f"whole {name}")})  # type: ignore[arg-type]


def _external() -> Node:
    return replace(NODES[0], is_external=True)


@pytest.mark.parametrize(
    ("cron", "zone", "schedule", "labels"),
    [
        ("@daily", None, None, ["due in SQLMesh (@daily)", "schedule open (whenever it is due)"]),
        (
            "*/5 * * * *",
            "America/New_York",
            Schedule("0 6 * * 1-5", "Europe/Berlin"),
            ["due in SQLMesh (*/5 * * * *)", "schedule open (0 6 * * 1-5 Berlin)"],
        ),
        (
            "@daily",
            "America/New_York",
            Schedule("0 6 * * 1-5", str(AIRES)),
            ["due in SQLMesh (@daily New York)", "schedule open (0 6 * * 1-5)"],
        ),
        (
            "0,5,10,15,20,25,30 1-5 * * *",
            None,
            Schedule("0,5,10,15,20,25,30 1-5 * * *", "UTC"),
            ["due in SQLMesh", "schedule open"],
        ),
    ],
)
def test_the_parts_labels_fit(
    cron: str, zone: str | None, schedule: Schedule | None, labels: list[str]
) -> None:
    node = replace(NODES[0], cron=cron, cron_tz=zone)
    shown: Callable[[Part], str] = lambda part: part.short or part.label  # noqa: E731
    texts = [shown(part) for part in parts(node, Policy(schedule=schedule))]
    assert texts[:2] == labels
    assert max(map(len, texts)) <= PILL
    assert label_of("what", "detail") == "what (detail)"
