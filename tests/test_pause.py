"""A pause is a rule of the intake: it holds for every way in."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from ingestion import queues
from ingestion.outcomes import Code, QueuePausedError
from ingestion.queues import Pause
from ingestion.records import RECORD_TYPES
from tests.record_types import TUTORS

EXAMPLE = dict(TUTORS.serializer_class.example)


def pause(**facts: Any) -> None:
    queues.pause_queue(
        TUTORS.queue,
        Pause(reason="The pipeline moves house.", by="otto", since=datetime.now(UTC), **facts),
    )


def test_the_api_answers_503_with_the_reason_and_when_to_come_back(post, store):
    pause(until=datetime.now(UTC) + timedelta(minutes=10))
    answer = post("/api/tutors", EXAMPLE)
    assert answer.status_code == 503
    assert answer.json()["code"] == "queue_paused"
    assert "The pipeline moves house." in answer.json()["error"]
    assert 590 <= int(answer["Retry-After"]) <= 600
    assert store.llen(TUTORS.queue) == 0


def test_other_queues_go_on(post, store):
    pause()
    example = RECORD_TYPES["sessions"].serializer_class.example
    assert post("/api/sessions", example).status_code == 201


def test_a_record_that_is_not_valid_is_told_so_all_the_same(post, store):
    pause()
    assert post("/api/tutors", {}).status_code == 422


@pytest.mark.slow
def test_the_command_says_why_and_queues_nothing(store, tmp_path):
    pause()
    file = tmp_path / "tutors.json"
    file.write_text(json.dumps([EXAMPLE]))
    with pytest.raises(CommandError, match="paused"):
        call_command("ingest", str(file), stdout=StringIO(), stderr=StringIO())
    assert store.llen(TUTORS.queue) == 0


def test_a_resumed_queue_takes_records_again(post, store):
    pause()
    assert queues.resume_queue(TUTORS.queue)
    assert post("/api/tutors", EXAMPLE).status_code == 201
    assert not queues.resume_queue(TUTORS.queue)


def test_a_pause_ends_by_itself(post, store):
    pause(until=datetime.now(UTC) + timedelta(hours=1))
    (key,) = store.keys("*:pause")
    assert 3590 <= store.ttl(key) <= 3600


def test_a_pause_set_by_hand_holds_too(store):
    store.set(f"{{{TUTORS.queue}}}:pause", "lunch")
    with pytest.raises(QueuePausedError) as caught:
        queues.push(TUTORS.queue, [b"{}"])
    assert caught.value.code is Code.QUEUE_PAUSED
    (summary,) = queues.summaries([TUTORS.queue])
    assert summary.pause is not None
