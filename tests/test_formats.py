"""A new format is one module and one entry: everything that handles files finds it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from redis import Redis

from ingestion.files import limited
from ingestion.files.registry import FORMATS
from ingestion.models import Upload
from ingestion.records import RECORD_TYPES
from tests.staff import member, signed_in
from tests.test_upload_pages import at, session, upload, words, work
from tests.toy_format import Toy

SESSIONS = RECORD_TYPES["sessions"]
ROOT = Path(__file__).resolve().parent.parent

pytestmark = [pytest.mark.processes, pytest.mark.django_db]


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Client:
    """A browser of an uploader, in a portal that has the format."""
    monkeypatch.setitem(FORMATS, Toy.name, Toy())
    monkeypatch.setattr(limited, "_CHILD", "tests.toy_format")
    return signed_in(member("Uploader"))


def toy(mark: str, *records: dict[str, Any]) -> bytes:
    rows = [list(records[0]), *([_text(cell) for cell in one.values()] for one in records)]
    return "".join(f"{line}\n" for line in ["%toy", *map(mark.join, rows)]).encode()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def ids(store: Redis) -> list[str]:
    messages = map(json.loads, store.lrange(SESSIONS.queue, 0, -1)[::-1])
    return [message["data"]["session_id"] for message in messages]


def check(browser: Client, one: Upload, **choices: str) -> str:
    """Answer the check page; returns its text."""
    page = browser.get(at("upload-check", one))
    form = page.context["form"]
    sent = {name: form[name].value() or "" for name in form.fields}
    assert browser.post(at("upload-check", one), {**sent, **choices}).status_code == 302
    work(one)
    return words(page)


def upload_and_check(browser: Client, content: bytes) -> Upload:
    one = upload(browser, content)
    asked = check(browser, one, record_type="sessions", mark="^", look="yes")
    assert "Toy, separated by wave, column names in line 2." in asked
    assert "Which mark parts the cells of a toy." in asked
    assert "Toy, separated by roof" in check(browser, one)
    return one


def test_its_files_go_from_upload_by_check_and_error_file_to_the_queue(
    browser: Client, store: Redis
) -> None:
    one = upload_and_check(browser, toy("^", session(1), session(2, duration_minutes=999)))
    review = words(browser.get(at("upload", one)))
    assert "Ready 1 + Need fixing 1" in review
    assert "Toy, separated by roof" in review
    error_file = browser.get(at("upload-to-fix", one))
    assert 'filename="may-to-fix.toy"' in error_file["Content-Disposition"]
    content = error_file.getvalue()
    first, header, row = content.splitlines()
    assert (first, header.split(b"^")[-2:]) == (b"%toy", [b"_line", b"_problem"])
    assert b"^4^duration_minutes: Must be at most 300." in row
    corrected = upload_and_check(browser, content.replace(b"^999^", b"^60^"))
    assert corrected.parent == one
    for each in (one, corrected):
        assert browser.post(at("upload-queue", each)).status_code == 302
        work(each)
    assert ids(store) == ["s_1", "s_2"]


def test_the_pages_name_it_and_offer_its_template(browser: Client, store: Redis) -> None:
    address = reverse("admin:template", args=[SESSIONS, Toy.name])
    for page in (reverse("admin:upload-new"), reverse("admin:guide", args=[SESSIONS])):
        assert f'href="{address}"' in browser.get(page).text
    assert "CSV, Excel (.xlsx), JSON, NDJSON or Toy" in words(
        browser.get(reverse("admin:upload-new"))
    )
    template = browser.get(address)
    assert template["Content-Type"] == Toy.media_type
    lines = template.content.decode().splitlines()
    assert lines[1].split("~") == list(SESSIONS.serializer_class().fields)
    assert len(lines) == 4


def test_the_command_takes_it(browser: Client, store: Redis, tmp_path: Path) -> None:
    file = tmp_path / "records"
    file.write_bytes(toy("~", session(1), session(2)))
    call_command("ingest", str(file), stdout=io.StringIO())
    assert ids(store) == ["s_1", "s_2"]


def test_no_command_loads_openpyxl_before_it_meets_a_workbook() -> None:
    """It takes longer to load than most commands to run."""
    code = (
        "import sys, django; django.setup(); import tutormax.urls, ingestion.management.commands."
        "ingest; sys.exit('openpyxl' in sys.modules)"
    )
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
