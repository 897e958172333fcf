"""What the README and the documentation say is so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import get_commands

from ingestion.records import RECORD_TYPES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def _own_commands() -> set[str]:
    return {name for name, app in get_commands().items() if app == "ingestion"}


def test_every_command_is_in_the_readme_and_every_one_there_exists():
    section = README.partition("## Commands")[2].partition("\n## ")[0]
    named = set(re.findall(r"^\| `([a-z_]+)(?: [^`]*)?` \|", section, re.MULTILINE))
    assert named == _own_commands()


def test_every_make_target_that_a_page_names_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    written = re.compile(r"(?:`|^)make ([a-z]+)", re.MULTILINE)
    named = {word for page in PAGES for word in written.findall(page.read_text())}
    assert named <= targets
    assert {"run", "test", "demo", "lint"} <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def test_every_place_in_the_table_exists():
    rows = re.findall(r"^\| (`[^|]+) \|", README.partition("## The structure")[2], re.MULTILINE)
    for row in rows:
        first, *others = re.findall(r"`([^`]+)`", row)
        folder = (ROOT / first).parent
        assert (ROOT / first).exists(), first
        for other in others:
            assert (folder / other).exists() or (ROOT / other).exists(), other


def test_every_setting_that_a_page_names_exists():
    known = set(re.findall(r"^#([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)(?:=[^`]*)?`", page.read_text()))
        assert named <= known | {"RECORD_TYPES", "PIP_INDEX_URL", "PIP_NO_INDEX"}, page.name


def test_the_first_request_gets_the_answer_that_the_readme_shows(post, store):
    request, answer = re.findall(
        r"-d '(.+?)'\n|```json\n(\{\"success.+?\})\n```", README, re.DOTALL
    )
    response = post("/api/sessions", json.loads(request[0]))
    assert response.status_code == 201
    shown = json.loads(answer[1])
    real = response.json()
    assert {**real, "timestamp": None} == {**shown, "timestamp": None}
    (message,) = store.lrange(RECORD_TYPES["sessions"].queue, 0, -1)
    for key in ("data", "queued_at", "queue", "id", "source"):
        assert f'"{key}"' in README
        assert key in json.loads(message)


def test_the_changelog_has_the_version_that_runs_and_a_part_for_what_comes_next():
    found = re.findall(
        r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", PAGES[1].read_text(), re.MULTILINE
    )
    (first, undated), *released = found
    assert (first, undated) == ("Unreleased", "")
    assert released[0][0] == settings.VERSION
    assert all(day for _, day in released)
