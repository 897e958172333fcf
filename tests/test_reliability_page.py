"""docs/reliability.md leaves no fault of the list out, and names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "reliability.md").read_text()
CAMPAIGNS = "".join(file.read_text() for file in (TESTS / "faults").glob("test_*.py"))

FAULTS = {
    f"{kind}{number}"
    for kind, last in {"R": 8, "I": 3, "C": 2, "B": 2, "P": 5, "S": 7}.items()
    for number in range(1, last + 1)
} | {"A1", "A2", "A5"}
SHOWN_BY_TESTS = re.findall(
    r"^\| ([A-Z]\d) \| [^|]+ \| [^|]+ \| `test_\w+`(?:, `test_\w+`)* \|$", PAGE, re.MULTILINE
)


def noted(call: str) -> set[str]:
    """The faults of the campaigns that note a figure by this call."""
    return set(re.findall(rf'figures\.{call}\(\s*"(\w+)"', CAMPAIGNS))


def test_every_test_that_the_page_names_exists():
    existing = {
        name
        for file in TESTS.rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", file.read_text(), re.MULTILINE)
    }
    assert set(re.findall(r"`(test_\w+)`", PAGE)) - existing == set()


def test_every_fault_is_shown_by_tests_or_counted_by_a_campaign():
    assert noted("add") | set(SHOWN_BY_TESTS) >= FAULTS


def test_no_fault_is_shown_twice_by_tests():
    assert len(SHOWN_BY_TESTS) == len(set(SHOWN_BY_TESTS))


def test_every_campaign_has_a_control():
    assert noted("add") - noted("add_control") == set()


def test_there_is_one_place_for_the_table_of_figures():
    assert re.findall("<!--.*?-->", PAGE) == ["<!-- figures -->", "<!-- /figures -->"]
