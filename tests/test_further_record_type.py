"""A new record type is one serializer and one entry, and all code finds it."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.attacker import Browser
from tests.portal_process import ROOT, Portal, running_portal

pytestmark = pytest.mark.processes

SERIALIZER = '''

class InvoiceSerializer(RecordSerializer):
    """An invoice to a student."""

    invoice_id = Identifier(help_text="The invoice's id.")
    cents = Integer(min_value=1, help_text="What is owed.", other_names=("amount",))
    due_at = IsoDateTime(required=False, help_text="When it is due.")

    example = {"invoice_id": "invoice-1", "cents": 250, "due_at": "2024-05-14T15:00:00"}
'''
ENTRY = """    RecordType(
        path="invoices",
        title="invoice",
        queue="tutormax:queue:bills",
        id_field="invoice_id",
        serializer_class=InvoiceSerializer,
    ),
)
"""
EXAMPLE = {"invoice_id": "invoice-1", "cents": 250, "due_at": "2024-05-14T15:00:00"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with one more record type."""
    tree = tmp_path_factory.mktemp("project") / "tree"
    tree.mkdir()
    for name in ("manage.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tree)
    for name in ("ingestion", "tutormax", "templates"):
        shutil.copytree(ROOT / name, tree / name)
    serializers = tree / "ingestion" / "serializers.py"
    serializers.write_text(serializers.read_text() + SERIALIZER)
    records = tree / "ingestion" / "records.py"
    before, close, after = records.read_text().partition("\n)\n\nRECORD_TYPES")
    assert close
    imported = before.replace(
        "FeedbackSerializer,\n", "FeedbackSerializer,\n    InvoiceSerializer,\n", 1
    )
    records.write_text(f"{imported}\n{ENTRY}\nRECORD_TYPES{after}")
    return tree


@pytest.fixture(scope="module")
def portal(tree: Path) -> Iterator[Portal]:
    with running_portal(tree / "var", root=tree) as portal:
        yield portal


@pytest.fixture
def browser(portal: Portal) -> Browser:
    browser = Browser(portal.address)
    account = {"username": "admin", "password": portal.password}
    assert browser.post("/admin/login/", account).status == 302
    return browser


def manage(tree: Path, *arguments: str, **variables: str) -> str:
    """The output of a command, which must succeed."""
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=tree,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tutormax.settings",
            "DATA_DIR": str(tree / "var"),
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_needs_no_migration_and_the_schema_is_sound(tree: Path) -> None:
    manage(tree, "makemigrations", "--check", "--dry-run")
    manage(tree, "spectacular", "--validate", "--fail-on-warn", "--file", os.devnull)


def test_it_is_generated_into_files(tree: Path, tmp_path: Path) -> None:
    manage(tree, "generate", "--output", str(tmp_path), "--format", "ndjson", "--invoices", "3")
    made = [json.loads(line) for line in (tmp_path / "invoices.ndjson").read_text().splitlines()]
    assert len({one["invoice_id"] for one in made}) == 3
    assert all({**one, "invoice_id": "invoice-1"} == EXAMPLE for one in made)


def test_the_demo_sends_it_and_shows_its_queue(tree: Path, portal: Portal) -> None:
    told = manage(tree, "generate", "--demo", PORT=str(portal.port))
    assert "10 invoices: 5 one by one, 5 as a batch; 10 accepted" in told
    assert re.search(r"tutormax:queue:bills\t[0-9]+\t", told)


def test_it_is_found_in_the_api(portal: Portal) -> None:
    def post(path: str, value: object) -> tuple[int, Any]:
        answer = portal.post(path, value)
        return answer.status, answer.json()

    before = portal.get("/api/queue/stats").json()["detail"]["bills"]
    one, none = post("/api/invoices", EXAMPLE), post("/api/invoices", {**EXAMPLE, "cents": 0})
    assert (one[0], one[1]["id"]) == (201, "invoice-1")
    assert (none[0], none[1]["errors"][0]["field"]) == (422, "cents")
    status, batch = post("/api/invoices/batch", [EXAMPLE, {}])
    assert (status, batch["count"]) == (207, 1)
    endpoints = portal.get("/").json()["endpoints"]
    assert endpoints["invoices"] == "/api/invoices"
    assert endpoints["invoices_batch"] == "/api/invoices/batch"
    stats = portal.get("/api/queue/stats").json()
    assert list(stats["queues"]) == ["tutors", "sessions", "feedbacks", "bills"]
    after = stats["detail"]["bills"]
    assert after["queue"] == "tutormax:queue:bills"
    grown = {name: after[name] - before[name] for name in ("depth", "accepted", "rejected")}
    assert grown == {"depth": 2, "accepted": 2, "rejected": 2}
    metrics = portal.get("/metrics").data.decode()
    assert f'tutormax_queue_depth{{queue="bills"}} {after["depth"]}.0' in metrics
    schema = portal.get("/openapi.json").json()
    (shape,) = schema["paths"]["/api/invoices"]["post"]["requestBody"]["content"].values()
    name = shape["schema"]["$ref"].rpartition("/")[2]
    assert schema["components"]["schemas"][name]["properties"].keys() == EXAMPLE.keys()
    assert "/api/invoices/batch" in schema["paths"]


def test_a_key_may_be_good_for_it_alone(tree: Path, portal: Portal, browser: Browser) -> None:
    key = manage(tree, "api_key", "create", "billing", "--scope", "invoices").strip()
    count = ("--invoices", "1", "--key", key, "--post", portal.address)
    manage(tree, "generate", "--type", "invoices", *count)
    assert 'value="invoices"' in browser.get("/admin/keys/new/").text


def test_it_has_its_pages_and_sample_files(portal: Portal, browser: Browser) -> None:
    for path in ("guide/invoices/", "enter/invoices/", "queues/invoices/"):
        page = browser.get(f"/admin/{path}")
        assert page.status == 200, path
        assert "nvoices" in page.text, path
    overview = browser.get("/admin/").text
    assert "Invoices" in overview
    assert portal.post("/api/invoices", {"cents": 0}).status == 422
    assert 'href="/admin/rejections/invoices/' in browser.get("/admin/rejections/").text
    assert 'value="invoices"' in browser.get("/admin/upload/").text
    sample = browser.get("/admin/templates/invoices.csv").text
    assert next(csv.reader(io.StringIO(sample.removeprefix("\ufeff")))) == list(EXAMPLE)
    assert browser.get("/admin/templates/invoices.ndjson").status == 200
    entered = browser.post("/admin/enter/invoices/", {"invoice_id": "invoice-7", "cents": "9"})
    assert entered.status == 302, entered.text


def upload(portal: Portal, browser: Browser, content: bytes) -> str:
    """The address of an upload that has been read."""
    sent = browser.post("/admin/upload/", {"record_type": ""}, ("may.csv", content))
    assert sent.status == 302, sent.text
    address = sent.location.removesuffix("check/")
    portal.wait_for(lambda: '"running": false' in browser.get(f"{address}progress").text)
    return address


def test_its_sample_file_can_be_uploaded_and_queued(portal: Portal, browser: Browser) -> None:
    sample = browser.get("/admin/templates/invoices.csv").text.encode()
    depth = portal.get("/api/queue/stats").json()["queues"]["bills"]
    address = upload(portal, browser, sample)
    assert browser.post(f"{address}queue/", {}).status == 302
    portal.wait_for(lambda: portal.get("/api/queue/stats").json()["queues"]["bills"] == depth + 2)


def test_a_file_of_it_is_known_by_the_other_names_of_its_columns(
    portal: Portal, browser: Browser
) -> None:
    address = upload(portal, browser, b"Invoice ID,Amount\nfile-1,5\nfile-2,0\n")
    check = browser.get(f"{address}check/").text
    assert re.search(r'<option value="invoices" selected|value="invoices"[^>]* checked', check)


def test_the_commands_know_it(tree: Path, portal: Portal, tmp_path: Path) -> None:
    file = tmp_path / "invoices.ndjson"
    file.write_text(json.dumps({**EXAMPLE, "invoice_id": "by-command"}) + "\n")
    manage(tree, "ingest", str(file))
    assert "by-command" in manage(tree, "peek_queue", "invoices", "--newest", "--json", "--payload")
