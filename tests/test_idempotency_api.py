"""The Idempotency-Key header: a request may be repeated, and is queued once."""

from __future__ import annotations

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.test import Client, RequestFactory

from ingestion.api.intake_views import RecordView
from tests.record_types import TUTORS

EXAMPLE = dict(TUTORS.serializer_class.example)
KEY = "8e03978e-40d5-43e8-bc93-6894a57f9324"


def keyed(key: str = KEY) -> dict[str, str]:
    return {"Idempotency-Key": key}


def test_a_repeated_record_is_answered_byte_for_byte_and_queued_once(post, store):
    first = post("/api/tutors", EXAMPLE, **keyed())
    again = post("/api/tutors", EXAMPLE, **keyed())
    assert first.status_code == again.status_code == 201
    assert first.content == again.content
    assert "Idempotent-Replayed" not in first
    assert again["Idempotent-Replayed"] == "true"
    assert store.llen(TUTORS.queue) == 1
    assert store.hget(f"{{{TUTORS.queue}}}:totals", "accepted") == b"1"


def test_a_repeated_batch_is_answered_byte_for_byte_with_its_rejections(post, store):
    batch = [EXAMPLE, {**EXAMPLE, "age": 3}, {**EXAMPLE, "tutor_id": "t-2"}]
    first = post("/api/tutors/batch", batch, **keyed())
    again = post("/api/tutors/batch", batch, **keyed())
    assert (first.status_code, first.content) == (207, again.content)
    assert store.llen(TUTORS.queue) == 2
    assert store.hget(f"{{{TUTORS.queue}}}:totals", "rejected") == b"1"


def test_a_refused_record_is_remembered_too(post, store):
    first = post("/api/tutors", {}, **keyed())
    again = post("/api/tutors", {}, **keyed())
    assert (first.status_code, first.content) == (422, again.content)
    assert again["Idempotent-Replayed"] == "true"
    assert store.hget(f"{{{TUTORS.queue}}}:totals", "rejected") == b"1"


def test_a_long_answer_takes_little_room_in_the_store(post, store):
    """The most expensive answer: the request is 71 bytes of gzip, and the queue does not grow."""
    batch = [{}] * 10_000
    first = post("/api/tutors/batch", batch, **keyed())
    again = post("/api/tutors/batch", batch, **keyed())
    assert (first.status_code, first.content) == (422, again.content)
    assert again["Idempotent-Replayed"] == "true"
    (key,) = store.keys("*:answer:*")
    assert len(first.content) > 900_000
    assert store.memory_usage(key) < 50_000


def test_a_replay_names_the_first_request_in_its_body_and_itself_in_its_header(post, store):
    first = post("/api/tutors", {}, **keyed(), **{"X-Request-ID": "first"})
    again = post("/api/tutors", {}, **keyed(), **{"X-Request-ID": "second"})
    assert (first["X-Request-ID"], first.json()["request_id"]) == ("first", "first")
    assert (again["X-Request-ID"], again.json()["request_id"]) == ("second", "first")


def test_without_a_key_each_request_is_a_new_one(post, store):
    post("/api/tutors", EXAMPLE)
    post("/api/tutors", EXAMPLE)
    assert store.llen(TUTORS.queue) == 2


@pytest.mark.parametrize(
    "other", [{**EXAMPLE, "age": 30}, {}], ids=["another valid record", "one that is not valid"]
)
def test_the_same_key_with_another_body_is_refused_and_nothing_is_queued(post, store, other):
    post("/api/tutors", EXAMPLE, **keyed())
    answer = post("/api/tutors", other, **keyed())
    assert answer.status_code == 422
    assert answer.json()["code"] == "key_reused"
    assert store.llen(TUTORS.queue) == 1


def test_the_body_counts_as_it_unpacks(post, store):
    post("/api/tutors", EXAMPLE, **keyed())
    packed = gzip.compress(json.dumps(EXAMPLE).encode())
    again = post("/api/tutors", packed, **keyed(), **{"Content-Encoding": "gzip"})
    assert again["Idempotent-Replayed"] == "true"
    assert store.llen(TUTORS.queue) == 1


def test_strict_makes_another_request_of_the_same_body(post, store):
    post("/api/tutors/batch", [EXAMPLE], **keyed())
    assert post("/api/tutors/batch?strict=true", [EXAMPLE], **keyed()).json()["code"] == (
        "key_reused"
    )


def test_the_address_may_move_between_two_tries(store):
    """API_PREFIX was changed, and the sender tries again at the new address."""
    view = RecordView.as_view(record_type=TUTORS)
    answers = []
    for prefix in ("/api", "/v1/records"):
        request: Any = RequestFactory(headers=keyed()).post(
            f"{prefix}/tutors", EXAMPLE, content_type="application/json"
        )
        request.request_id, request.log_facts = "x", {}
        answers.append(view(request))
    assert answers[1]["Idempotent-Replayed"] == "true"
    assert answers[0].content == answers[1].content
    assert store.llen(TUTORS.queue) == 1


def test_a_key_counts_for_one_address(post, store):
    post("/api/tutors", EXAMPLE, **keyed())
    assert post("/api/tutors/batch", [EXAMPLE], **keyed()).status_code == 201
    assert store.llen(TUTORS.queue) == 2


@pytest.mark.parametrize("key", ["", " ", "a b", "ä", "x" * 256, "tab\tbed"])
def test_a_key_that_is_none_is_refused(post, store, key):
    answer = post("/api/tutors", EXAMPLE, **keyed(key))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_key")
    assert store.llen(TUTORS.queue) == 0


def test_a_fault_is_not_remembered(post, store, settings):
    store.lpush(TUTORS.queue, "one")
    settings.QUEUE_LIMIT = 1
    assert post("/api/tutors", EXAMPLE, **keyed()).status_code == 503
    settings.QUEUE_LIMIT = 10
    answer = post("/api/tutors", EXAMPLE, **keyed())
    assert answer.status_code == 201
    assert "Idempotent-Replayed" not in answer


def test_an_answer_is_remembered_for_the_time_that_is_set_and_no_longer(post, store, settings):
    settings.IDEMPOTENCY_SECONDS = 3600
    post("/api/tutors", EXAMPLE, **keyed())
    (key,) = store.keys("*:answer:*")
    assert 3590 <= store.ttl(key) <= 3600
    assert KEY.encode() not in key
    store.delete(key)  # as if the time had passed
    post("/api/tutors", EXAMPLE, **keyed())
    assert store.llen(TUTORS.queue) == 2


@pytest.mark.slow
def test_many_at_once_with_one_key_have_one_effect_and_one_answer(store):
    body = json.dumps(EXAMPLE)

    def send(_: int) -> bytes:
        answer = Client().post(
            "/api/tutors", body, content_type="application/json", headers=keyed()
        )
        assert answer.status_code == 201
        return answer.content

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(send, range(64)))
    assert len(set(answers)) == 1
    assert store.llen(TUTORS.queue) == 1
