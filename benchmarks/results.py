"""The results as JSON and as markdown, with the machine that they were measured on."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from noise import NOISY, Noise, difference

OURS = "this package"
SQLMESH = "S: sqlmesh run"
DAGSTER = "D: empty Dagster steps"
CONNECTED = "D': the same, connected"
DEFAULT = "D0: empty Dagster steps, Dagster's own storage"
PEER = "dg-sqlmesh 1.10.1"


@dataclass(frozen=True)
class Record:
    """One subject in one case.

    Attributes:
        measure: The name of the measure, for example ``run``.
        case: What was done, for example ``trivial models, duckdb``.
        subject: The program that did it.
        models: How many models the project had.
        seconds: How long each round took.
        facts: Further facts: executions, memory, errors.
        repeats: Whether the rounds did the same, so that they should take the same.
    """

    measure: str
    case: str
    subject: str
    models: int
    seconds: Sequence[float]
    facts: Mapping[str, Any] = field(default_factory=dict)
    repeats: bool = True

    @property
    def noisy(self) -> bool:
        """Whether the rounds are so far apart that the machine was busy with something else."""
        return self.repeats and len(self.seconds) > 1 and difference(self.seconds) > NOISY

    @property
    def median(self) -> float:
        """The median of all rounds, in seconds."""
        return statistics.median(self.seconds) if self.seconds else math.nan


@dataclass(frozen=True)
class Ratio:
    """A figure that this project wants to reach, and the one that was measured.

    Attributes:
        what: The names of both sides.
        value: The measured figure.
        reach: The limit; ``None`` if there is none.
        at_least: Whether the limit is a minimum, not a maximum.
        noisy: Whether one of the figures that it is made of is.
    """

    what: str
    value: float
    reach: float | None = None
    at_least: bool = False
    noisy: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the limit was met; ``None`` if there is none."""
        if self.reach is None:
            return None
        return self.value >= self.reach if self.at_least else self.value <= self.reach


@dataclass
class Results:
    """All results of one call of the benchmarks.

    Attributes:
        records: What was measured.
        ratios: What was compared.
        machine: What it was measured on.
        noises: How quiet the machine was, before and after each step.
    """

    records: list[Record] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    machine: Mapping[str, str] = field(default_factory=lambda: machine())
    noises: list[tuple[str, Noise]] = field(default_factory=list)

    def add(self, record: Record) -> Record:
        """Keeps a record and prints it."""
        self.records.append(record)
        facts = ", ".join(f"{name} {value}" for name, value in record.facts.items())
        print(f"{record.measure}: {record.models} {record.case}: {record.subject}: ", end="")
        print(f"{spread(record.seconds)}{_mark(record.noisy)}; {facts}", flush=True)
        return record

    def compare(self, ratio: Ratio) -> None:
        """Keeps a ratio and prints it."""
        self.ratios.append(ratio)
        print(f"  {ratio.what}: {ratio.value:.3g}{_reach(ratio)}{_mark(ratio.noisy)}", flush=True)

    def exponents(self) -> dict[tuple[str, str, str], float]:
        """Returns how measures grow with the models: ``b`` of ``seconds = a * models ** b``."""
        groups: dict[tuple[str, str, str], list[Record]] = {}
        for record in self.records:
            if record.seconds:
                key = (record.measure, record.case, record.subject)
                groups.setdefault(key, []).append(record)
        return {
            key: fitted_exponent([(record.models, record.median) for record in group])
            for key, group in groups.items()
            if len({record.models for record in group}) > 1
        }

    @property
    def noisy(self) -> list[Record]:
        """What was repeated with another result."""
        return [record for record in self.repeated if record.noisy]

    @property
    def repeated(self) -> list[Record]:
        """What was done more than once."""
        return [record for record in self.records if record.repeats and len(record.seconds) > 1]

    def to_json(self) -> str:
        """Returns the results as JSON."""
        return json.dumps(
            {
                "machine": dict(self.machine),
                "quiet": bool(self.repeated) and not self.noisy,
                "noise": [{"when": when, **asdict(noise)} for when, noise in self.noises],
                "records": [asdict(each) | {"noisy": each.noisy} for each in self.records],
                "ratios": [asdict(ratio) | {"met": ratio.met} for ratio in self.ratios],
                "exponents": [
                    {"measure": m, "case": c, "subject": s, "exponent": round(value, 3)}
                    for (m, c, s), value in self.exponents().items()
                ],
            },
            indent=1,
        )

    def to_markdown(self) -> str:
        """Returns the results as tables for a reader."""
        lines = ["Measured with " + "; ".join(f"{k} {v}" for k, v in self.machine.items()) + "."]
        lines += ["", *self.verdict()]
        lines += ["", "| ratio | measured | to reach | reached |", "| --- | --- | --- | --- |"]
        for ratio in self.ratios:
            answer = {True: "yes", False: "**no**", None: ""}[ratio.met]
            wanted = _reach(ratio).strip(" ()")
            lines.append(
                f"| {ratio.what} | {ratio.value:.3g}{_mark(ratio.noisy)} | {wanted} | {answer} |"
            )
        for measure in dict.fromkeys(record.measure for record in self.records):
            lines += ["", f"### {measure}", "", "| models | case | who | median (spread) | else |"]
            lines.append("| --- | --- | --- | --- | --- |")
            for record in self.records:
                if record.measure == measure:
                    facts = ", ".join(f"{name} {value}" for name, value in record.facts.items())
                    lines.append(
                        f"| {record.models:,} | {record.case} | {record.subject} "
                        f"| {spread(record.seconds)}{_mark(record.noisy)} | {facts} |"
                    )
        lines += ["", "### Growth", "", "`seconds = a * models ** b`; 1 is linear.", ""]
        lines += ["| measure | case | who | b |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {measure} | {case} | {subject} | {value:.2f} |"
            for (measure, case, subject), value in self.exponents().items()
        ]
        return "\n".join(lines) + "\n"

    def verdict(self) -> list[str]:
        """Says whether the call can be called quiet, and how the machine was meanwhile."""
        rows = len(self.repeated)
        verdict = f"A quiet call: the repeats of each of {rows} rows are within 10 %."
        if not self.repeated:
            verdict = "Nothing was repeated, so this call does not say how quiet it was."
        if self.noisy:
            verdict = (
                f"**A noisy call**: the repeats of {len(self.noisy)} of {rows} rows "
                "differ by more than 10 %. They, and the ratios made of them, are marked with ~."
            )
        if not self.noises:
            return [verdict]
        loops = [seconds for _, noise in self.noises for seconds in noise.loop]
        load = max(noise.load for when, noise in self.noises if when.startswith("before"))
        return [
            verdict,
            f"An empty loop between the steps took {spread(loops)}; the load average before a step "
            f"was at most {load:g}.",
        ]

    def write(self, folder: Path, name: str) -> None:
        """Writes both forms to a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(self.to_json() + "\n")
        (folder / f"{name}.md").write_text(self.to_markdown())


def fitted_exponent(points: Sequence[tuple[float, float]]) -> float:
    """Returns the slope of a straight line through the logarithms, by least squares."""
    logs = [(math.log(x), math.log(y)) for x, y in points]
    return statistics.linear_regression(*zip(*logs, strict=True)).slope


def spread(seconds: Sequence[float]) -> str:
    """Returns the median with the least and the most."""
    if not seconds:
        return "failed"
    unit, factor, digits = (
        ("ms", 1000, 0) if max(seconds) < 1 else ("s", 1, 2 if max(seconds) < 20 else 1)
    )
    low, middle, high = (
        f"{value * factor:.{digits}f}"
        for value in (min(seconds), statistics.median(seconds), max(seconds))
    )
    return f"{middle} {unit}" + (f" ({low} to {high})" if len(seconds) > 1 else "")


def _mark(noisy: bool) -> str:
    return " ~" * noisy


def machine() -> dict[str, str]:
    """Returns the machine and the versions of the packages."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**30
    packages = ("dagster", "sqlmesh", "duckdb", "dagster-sqlmesh-automation")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{platform.system()} {platform.machine()}, {_processor()}",
        "cores": str(os.cpu_count()),
        "memory": f"{memory} GB",
        "Python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


def _reach(ratio: Ratio) -> str:
    if ratio.reach is None:
        return ""
    return f" ({'at least' if ratio.at_least else 'at most'} {ratio.reach:g})"
