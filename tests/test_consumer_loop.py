"""The life of a consumer: failed messages are tried again, and bad ones become dead letters."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from ingestion import embedded, queues
from ingestion.consumer import consume
from ingestion.outcomes import StoreError
from ingestion.queues import consumption, dead_letters
from tests.test_consumer import KEYS, QUEUE, eventually, fill, waiting


@pytest.fixture
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestion.consumer._FIRST_BACKOFF_SECONDS", 0.001)


@pytest.mark.usefixtures("_no_backoff")
def test_a_bad_message_in_a_batch_takes_no_other_one_with_it(store):
    messages = [b"%d" % number for number in range(10)]
    fill(*messages)
    seen = []

    def deliver(batch: Any) -> None:
        if b"4" in batch:
            raise ValueError("four")
        seen.extend(batch)

    tally = consume(QUEUE, deliver, stopping=threading.Event(), batch_size=5, drain=True)
    assert seen == [one for one in messages if one != b"4"]
    assert (tally.done, tally.failed, tally.dead) == (9, 9, 1)
    (letter,) = dead_letters(QUEUE, first=0, count=5)
    assert (letter.message.raw, letter.reason) == (b"4", "ValueError: four")


@pytest.mark.usefixtures("_no_backoff")
def test_a_message_that_ends_the_process_counts_as_failed(store):
    fill(b"1")

    def deliver(batch: Any) -> None:
        raise SystemExit(3)

    assert consume(QUEUE, deliver, stopping=threading.Event(), drain=True).dead == 1


def test_a_failed_message_is_held_before_it_is_tried_again_and_a_stop_cuts_that_short(store):
    fill(b"1")
    stopping = threading.Event()
    held_meanwhile = []

    def look() -> None:
        held_meanwhile.append(consumption([QUEUE])[0].in_flight)
        stopping.set()

    looking = threading.Timer(0.3, look)

    def deliver(batch: Any) -> None:
        looking.start()
        raise ValueError

    tally = consume(QUEUE, deliver, stopping=stopping)
    looking.join()
    assert (held_meanwhile, tally.failed, waiting(store)) == ([1], 1, [b"1"])
    assert list(store.hvals(KEYS.attempts)) == [b"1"]


class Stopping(threading.Event):
    """Notes how long each wait was."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        return super().wait(timeout)


@pytest.mark.usefixtures("_no_backoff")
def test_a_message_is_held_twice_as_long_after_each_attempt_and_not_after_the_last(store):
    fill(b"1")
    stopping = Stopping()

    def deliver(batch: Any) -> None:
        raise ValueError

    consume(QUEUE, deliver, stopping=stopping, drain=True)
    assert stopping.waits == [0.001, 0.002, 0.004, 0.008]


@pytest.mark.processes
def test_the_loop_waits_through_an_outage_of_the_store(use_store, tmp_path):
    stopping = threading.Event()
    seen = []

    def deliver(batch: Any) -> None:
        seen.extend(batch)

    use_store(embedded.url(tmp_path))
    with embedded.running(tmp_path):
        fill(b"before")
        consuming = threading.Thread(target=lambda: consume(QUEUE, deliver, stopping=stopping))
        consuming.start()
        eventually(lambda: seen == [b"before"])
    time.sleep(1)
    with embedded.running(tmp_path):
        eventually(lambda: pushed(b"after"))
        eventually(lambda: seen == [b"before", b"after"])
        stopping.set()
        consuming.join()


def pushed(message: bytes) -> bool:
    """Whether the store took it."""
    try:
        fill(message)
    except StoreError:
        return False
    return True


def test_the_loop_rests_while_the_queue_is_paused(store):
    fill(b"1")
    pause = queues.Pause(reason="repairs", by="ann", since=datetime.now(UTC))
    queues.pause_queue(QUEUE, pause)
    seen: list[bytes] = []
    stopping = Stopping()
    consuming = threading.Thread(
        target=lambda: consume(QUEUE, seen.extend, stopping=stopping, most=1)
    )
    consuming.start()
    eventually(lambda: stopping.waits)
    assert (seen, waiting(store)) == ([], [b"1"])
    queues.resume_queue(QUEUE)
    consuming.join()
    assert seen == [b"1"]


def test_messages_that_went_to_another_consumer_meanwhile_are_told_in_the_log(store, log):
    fill(b"1", b"2")

    def deliver(batch: Any) -> None:
        (lease,) = store.keys(KEYS.claimed("*"))
        store.lpop(lease)  # as if the lease had run out meanwhile

    consume(QUEUE, deliver, stopping=threading.Event(), batch_size=2, drain=True)
    assert any("messages_not_held" in line and "count=1" in line for line in log())


def test_the_log_has_numbers_and_never_a_message(store, log, monkeypatch):
    monkeypatch.setattr("ingestion.consumer._FIRST_BACKOFF_SECONDS", 0.001)
    fill(b'"canary"')

    def deliver(batch: Any) -> None:
        raise ValueError(batch)

    consume(QUEUE, deliver, stopping=threading.Event(), drain=True)
    lines = log()
    assert sum("delivery_failed" in line for line in lines) == 5
    assert any("consumer_stopped" in line and "dead=1" in line for line in lines)
    assert "canary" not in "\n".join(lines)
