"""A client's quota of records a minute: who is over it waits, everybody else does not notice."""

from __future__ import annotations

import gzip
import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from ingestion import queues
from ingestion.queues.keys import quota_key
from tests.record_types import FEEDBACK, SESSIONS, TUTORS

TUTOR = dict(TUTORS.serializer_class.example)
QUEUE = TUTORS.queue
MINUTE = 60_000


@pytest.fixture
def quota(settings):
    """A quota that refills by one record in twelve seconds."""
    settings.CLIENT_RECORDS_PER_MINUTE = 5


def refill(store, milliseconds, client="local"):
    """What the client has used refills for this long."""
    key = quota_key(client)
    written(store, key, *(float(one) - milliseconds for one in store.get(key).split()))


def written(store, key, used_until, at):
    """Write what is used up until when, and when that was so."""
    store.set(key, f"{used_until:.3f} {at:.0f}", keepttl=True)


def charge(client, records, per_minute=5):
    return queues.charge(client, records, per_minute=per_minute)


# --- What a client sees ------------------------------------------------------------------------


def test_it_works(post, store, quota):
    answers = [post("/api/tutors", TUTOR) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [201] * 5 + [429]
    refused = answers[-1]
    assert refused.json()["code"] == "quota_exceeded"
    assert 1 <= int(refused["Retry-After"]) <= 12
    assert store.llen(QUEUE) == 5


def test_every_answer_tells_what_is_left(post, quota):
    answers = [post("/api/tutors", TUTOR) for _ in range(6)]
    assert {answer["RateLimit-Policy"] for answer in answers} == {'"records";q=5;w=60'}
    left = [re.fullmatch(r'"records";r=(\d);t=(\d+)', answer["RateLimit"]) for answer in answers]
    assert [int(one[1]) for one in left] == [4, 3, 2, 1, 0, 0]
    assert all(1 <= int(one[2]) <= 60 for one in left)


def test_without_a_quota_nothing_is_counted_or_told(post, store, settings):
    assert settings.CLIENT_RECORDS_PER_MINUTE == 0
    answer = post("/api/tutors", TUTOR)
    assert answer.status_code == 201
    assert "RateLimit" not in answer
    assert "RateLimit-Policy" not in answer
    assert not store.keys("*quota*")


def test_one_client_over_its_quota_leaves_its_neighbour_alone(store, client, settings):
    settings.CLIENT_RECORDS_PER_MINUTE = 5
    body = json.dumps([TUTOR] * 5)

    def send(*, everybody):
        settings.OPEN_WITHOUT_KEY = everybody  # two clients: anonymous, and this machine
        return client.post("/api/tutors/batch", body, "application/json").status_code

    assert [send(everybody=True) for _ in range(3)] == [201, 429, 429]
    assert [send(everybody=False) for _ in range(2)] == [201, 429]
    assert store.llen(QUEUE) == 10


def test_the_records_of_all_types_count_together(post, quota):
    for record_type, status in ((TUTORS, 201), (SESSIONS, 201), (FEEDBACK, 429)):
        example = dict(record_type.serializer_class.example)
        assert post(f"/api/{record_type.path}/batch", [example] * 2).status_code == status


def test_a_batch_counts_by_its_records_refused_ones_too(post, quota):
    assert post("/api/tutors/batch", [TUTOR, {}, {}]).status_code == 207
    assert post("/api/tutors", {}).status_code == 422
    answer = post("/api/tutors", TUTOR)
    assert (answer.status_code, answer["RateLimit"].partition(";t")[0]) == (201, '"records";r=0')


def test_lines_count_like_an_array_and_blank_ones_too(post, quota):
    line = json.dumps(TUTOR).encode()
    for lines, status in ((line, 201), (b"\n\n" + line, 201), (line + b"\n\n\n", 429)):
        assert post("/api/tutors/batch", lines, "application/x-ndjson").status_code == status


@pytest.mark.parametrize("packed", [False, True])
def test_a_body_counts_by_its_size_if_that_is_more(post, quota, packed):
    """White space, long texts and fields that are dropped are work too."""
    body = json.dumps(TUTOR).encode().ljust(3 * 8192)
    headers = {"Content-Encoding": "gzip"} if packed else {}
    if packed:
        body = gzip.compress(body)
    for left in (2, 2):
        answer = post("/api/tutors", body, **headers)
        assert answer["RateLimit"].startswith(f'"records";r={left}')
    assert answer.status_code == 429


def test_what_is_over_the_quota_is_not_judged(post, store, quota):
    assert post("/api/tutors/batch", [TUTOR] * 5).status_code == 201
    answer = post("/api/tutors/batch", [{}] * 5)
    assert answer.status_code == 429
    assert "errors" not in answer.json()
    assert not store.keys("*causes*")


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (b"{", 4),
        (b"[]", 4),
        (b"[" + b" " * 8192 * 2, 2),
        (b"[{}, {}, {}, {}, {}, {}]", 4),
    ],
    ids=["no JSON", "no record", "long", "too many"],
)
def test_what_cannot_be_read_costs_by_its_size(post, settings, quota, body, left):
    settings.MAX_BATCH_RECORDS = 5
    answer = post("/api/tutors/batch", body)
    assert answer.status_code in (400, 413)
    assert answer["RateLimit"].startswith(f'"records";r={left}')


def test_reading_numbers_costs_nothing(client, post, store, quota):
    assert post("/api/tutors/batch", [TUTOR] * 5).status_code == 201
    assert client.get("/api/queue/stats").status_code == 200


def test_the_schema_tells_of_the_refusal_and_the_headers(client):
    schema = client.get("/openapi.json").json()
    for path in ("/api/tutors", "/api/tutors/batch"):
        answer = schema["paths"][path]["post"]["responses"]["429"]
        assert {"RateLimit", "RateLimit-Policy", "Retry-After"} <= set(answer["headers"])


# --- How it is counted -------------------------------------------------------------------------


def test_the_quota_refills_all_the_time(post, store, quota):
    assert post("/api/tutors/batch", [TUTOR] * 5).status_code == 201
    assert post("/api/tutors", TUTOR).status_code == 429
    refill(store, MINUTE / 5)
    assert post("/api/tutors", TUTOR).status_code == 201
    assert post("/api/tutors", TUTOR).status_code == 429


def test_after_the_wait_that_was_told_the_same_request_passes(store):
    charge("crm", 5)
    wait = charge("crm", 3).wait_seconds
    assert 24 <= wait <= 36
    refill(store, wait * 1000, "crm")
    assert charge("crm", 3).wait_seconds == 0


def test_a_refusal_is_not_charged(store):
    charge("crm", 4)
    assert charge("crm", 2).wait_seconds > 0
    assert charge("crm", 2).wait_seconds > 0
    assert charge("crm", 1).wait_seconds == 0


def test_a_batch_larger_than_the_quota_passes_once_and_is_paid_off(store):
    assert charge("crm", 50).wait_seconds == 0
    assert charge("crm", 1).left == 0
    refill(store, 9 * MINUTE, "crm")
    assert charge("crm", 1).wait_seconds > 0
    refill(store, MINUTE, "crm")
    assert charge("crm", 50).wait_seconds == 0


def test_a_clock_of_the_store_that_is_set_back_prolongs_no_wait(store):
    charge("crm", 5)
    key = quota_key("crm")
    hour = 3_600_000
    written(store, key, *(float(one) + hour for one in store.get(key).split()))  # an hour ahead
    assert 1 <= charge("crm", 1).wait_seconds <= 12
    refill(store, 12_000 + hour, client="crm")
    assert charge("crm", 1).wait_seconds == 0


@pytest.mark.parametrize("per_minute", [1, 7, 59, 60, 6000, 7001, 10**9])
def test_the_whole_quota_can_be_used_and_no_more(store, per_minute):
    half = per_minute // 2
    if half:
        assert charge("crm", half, per_minute).wait_seconds == 0
    assert charge("crm", per_minute - half, per_minute).wait_seconds == 0
    assert charge("crm", per_minute, per_minute).wait_seconds > 0


def test_many_at_once_never_get_more_than_the_quota(store):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: charge("crm", 1).wait_seconds, range(40)))
    assert found.count(0) == 5


def test_it_is_forgotten_once_all_of_it_is_free(store):
    charge("crm", 3)
    assert 0 < store.pttl(quota_key("crm")) <= MINUTE


def test_it_costs_one_round_trip_and_none_without_a_quota(post, store, settings):
    def scripts_run():
        post("/api/tutors", TUTOR)
        store.config_resetstat()
        post("/api/tutors", TUTOR)
        return {
            name: stats["calls"]
            for name, stats in store.info("commandstats").items()
            if name.startswith("cmdstat_eval")
        }

    assert scripts_run() == {"cmdstat_evalsha": 1}
    settings.CLIENT_RECORDS_PER_MINUTE = 100
    assert scripts_run() == {"cmdstat_evalsha": 2}


def test_without_the_store_nothing_is_said_to_be_queued(no_store, client, quota):
    answer = client.post("/api/tutors", TUTOR, "application/json")
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unreachable")
    assert "outcome" not in answer.json()


def test_a_charge_whose_answer_is_lost_leaves_no_doubt_about_the_records(
    client,
    store,
    quota,
    proxy,
):
    """They were not sent to the store yet."""
    charge("crm", 1)
    proxy.cuts = 1
    answer = client.post("/api/tutors", TUTOR, "application/json")
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unreachable")
    assert "outcome" not in answer.json()
    assert int(answer["Retry-After"]) > 0
    assert proxy.cuts == 0
    assert not store.exists(QUEUE)


@pytest.mark.parametrize("per_minute", [1, 59_999, 10**6, 10**9])
def test_every_quota_that_can_be_set_can_be_charged(store, per_minute):
    for _ in range(3):
        assert charge("crm", 1, per_minute=per_minute).per_minute == per_minute
