"""GET of the queues' numbers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from ingestion.records import RECORD_TYPES

STATS = "/api/queue/stats"
LABELS = [record_type.queue_label for record_type in RECORD_TYPES.values()]
EMPTY = {"depth": 0, "oldest_age_seconds": None, "accepted": 0, "rejected": 0}


def test_it_works(client, store):
    answer = client.get(STATS)
    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == ["timestamp", "queues", "detail"]
    assert body["timestamp"].endswith("Z")
    assert LABELS[:3] == ["tutors", "sessions", "feedbacks"]
    assert body["queues"] == dict.fromkeys(LABELS, 0)
    assert body["detail"] == {
        label: {"queue": f"tutormax:queue:{label}", **EMPTY} for label in LABELS
    }


def test_what_is_accepted_and_rejected_is_counted_on_its_queue_alone(client, post, record_type):
    example = dict(record_type.serializer_class.example)
    assert post(f"/api/{record_type.path}", example).status_code == 201
    assert post(f"/api/{record_type.path}", {}).status_code == 422
    assert post(f"/api/{record_type.path}/batch", [example, {}, example, None]).status_code == 207
    body = client.get(STATS).json()
    label = record_type.queue_label
    numbers = body["detail"].pop(label)
    assert 0 <= numbers.pop("oldest_age_seconds") < 60
    assert numbers == {"queue": record_type.queue, "depth": 3, "accepted": 3, "rejected": 3}
    assert body["queues"] == dict.fromkeys(LABELS, 0) | {label: 3}
    assert all(entry.items() >= EMPTY.items() for entry in body["detail"].values())


def test_a_strict_refusal_counts_the_bad_records_and_accepts_none(client, post):
    example = dict(RECORD_TYPES["tutors"].serializer_class.example)
    assert post("/api/tutors/batch?strict=true", [example, {}]).status_code == 422
    numbers = client.get(STATS).json()["detail"]["tutors"]
    assert (numbers["accepted"], numbers["rejected"]) == (0, 1)


def test_the_age_is_that_of_the_message_that_is_taken_next(client, store):
    queue = RECORD_TYPES["sessions"].queue
    for age_seconds in (7200, 60):
        queued_at = datetime.now(UTC) - timedelta(seconds=age_seconds)
        store.lpush(queue, json.dumps({"data": {}, "queued_at": queued_at.isoformat()}))
    assert 7200 <= client.get(STATS).json()["detail"]["sessions"]["oldest_age_seconds"] < 7260
    store.rpop(queue)
    assert 60 <= client.get(STATS).json()["detail"]["sessions"]["oldest_age_seconds"] < 120


def test_totals_stay_when_messages_are_taken(client, post, store):
    example = dict(RECORD_TYPES["tutors"].serializer_class.example)
    post("/api/tutors", example)
    store.rpop(RECORD_TYPES["tutors"].queue)
    numbers = client.get(STATS).json()["detail"]["tutors"]
    assert (numbers["depth"], numbers["accepted"]) == (0, 1)
    assert numbers["oldest_age_seconds"] is None


def test_a_message_that_is_not_ours_has_no_age_and_breaks_nothing(client, store):
    store.lpush(RECORD_TYPES["tutors"].queue, b"\xff not ours")
    numbers = client.get(STATS).json()["detail"]["tutors"]
    assert (numbers["depth"], numbers["oldest_age_seconds"]) == (1, None)


def test_without_the_store_there_are_no_numbers(no_store, client):
    answer = client.get(STATS)
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unreachable")
    assert int(answer["Retry-After"]) > 0
