"""The results of the attacks, as a table for the terminal and for docs/security.md."""

from __future__ import annotations

import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from tests.machine import machine

LONG = os.environ.get("ATTACKS") == "long"
PAGE = Path(__file__).parent.parent.parent / "docs" / "security.md"

_TABLE = re.compile(r"(?<=<!-- attacks -->\n).*?(?=<!-- /attacks -->)", re.DOTALL)
_HEAD = "| attack | tries | what was seen |\n|---|--:|---|\n"


def count(*, short: int, long: int) -> int:
    """How many tries an attack makes: `short` with the other tests, `long` by `make attacks`."""
    return long if LONG else short


class Table:
    """The attacks of a run, in the order in which they ended."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, attack: str, tries: int, seen: str) -> None:
        """Note an attack that the portal withstood."""
        line = f"| {attack} | {tries:,} | {seen} |\n"
        self._lines.append(line)
        sys.stdout.write(f"\n{line}")

    def write(self) -> None:
        """Print the table, and replace the one in the page."""
        when = f"\nMeasured on {datetime.now(UTC):%Y-%m-%d}; {machine()}.\n"
        text = _HEAD + "".join(sorted(self._lines)) + when
        sys.stdout.write(f"\n{text}")
        PAGE.write_text(_TABLE.sub(lambda _: text, PAGE.read_text()))
