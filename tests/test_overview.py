"""The portal's first page: the state of every queue."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings

from ingestion import intake, queues
from ingestion.consumer import Consumer
from ingestion.decoding import Row
from ingestion.models import Upload
from ingestion.portal.queues import last_known
from ingestion.queues import Pause
from ingestion.records import RECORD_TYPES
from ingestion.sources import Source
from tests import store_address
from tests.record_types import FEEDBACK, SESSIONS, TUTORS
from tests.staff import member, signed_in
from tests.store_faults import Proxy
from tests.test_consumer import KEYS, QUEUE, bury, end_lease
from tests.test_queue_messages import message

KEPT = Path(settings.DATA_DIR) / "last-overview.json"


@pytest.fixture(autouse=True)
def _nothing_known():
    """No earlier test has left an overview."""
    KEPT.unlink(missing_ok=True)


@pytest.fixture
def browser(db):
    """A browser of a person who may only view pages."""
    return signed_in(member("Viewer"))


def words(answer):
    """The page's text, without its markup."""
    return " ".join(re.sub(r"<[^>]*>", " ", answer.content.decode()).split())


def queued(record_type, count=1, *, age_seconds=0.0):
    at = datetime.now(UTC) - timedelta(seconds=age_seconds)
    queues.push(record_type.queue, [message(number, at=at) for number in range(count)])


def test_it_works(browser, store):
    queued(SESSIONS, 1234, age_seconds=250)
    answer = browser.get("/admin/")
    assert answer.status_code == 200
    said = words(answer)
    assert "Sessions Nothing is reading 1,234 4 min 10 s" in said
    assert "Tutors Flowing 0 none waits" in said
    assert "Is the consumer running?" in said
    assert answer.text.count("<progress max") == len(RECORD_TYPES)


def test_every_record_type_has_its_row_lines_and_numbers(browser, store, record_type):
    queued(record_type, 7)
    answer = browser.get("/admin/")
    assert f'href="/admin/queues/{record_type.path}/"' in answer.text
    name = record_type.path.capitalize()
    assert f"<title>{name}: depth of the last 60 minutes, at most 7</title>" in answer.text
    assert f'aria-label="{name}, minute by minute"' in answer.text
    assert answer.text.count("<tr><td><time") == 60 * len(RECORD_TYPES)


def test_a_queue_that_is_late_is_named_on_top(browser, store):
    assert "Late:" not in words(browser.get("/admin/"))
    queued(TUTORS, age_seconds=3600 + 660)
    queued(SESSIONS, age_seconds=3500)
    said = words(browser.get("/admin/"))
    assert re.search(r"of tutors has waited 1 h 11 min, 11 min( \d+ s)? too long", said)
    assert "oldest message of sessions" not in said


def test_a_pause_is_told_with_its_reason_and_who_set_it(browser, store):
    pause = Pause(reason="Moving <b>house</b>", by="otto", since=datetime.now(UTC))
    queues.pause_queue(FEEDBACK.queue, pause)
    answer = browser.get("/admin/")
    assert "Feedback Paused" in words(answer)
    assert "otto paused it: “Moving &lt;b&gt;house&lt;/b&gt;”" in answer.text


# --- Who takes from the queues -----------------------------------------------------------------


def test_without_consumers_and_dead_letters_nothing_is_said_of_them(browser, store):
    queued(SESSIONS, 3)
    answer = browser.get("/admin/")
    said = words(answer)
    assert 'class="readers"' not in answer.text
    assert not re.search("in flight|consumers?,|lapsed|dead letter", said)


def test_consumers_messages_in_flight_and_dead_letters_are_told_beside_their_queue(browser, store):
    bury(message(1), message(2))
    queued(SESSIONS, 9)
    with Consumer(QUEUE) as one, Consumer(QUEUE), Consumer(TUTORS.queue):
        one.claim(3)
        answer = browser.get("/admin/")
    said = words(answer)
    assert "2 consumers, 3 in flight 2 dead letters" in said
    assert '<a href="/admin/queues/sessions/dead/">2 dead letters</a>' in answer.text
    assert said.count("1 consumer ") == 1  # the consumer of tutors, which holds nothing
    assert said.count("in flight") == 1


def test_a_consumer_whose_lease_ran_out_is_told(browser, store):
    queued(SESSIONS, 9)
    with Consumer(QUEUE) as consumer:
        consumer.claim(4)
        end_lease(store, consumer)
        said = words(browser.get("/admin/"))
        assert "1 consumer lapsed, 4 in flight" in said
        with Consumer(QUEUE, lease_seconds=3600):
            said = words(browser.get("/admin/"))
        assert "1 consumer, 4 in flight 1 consumer lapsed" in said


def test_a_consumer_that_hangs_is_named_if_nothing_is_read(browser, store):
    queued(SESSIONS, 9, age_seconds=400)
    with Consumer(QUEUE) as consumer:
        store.lpush(KEYS.claimed(consumer.name), message(1))
        said = words(browser.get("/admin/"))
        assert "Sessions Nothing is reading 9" in said
        assert f"{consumer.name} is alive and holds 1 message: see what it does." in said


def test_rejections_are_shown_by_type_and_cause(browser, store):
    assert "No rejections" in words(browser.get("/admin/"))
    bad = {**TUTORS.serializer_class.example, "email": "nope"}
    intake.queue(
        intake.receive(TUTORS, [Row(value=bad), Row(value=bad), Row(value={})]),
        source=Source(client="crm"),
    )
    answer = browser.get("/admin/")
    assert "Tutors 14 problems required 12 invalid_email 2" in words(answer)
    assert '?type=tutors&amp;code=invalid_email"' in answer.text


def test_ones_own_last_five_uploads_are_shown(browser, store, db):
    assert "You have not uploaded anything" in words(browser.get("/admin/"))
    own, other = browser.get("/admin/").wsgi_request.user, member("Admin")
    for number in range(6):
        for user in (own, other):
            Upload.objects.create(
                file_name=f"{user.username}-{number}.csv",
                size_bytes=1,
                sha256="0" * 64,
                uploaded_by=user,
            )
    said = words(browser.get("/admin/"))
    assert [n for n in range(6) if f"viewer-{n}.csv" in said] == [1, 2, 3, 4, 5]
    assert "admin-" not in said


def test_the_store_tells_how_it_is(browser, store):
    said = words(browser.get("/admin/"))
    info = store.info()
    assert f"Version {info.get('valkey_version') or info['redis_version']}" in said
    assert "Every record is on the disk before it is acknowledged" in said
    assert re.search(r"Memory \d+\.\d MB, no limit set", said)


def test_a_store_that_takes_nothing_says_so_beside_its_numbers(browser, store):
    queued(SESSIONS, 3)
    store.replicaof("127.0.0.1", "1")  # no server is there
    try:
        said = words(browser.get("/admin/"))
    finally:
        store.replicaof("NO", "ONE")
    assert (
        "The store takes no writes at the moment. Until this is corrected, nothing can be queued."
        in said
    )
    assert "Sessions Flowing 3" in said


def test_a_store_that_keeps_records_less_safely_than_promised_says_so(browser, store):
    store.config_set("appendfsync", "everysec")
    try:
        said = words(browser.get("/admin/"))
    finally:
        store.config_set("appendfsync", "always")
    assert "Records are not kept as safely as promised. The store flushes" in said
    assert "Store less safe than promised" in said
    assert "On the disk every second: a power cut may lose the last one" in said


def test_a_key_of_another_type_is_told_and_the_other_queues_are_shown(browser, store):
    store.set(TUTORS.queue, "not a list")
    queued(SESSIONS, 2)
    said = words(browser.get("/admin/"))
    assert "Tutors Unreachable" in said
    assert f"not a list is at the key {TUTORS.queue}" in said
    assert "Sessions Flowing 2" in said


# --- The store is away -------------------------------------------------------------------------


@pytest.fixture
def gone(settings, tmp_path):
    """Takes the store away when it is called."""

    def go() -> None:
        nowhere = f"unix://{tmp_path}/no.sock"
        store_address.use(settings, nowhere)

    return go


def test_while_the_store_is_away_the_last_known_numbers_are_shown_and_never_zeros(
    browser, store, gone
):
    queued(SESSIONS, 1234, age_seconds=250)
    browser.get("/admin/")
    gone()
    answer = browser.get("/admin/")
    assert answer.status_code == 200
    said = words(answer)
    assert re.search(r"the last known ones, as of \d\d:\d\d:\d\d \.", said)
    assert "Sessions Unreachable 1,234 4 min 10 s" in said
    assert said.count("Unreachable") == len(RECORD_TYPES)
    assert 'class="card stale"' in answer.text


def test_the_last_known_consumers_are_shown_while_the_store_is_away(browser, store, gone):
    bury(message(1))
    with Consumer(QUEUE):
        browser.get("/admin/")
    gone()
    assert "1 consumer 1 dead letter" in words(browser.get("/admin/"))
    assert "1 consumer" not in words(browser.get("/admin/queues/tutors/"))
    assert "alive" in words(browser.get("/admin/queues/sessions/"))


def test_an_overview_of_another_day_says_which(browser, store, gone):
    browser.get("/admin/")
    kept = KEPT.read_text()
    year = f"{datetime.now(UTC):%Y}"
    KEPT.write_text(re.sub(r'"at":"[^"]*"', f'"at":"{year}-01-02T03:04:05Z"', kept, count=1))
    gone()
    assert "as of 03:04:05 on 2 January" in words(browser.get("/admin/"))


def test_no_numbers_are_invented_if_the_store_never_answered(browser, no_store):
    answer = browser.get("/admin/")
    assert answer.status_code == 200
    said = words(answer)
    assert "The store does not answer. No numbers are known yet." in said
    assert said.count("Unreachable unknown unknown unknown unknown") == len(RECORD_TYPES)
    assert "durability unknown" in said.lower()
    assert "No rejections" not in said


def test_what_another_version_left_of_the_overview_is_no_trouble(browser, no_store):
    KEPT.write_text('{"at": "2024')
    assert last_known.last_known() is None
    assert browser.get("/admin/").status_code == 200


def test_an_overview_that_cannot_be_kept_is_shown_all_the_same(browser, store, log):
    KEPT.mkdir()
    os.utime(KEPT, (0, 0))
    try:
        assert browser.get("/admin/").status_code == 200
    finally:
        KEPT.rmdir()
    assert any("overview_not_kept" in line for line in log())


# --- What a page costs -------------------------------------------------------------------------


def talk(proxy: Proxy, browser, path):
    """Who used the connection to the store while the page was made."""
    proxy.patient = True
    proxy.heard.clear()
    assert browser.get(path).status_code == 200
    turns = [speaker for speaker, _ in proxy.heard]
    return [one for at, one in enumerate(turns) if at == 0 or turns[at - 1] != one]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "round_trips"),
    [
        ("/admin/", 1),
        ("/admin/queues/sessions/", 1),
        ("/admin/queues/sessions/?order=newest&page=7", 1),
        ("/admin/queues/sessions/?id=s1", 1),
        ("/admin/queues/sessions/dead/", 3),
        ("/admin/queues/sessions/dead/?order=newest&page=7", 3),
        ("/admin/rejections/", 1),
    ],
)
def test_a_page_costs_the_same_round_trips_whatever_the_queue_holds(
    browser, store, proxy, path, round_trips
):
    store.lpush(KEYS.dead, message(1))
    browser.get(path)  # now the connection exists
    empty = talk(proxy, browser, path)
    filler = [message(1)] * 1000
    for record_type in RECORD_TYPES.values():
        pipeline = store.pipeline(transaction=False)
        for _ in range(100 if record_type is SESSIONS and path == "/admin/" else 10):
            pipeline.lpush(record_type.queue, *filler)
        pipeline.execute()
    # Every page of dead letters holds some.
    store.lpush(KEYS.dead, *(message(number) for number in range(1000)))
    for number in range(20):
        store.zadd(KEYS.leases, {f"consumer-{number}": 2**45})
        store.lpush(KEYS.claimed(f"consumer-{number}"), *filler)
    assert store.llen(SESSIONS.queue) == (100_000 if path == "/admin/" else 10_000)
    full = talk(proxy, browser, path)
    assert len(empty) <= len(full) == 2 * round_trips


# --- For scripts -------------------------------------------------------------------------------


def test_the_controls_of_the_refresh_are_there_and_need_no_script(browser, store):
    answer = browser.get("/admin/")
    assert '<a class="button compact" href="/admin/" data-refresh-now>' in answer.text
    assert re.findall(r'<option value="(\d+)"', answer.text) == ["0", "5", "15", "60"]
    assert "data-live" in answer.text
