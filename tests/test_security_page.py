"""Tests that exist show the promises of docs/security.md."""

from __future__ import annotations

import re
from pathlib import Path

from django.conf import settings
from django.core.management import get_commands

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "security.md").read_text()
POLICY = (ROOT / "SECURITY.md").read_text()


def test_every_test_that_the_page_names_exists():
    existing = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", file.read_text(), re.MULTILINE)
    }
    assert set(re.findall(r"`(test_\w+)`", PAGE)) - existing == set()


def test_each_of_the_ten_risks_has_a_row_with_a_test():
    rows = re.findall(r"^\| API(\d+) [^|]+\| [^|]+\| `test_[^|]+\|$", PAGE, re.MULTILINE)
    assert rows == [str(number) for number in range(1, 11)]


def test_every_command_that_the_page_names_exists():
    named = set(re.findall(r"(?:manage\.py |or `)([a-z_]+)", PAGE))
    assert {"axes_reset_username", "axes_reset_ip"} <= named
    assert named <= set(get_commands()) | {"check"}


def test_the_running_version_is_a_supported_one():
    assert f"| {settings.VERSION.rpartition('.')[0]} | yes |" in POLICY


def test_the_policy_leads_to_the_page_and_back():
    assert "(docs/security.md)" in POLICY
    assert "(../SECURITY.md)" in PAGE
