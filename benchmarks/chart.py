"""Draws the results: runs against their floors, ticks and loads against the models."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from results import CONNECTED, DAGSTER, DEFAULT, SQLMESH, Record, Results


def draw(results: Results, file: Path) -> None:
    """Writes the chart as SVG."""
    figure = Figure(figsize=(15, 5), layout="constrained")
    runs, ticks, loads = figure.subplots(1, 3)
    draw_runs(runs, [record for record in results.records if record.measure == "run"])
    records = [record for record in results.records if record.measure == "tick"]
    draw_lines(ticks, [record for record in records if record.case == "idle"], "Idle tick, seconds")
    records = [record for record in results.records if record.measure == "load"]
    draw_lines(loads, records, "Definitions, seconds")
    # So that the same results give the same file.
    with mpl.rc_context({"svg.hashsalt": "benchmarks"}):
        figure.savefig(file, metadata={"Date": None})


def draw_runs(axes: Axes, records: list[Record]) -> None:
    """Draws a stack of both floors and bars of the others for each case."""
    cases = list(dict.fromkeys((record.models, record.case) for record in records))
    subjects = [
        subject
        for subject in dict.fromkeys(record.subject for record in records)
        if subject not in (SQLMESH, DAGSTER, CONNECTED, DEFAULT)
    ]
    height = 0.8 / (1 + len(subjects))
    medians = {(r.models, r.case, r.subject): r.median for r in records}
    named: set[str] = set()
    for place, case in enumerate(cases):
        s, d = medians.get((*case, SQLMESH), 0), medians.get((*case, DAGSTER), 0)
        label = place == 0
        axes.barh(place, s, height, color="#9db4c0", label="S" if label else None)
        axes.barh(place, d, height, left=s, color="#d3dde3", label="D" if label else None)
        for number, subject in enumerate(subjects, start=1):
            seconds = medians.get((*case, subject), 0)
            color = f"C{number - 1}"
            shown = subject if subject not in named else None
            named.add(subject)
            axes.barh(place + number * height, seconds, height, color=color, label=shown)
    axes.set_yticks(range(len(cases)), [f"{models} {case}" for models, case in cases], fontsize=7)
    axes.invert_yaxis()
    axes.set_title("A run of so many due models, seconds")
    axes.legend()


def draw_lines(axes: Axes, records: list[Record], title: str) -> None:
    """Draws seconds against models, both as logarithms."""
    for subject in dict.fromkeys(record.subject for record in records):
        own = [record for record in records if record.subject == subject and record.seconds]
        axes.plot([r.models for r in own], [r.median for r in own], marker="o", label=subject)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("models")
    axes.set_title(title)
    axes.legend()
