"""A paused queue takes nothing, until it is resumed or its time is over."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from ingestion import queues
from ingestion.outcomes import QueuePausedError
from ingestion.queues import Pause
from tests.record_types import TUTORS
from tests.test_queue_messages import KEYS, QUEUE, detail, left, push


def test_a_paused_queue_takes_nothing_until_it_is_resumed(store):
    pause = Pause(reason="The consumer is moved", by="otto", since=datetime.now(UTC))
    queues.pause_queue(QUEUE, pause)
    with pytest.raises(QueuePausedError) as caught:
        push(1)
    assert (caught.value.reason, caught.value.code) == ("The consumer is moved", "queue_paused")
    assert caught.value.retry_after_seconds == 60
    assert detail().summary.pause == pause
    queues.push(QUEUE, [], rejected=1)  # a rejection needs no room
    assert queues.resume_queue(QUEUE)
    assert not queues.resume_queue(QUEUE)
    pushed = push(1)
    assert (left(store), detail().summary.pause) == (pushed, None)


def test_a_pause_ends_by_itself_and_holds_one_queue_alone(store):
    until = datetime.now(UTC) + timedelta(seconds=60)
    queues.pause_queue(
        QUEUE, Pause(reason="short", by="otto", since=datetime.now(UTC), until=until)
    )
    queues.push(TUTORS.queue, [b"1"])
    with pytest.raises(QueuePausedError) as caught:
        push(1)
    assert 1 <= caught.value.retry_after_seconds <= 60
    assert store.expiretime(KEYS.pause) == int(until.timestamp())
    store.pexpire(KEYS.pause, 1)  # its time ends
    deadline = time.monotonic() + 120
    while detail().summary.pause:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert push(1) == left(store)
