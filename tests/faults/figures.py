"""The results of the fault campaigns, and the table of docs/reliability.md that shows them."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.machine import machine

LONG = os.environ.get("FAULTS") == "long"
PAGE = Path(__file__).parent.parent.parent / "docs" / "reliability.md"

_TABLE = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- /figures -->)", re.DOTALL)
_HEAD = """\
| # | fault | trials | acknowledged | lost | doubled | the same without the protection |
|---|---|--:|--:|--:|--:|---|
"""


def count(*, short: int, long: int) -> int:
    """How many trials a campaign makes: `short` with the other tests, `long` by `make faults`."""
    return long if LONG else short


in_long_form = pytest.mark.skipif(not LONG, reason="takes long: `make faults` runs it")
"""For a control that is slow, and shows the same as its campaign with fewer trials."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The result of one campaign.

    `trials` is how often the fault happened. `acknowledged` is how many records or messages the
    sender was told are safe, noted outside the system. `lost` is how many of those are missing, and
    `doubled` how many are there more than once. A campaign without acknowledged records leaves
    these out, and its remark gives the result.
    """

    trials: int
    acknowledged: int | None = None
    lost: int | None = None
    doubled: int | None = None


@dataclass(kw_only=True, slots=True)
class _Row:
    fault: str = ""
    outcome: Outcome | None = None
    remark: str = ""
    controls: list[str] = field(default_factory=list)


class Figures:
    """The outcomes of a run, by the number of the fault."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}

    def add(self, number: str, fault: str, outcome: Outcome, *, remark: str = "") -> None:
        """Note the result of the product for a fault like R1; `remark` adds its own figures."""
        row = self._rows.setdefault(number, _Row())
        row.fault, row.outcome, row.remark = fault, outcome, remark
        sys.stdout.write(f"\n{number} {outcome} {remark}\n")

    def add_control(self, number: str, without: str, outcome: Outcome | None = None) -> None:
        """Note the result of the same campaign without the protection; `without` names it.

        If no records were counted, `without` is the whole remark.
        """
        text = without
        if outcome:
            text += f": {outcome.lost:,} lost, {outcome.doubled:,} doubled"
            text += f" of {outcome.acknowledged:,}"
        self._rows.setdefault(number, _Row()).controls.append(text)
        sys.stdout.write(f"\n{number} control, {text}\n")

    def write(self) -> None:
        """Replace the table in the page."""
        lines = [_line(number, self._rows[number]) for number in sorted(self._rows, key=_order)]
        when = f"\nMeasured on {datetime.now(UTC):%Y-%m-%d}; {machine()}.\n"
        PAGE.write_text(_TABLE.sub(lambda _: _HEAD + "".join(lines) + when, PAGE.read_text()))


def _line(number: str, row: _Row) -> str:
    assert row.outcome is not None, f"{number} has a control alone"
    one = row.outcome
    fault = f"{row.fault}; {row.remark}" if row.remark else row.fault
    numbers = (one.trials, one.acknowledged, one.lost, one.doubled)
    shown = ("-" if value is None else f"{value:,}" for value in numbers)
    cells = (number, fault, *shown, "; ".join(row.controls) or "none")
    return f"| {' | '.join(cells)} |\n"


def _order(number: str) -> tuple[str, int]:
    return number[0], int(re.sub(r"\D", "", number))
