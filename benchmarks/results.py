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

OURS = "this package"
SQLMESH = "S: sqlmesh run"
DAGSTER = "D: empty Dagster steps"
CONNECTED = "D': the same, connected"
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
    """

    measure: str
    case: str
    subject: str
    models: int
    seconds: Sequence[float]
    facts: Mapping[str, Any] = field(default_factory=dict)

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
    """

    what: str
    value: float
    reach: float | None = None
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the limit was met; ``None`` if there is none."""
        if self.reach is None:
            return None
        return self.value >= self.reach if self.at_least else self.value <= self.reach


@dataclass
class Results:
    """All results of one run of the benchmarks."""

    records: list[Record] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    machine: Mapping[str, str] = field(default_factory=lambda: machine())

    def add(self, record: Record) -> Record:
        """Keeps a record and prints it."""
        self.records.append(record)
        facts = ", ".join(f"{name} {value}" for name, value in record.facts.items())
        print(f"{record.measure}: {record.models} {record.case}: {record.subject}: ", end="")
        print(f"{spread(record.seconds)}; {facts}", flush=True)
        return record

    def compare(self, ratio: Ratio) -> None:
        """Keeps a ratio and prints it."""
        self.ratios.append(ratio)
        print(f"  {ratio.what}: {ratio.value:.3g}{_reach(ratio)}", flush=True)

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

    def to_json(self) -> str:
        """Returns the results as JSON."""
        return json.dumps(
            {
                "machine": dict(self.machine),
                "records": [asdict(record) for record in self.records],
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
        lines += ["", "| ratio | measured | to reach | reached |", "| --- | --- | --- | --- |"]
        for ratio in self.ratios:
            answer = {True: "yes", False: "**no**", None: ""}[ratio.met]
            wanted = _reach(ratio).strip(" ()")
            lines.append(f"| {ratio.what} | {ratio.value:.3g} | {wanted} | {answer} |")
        for measure in dict.fromkeys(record.measure for record in self.records):
            lines += ["", f"### {measure}", "", "| models | case | who | median (spread) | else |"]
            lines.append("| --- | --- | --- | --- | --- |")
            for record in self.records:
                if record.measure == measure:
                    facts = ", ".join(f"{name} {value}" for name, value in record.facts.items())
                    lines.append(
                        f"| {record.models:,} | {record.case} | {record.subject} "
                        f"| {spread(record.seconds)} | {facts} |"
                    )
        lines += ["", "### Growth", "", "`seconds = a * models ** b`; 1 is linear.", ""]
        lines += ["| measure | case | who | b |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {measure} | {case} | {subject} | {value:.2f} |"
            for (measure, case, subject), value in self.exponents().items()
        ]
        return "\n".join(lines) + "\n"

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
