"""The upload pages: the steps of a file, the rights of each person, and hostile files."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from redis import Redis

from ingestion import queues
from ingestion.models import Activity, Upload
from ingestion.queues import Pause
from ingestion.uploads import tasks
from tests.record_types import SESSIONS
from tests.staff import member, signed_in
from tests.store_faults import Proxy

State = Upload.State

pytestmark = [pytest.mark.processes, pytest.mark.django_db]


def session(number: int, **changes: Any) -> dict[str, Any]:
    return {**SESSIONS.serializer_class.example, "session_id": f"s_{number}", **changes}


def as_csv(*records: dict[str, Any]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(records[0]))
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


def at(page: str, upload: Upload) -> str:
    return reverse(f"admin:{page}", args=[upload.pk])


@pytest.fixture
def uploader(db: None) -> Client:
    return signed_in(member("Uploader"))


def send(browser: Client, content: bytes, name: str = "may.csv", **fields: str) -> Any:
    file = SimpleUploadedFile(name, content)
    return browser.post(reverse("admin:upload-new"), {"file": file, "record_type": "", **fields})


def upload(browser: Client, content: bytes, **fields: str) -> Upload:
    """Send a file, and let the worker read it as far as it can without an answer."""
    answer = send(browser, content, **fields)
    assert answer.status_code == 302, answer.content.decode()
    one = Upload.objects.latest("pk")
    work(one)
    return one


def work(one: Upload) -> None:
    """Let the worker work until it needs an answer of staff."""
    one.refresh_from_db()
    was_looked_at = one.state == State.INSPECTING
    tasks.advance.call(one.pk)
    one.refresh_from_db()
    if was_looked_at and one.state == State.READING:
        work(one)


def words(answer: Any) -> str:
    """The text that a person reads on the page."""
    text = re.sub(r"<[^>]+>", " ", answer.content.decode())
    return re.sub(r"\s+", " ", text)


# --- the way of a file -------------------------------------------------------------------------


def test_a_file_goes_from_upload_by_review_to_its_receipt(uploader: Client, store: Redis) -> None:
    one = upload(uploader, as_csv(session(1), session(2, duration_minutes=999), session(1)))
    review = uploader.get(at("upload", one))
    assert "Rows read 3 = Ready 1 + Need fixing 1 + Duplicates 1 + Blank 0" in words(review)
    assert "999" in words(review)
    assert "Must be at most 300." in words(review)
    assert uploader.post(at("upload-queue", one)).status_code == 302
    work(one)
    assert store.llen(SESSIONS.queue) == 1
    receipt = words(uploader.get(at("upload", one)))
    assert "Queued 1 of 1 ready Read by consumers 0 Still waiting 1" in receipt
    assert one.sha256 in receipt
    assert [entry.action for entry in Activity.objects.order_by("at")] == ["uploaded", "queued"]
    assert Activity.objects.latest("at").facts == {"rows": 1}


def test_rows_can_be_pasted(uploader: Client) -> None:
    rows = as_csv(session(1, subject="Französisch")).decode()
    answer = uploader.post(reverse("admin:upload-new"), {"rows": rows, "record_type": ""})
    one = Upload.objects.get()
    assert answer["Location"] == at("upload", one)
    work(one)
    assert (one.state, one.rows_ready, one.file_name) == (State.REVIEW, 1, "pasted rows")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"  \n", "The file is empty."),
        (b"%PDF-1.7", "Save the records as .xlsx or CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Excel file"),
        (b"PK\x03\x04 and nothing more", "damaged or protected"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_advice(
    uploader: Client, content: bytes, sentence: str
) -> None:
    one = upload(uploader, content)
    assert one.state == State.FAILED
    page = words(uploader.get(at("upload", one)))
    assert sentence in page
    assert "Change how it is read" not in page
    assert uploader.get(at("upload-check", one))["Location"] == at("upload", one)
    assert uploader.post(at("upload-retry", one)).status_code == 302
    work(one)
    assert one.state == State.FAILED


def test_an_empty_file_is_no_upload(uploader: Client) -> None:
    answer = send(uploader, b"")
    assert answer.status_code == 422
    assert "The submitted file is empty." in words(answer)
    assert not Upload.objects.exists()


def test_a_page_waits_for_the_first_look_and_moves_on_by_itself(uploader: Client) -> None:
    send(uploader, as_csv(session(1)))
    one = Upload.objects.get()
    assert one.state == State.INSPECTING
    page = uploader.get(at("upload", one))
    assert "The file is being checked" in words(page)
    # Without the script that asks for the numbers, the browser loads the page again.
    assert '<noscript><meta http-equiv="refresh"' in page.content.decode()
    assert uploader.get(at("upload-progress", one)).json()["state"] == "inspecting"
    assert uploader.get(at("upload-check", one))["Location"] == at("upload", one)
    work(one)
    assert "http-equiv" not in uploader.get(at("upload", one)).content.decode()


def test_what_is_being_looked_at_can_be_cancelled(uploader: Client) -> None:
    send(uploader, as_csv(session(1)))
    one = Upload.objects.get()
    uploader.post(at("upload-cancel", one))
    work(one)
    assert one.state == State.CANCELLED


def test_another_look_that_fails_leaves_the_first_to_be_answered(uploader: Client) -> None:
    one = upload(uploader, as_csv({"x": "1" * 40, **session(1, scheduled_start="3/4/2026")}))
    assert one.state == State.CHECK
    check = uploader.get(at("upload-check", one))
    form = {name: field.value() or "" for name, field in _bound(check).items()}
    chosen = {**form, "encoding": "utf-16", "look": "yes"}
    assert uploader.post(at("upload-check", one), chosen).status_code == 302
    work(one)
    page = uploader.get(at("upload", one), follow=True)
    assert page.status_code == 200
    assert uploader.get(at("upload-check", one), follow=True).status_code == 200


def test_a_file_that_is_too_large_is_refused(uploader: Client, settings: Any) -> None:
    settings.MAX_UPLOAD_BYTES = 2048
    answer = send(uploader, as_csv(*(session(n) for n in range(20))))
    assert answer.status_code == 422
    assert "larger than 2.0" in words(answer)


def test_neither_file_nor_rows_is_said(uploader: Client) -> None:
    answer = uploader.post(reverse("admin:upload-new"), {"record_type": ""})
    assert "Choose a file, or paste rows." in words(answer)


def test_what_is_not_certain_is_asked_and_the_answer_counts(uploader: Client) -> None:
    record = session(1, scheduled_start="03/04/2026 10:00", actual_start="")
    one = upload(uploader, as_csv(record))
    assert one.state == State.CHECK
    assert uploader.get(at("upload", one))["Location"] == at("upload-check", one)
    check = uploader.get(at("upload-check", one))
    assert "Does the day or the month come first" in words(check)
    form = {name: field.value() for name, field in _bound(check).items()}
    without = uploader.post(at("upload-check", one), {**form, "date_order": ""})
    assert without.status_code == 422
    assert "Say which comes first" in words(without)
    assert uploader.post(at("upload-check", one), {**form, "date_order": "day"}).status_code == 302
    work(one)
    assert (one.state, one.rows_ready) == (State.REVIEW, 1)
    assert "day first in dates" in words(uploader.get(at("upload", one)))


def _bound(answer: Any) -> dict[str, Any]:
    form = answer.context["form"]
    return {name: form[name] for name in form.fields}


def test_another_delimiter_shows_the_columns_anew(uploader: Client) -> None:
    one = upload(uploader, b"a note, and another\n1;2\n")
    check = uploader.get(at("upload-check", one))
    form = {name: field.value() or "" for name, field in _bound(check).items()}
    chosen = {**form, "record_type": "sessions", "delimiter": ";", "header_line": "2"}
    uploader.post(at("upload-check", one), chosen)
    work(one)
    assert one.state == State.CHECK
    found = uploader.get(at("upload-check", one)).context["found"]
    assert [column.name for column in found.columns] == ["1", "2"]


@pytest.mark.parametrize(
    "content",
    [
        b"na\x81me,email\nfoo,b\n",
        b"tutor_id,name\nt1,M\x81ller\n",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    ],
    ids=["header", "cell", "picture"],
)
def test_bytes_that_are_no_text_break_no_page(uploader: Client, content: bytes) -> None:
    one = upload(uploader, content)
    for page in ("upload", "upload-check"):
        assert uploader.get(at(page, one), follow=True).status_code == 200
    assert uploader.post(at("upload-check", one), {"date_order": ""}).status_code in (302, 422)
    work(one)
    assert uploader.get(at("upload", one), follow=True).status_code == 200
    if one.state == State.FAILED:  # with advice
        return
    assert uploader.post(at("upload-cancel", one)).status_code == 302
    one.refresh_from_db()
    assert one.state == Upload.State.CANCELLED


def test_no_two_columns_are_one_field(uploader: Client) -> None:
    one = upload(uploader, as_csv({"x": 1, "y": 2, **session(1, scheduled_start="3/4/2026")}))
    form = {
        name: field.value() or ""
        for name, field in _bound(uploader.get(at("upload-check", one))).items()
    }
    chosen = {**form, "date_order": "day", "column-0": "subject", "column-1": "subject"}
    answer = uploader.post(at("upload-check", one), chosen)
    assert answer.status_code == 422
    assert "“x” is already this field." in words(answer)


def test_the_receipt_says_how_many_were_fixed_since(uploader: Client, store: Redis) -> None:
    parent = upload(uploader, as_csv(*(session(n, duration_minutes=999) for n in range(3))))
    answer: Any = uploader.get(at("upload-to-fix", parent))
    content = b"".join(answer.streaming_content)
    child = upload(uploader, content.replace(b"999", b"60", 2))
    uploader.post(at("upload-queue", child))
    work(child)
    assert "2 of 3 fixed" in words(uploader.get(at("upload", parent)))
    assert f"upload {parent.pk}" in words(uploader.get(at("upload", child)))


def test_the_same_file_again_is_noticed_and_linked(uploader: Client) -> None:
    first, second = (upload(uploader, as_csv(session(1))) for _ in range(2))
    page = uploader.get(at("upload", second))
    assert "The same file was uploaded before" in words(page)
    assert f'href="{at("upload", first)}"' in page.content.decode()


def test_the_moving_numbers_are_given_to_the_page(uploader: Client, store: Redis) -> None:
    one = upload(uploader, as_csv(*(session(n) for n in range(2500))))
    uploader.post(at("upload-queue", one))
    moving = uploader.get(at("upload-progress", one)).json()
    assert (moving["state"], moving["running"], moving["percent"]) == ("queueing", True, 0)
    work(one)
    for _ in range(500):
        store.rpop(SESSIONS.queue)
    still = uploader.get(at("upload-progress", one)).json()
    assert [still[name] for name in ("state", "queued", "read", "waiting_rows", "moving")] == [
        "done",
        "2,500",
        "500",
        "2,000",
        True,
    ]


def test_an_upload_that_waits_says_what_for_and_that_it_goes_on_by_itself(
    uploader: Client, store: Redis
) -> None:
    one = upload(uploader, as_csv(session(1)))
    uploader.post(at("upload-queue", one))
    pause = Pause(reason="Consumer update", by="otto", since=datetime.now(UTC))
    queues.pause_queue(SESSIONS.queue, pause)
    work(one)
    said = words(uploader.get(at("upload", one)))
    why = "the queue sessions is paused by otto (“Consumer update”)"
    assert f"0 of 1 rows queued Waiting: {why}. It continues by itself." in said
    queues.resume_queue(SESSIONS.queue)
    # The worker has not looked again; until then the page shows its words.
    waiting = uploader.get(at("upload-progress", one)).json()["waiting"]
    assert waiting == "Waiting: the queue is paused: Consumer update. It continues by itself."
    work(one)
    assert uploader.get(at("upload-progress", one)).json()["waiting"] == ""


def test_a_receipt_is_shown_while_the_store_is_away(uploader: Client, no_store: None) -> None:
    one = upload(uploader, as_csv(session(1)))
    Upload.objects.update(state="done", confirmed_at=one.read_at, rows_queued=1, places=[[0, 1]])
    said = words(uploader.get(at("upload", one)))
    assert "Still waiting unknown" in said
    assert said.count("The store does not answer") == 1


def test_rows_are_recalled_by_who_may(uploader: Client, store: Redis) -> None:
    one = upload(uploader, as_csv(*(session(n) for n in range(5))))
    uploader.post(at("upload-queue", one))
    work(one)
    store.rpop(SESSIONS.queue)
    operator = signed_in(member("Operator"))
    answer = operator.post(at("upload-recall", one), {"reason": "Wrong month"}, follow=True)
    assert "4 rows were taken off the queue." in words(answer)
    assert store.llen(SESSIONS.queue) == 0
    entry = Activity.objects.get(action="recalled")
    assert (entry.reason, entry.facts) == ("Wrong month", {"rows": 4})


def test_a_recall_whose_answer_is_lost_is_noted_as_unknown(
    uploader: Client, store: Redis, proxy: Proxy
) -> None:
    one = upload(uploader, as_csv(session(1)))
    uploader.post(at("upload-queue", one))
    work(one)
    proxy.cuts = 1
    answer = signed_in(member("Operator")).post(at("upload-recall", one), follow=True)
    assert "It is unknown whether this was done: look at the upload" in words(answer)
    assert Activity.objects.get(action="recalled").facts == {"outcome": "unknown"}


def test_all_uploads_are_listed_with_search_and_filters(uploader: Client) -> None:
    upload(uploader, as_csv(session(1)))
    upload(uploader, as_csv(session(2, duration_minutes=999)))
    listing = reverse("admin:uploads")
    assert words(uploader.get(listing)).count("may.csv") == 2
    assert "No results" in words(uploader.get(listing, {"q": "june"}))
    assert words(uploader.get(listing, {"state__exact": "review"})).count("may.csv") == 2
    assert "No upload" in words(uploader.get(listing, {"state__exact": "done"}))


# --- rights ------------------------------------------------------------------------------------

ACTIONS = ("upload-queue", "upload-cancel", "upload-fix", "upload-retry", "upload-check")


@pytest.mark.parametrize("group", ["Viewer", "Operator"])
def test_staff_who_may_not_upload_are_refused_every_action(group: str, uploader: Client) -> None:
    one = upload(uploader, as_csv(session(1, duration_minutes=999)))
    other = signed_in(member(group))
    assert other.get(reverse("admin:upload-new")).status_code == 403
    assert send(other, as_csv(session(1))).status_code == 403
    for action in ACTIONS:
        assert other.post(at(action, one)).status_code == 403, action
    page = other.get(at("upload", one)).content.decode()
    assert "<form" not in page.split("<main", 1)[1].split("</main")[0]


def test_an_uploader_sees_the_uploads_of_others_and_acts_on_their_own_alone(
    uploader: Client,
) -> None:
    one = upload(uploader, as_csv(session(1, duration_minutes=999, subject="Canary")))
    User.objects.filter(username="uploader").update(username="first")
    other = signed_in(member("Uploader"))
    for action in ACTIONS:
        assert other.post(at(action, one)).status_code == 403, action
    for file in ("upload-original", "upload-to-fix"):
        assert other.get(at(file, one)).status_code == 403
    page = other.get(at("upload", one))
    assert page.status_code == 200
    assert "Must be at most 300." in words(page)
    assert "Canary" not in page.content.decode()
    assert "999" not in words(page)
    one.refresh_from_db()
    assert one.state == State.REVIEW


def test_an_admin_acts_on_all_uploads(uploader: Client, store: Redis) -> None:
    one = upload(uploader, as_csv(session(1), session(2, duration_minutes=999)))
    admin = signed_in(member("Admin"))
    errors: Any = admin.get(at("upload-to-fix", one))
    assert b"session_id" in b"".join(errors.streaming_content)
    admin.post(at("upload-queue", one))
    work(one)
    assert one.rows_queued == 1
    assert Activity.objects.get(action="queued").user_name == "admin"


def test_only_an_uploaders_right_is_not_enough_to_recall(uploader: Client, store: Redis) -> None:
    one = upload(uploader, as_csv(session(1)))
    assert uploader.post(at("upload-recall", one)).status_code == 403


def test_what_changes_something_is_never_a_get(uploader: Client) -> None:
    one = upload(uploader, as_csv(session(1)))
    for action in ("upload-queue", "upload-cancel", "upload-retry"):
        assert uploader.get(at(action, one)).status_code == 405


def test_a_form_of_another_site_changes_nothing(uploader: Client) -> None:
    one = upload(uploader, as_csv(session(1)))
    strict = signed_in(User.objects.get(username="uploader"), enforce_csrf_checks=True)
    for action in (*ACTIONS, "upload-recall"):
        assert strict.post(at(action, one)).status_code == 403
    assert send(strict, as_csv(session(1))).status_code == 403
    one.refresh_from_db()
    assert one.state == State.REVIEW


# --- what no file can do -----------------------------------------------------------------------

HARM = '<script>alert(1)</script><img src=x onerror="alert(1)">'


def test_html_in_names_columns_and_cells_stays_text(uploader: Client) -> None:
    rows = [
        {**session(1, duration_minutes=HARM), HARM: HARM},
        {**session(2, subject=HARM), HARM: HARM},
    ]
    send(uploader, as_csv(*rows), name=f"{HARM.replace('/', '')}.csv")
    one = Upload.objects.get()
    work(one)
    for address in (at("upload", one), at("upload-check", one), at("upload-fix", one)):
        assert HARM[:8] not in uploader.get(address).content.decode().split("<main", 1)[1]
    assert HARM[:8] not in uploader.get(reverse("admin:uploads")).content.decode().split("<main")[1]


@pytest.mark.parametrize("which", ["upload-original", "upload-to-fix"])
def test_files_are_downloads_and_never_pages(uploader: Client, which: str) -> None:
    send(uploader, as_csv(session(1, duration_minutes=999)), name='a"\r\nSet-Cookie: x=1;.html')
    one = Upload.objects.get()
    work(one)
    answer: Any = uploader.get(at(which, one))
    assert b"".join(answer.streaming_content)
    assert answer["Content-Disposition"].startswith("attachment;")
    assert "\n" not in answer["Content-Disposition"]
    assert "Set-Cookie" not in answer.headers
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("page", ["upload", "upload-check", "upload-progress", "upload-original"])
def test_an_upload_that_is_not_there_is_not_found(uploader: Client, page: str) -> None:
    assert uploader.get(reverse(f"admin:{page}", args=[999])).status_code == 404
