"""The queue against a real store that is well or ill."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis
from redis.crc import key_slot

from ingestion import queues
from ingestion.outcomes import Code, StoreError

QUEUE = "tutormax:queue:sessions"
OTHER = "tutormax:queue:tutors"


def taken(store: Redis, queue: str = QUEUE) -> list[bytes]:
    """All messages, as a consumer takes them; the queue is empty afterwards."""
    messages: Any = store.rpop(queue, 1_000_000) or []
    return messages


def depth(queue: str) -> int:
    """How many messages lie on the queue."""
    (summary,) = queues.summaries([queue])
    return summary.depth


def peek(queue: str, count: int, *, newest_first: bool = False) -> list[bytes]:
    found = queues.window(queue, first=0, count=count, newest_first=newest_first)
    return [message.raw for message in found]


def everything(store: Redis) -> dict[bytes, Any]:
    """All that the store holds, byte for byte."""
    return {key: (store.dump(key), store.expiretime(key)) for key in store.scan_iter()}


def refusal(queue: str = QUEUE) -> StoreError:
    """The fault with which a push is refused."""
    with pytest.raises(StoreError) as caught:
        queues.push(queue, [b"refused"], rejected=1)
    return caught.value


# --- Order and counts --------------------------------------------------------------------------


def test_messages_are_taken_in_the_order_in_which_they_were_pushed(store):
    queues.push(QUEUE, [b"1", b"2", b"3"])
    assert depth(QUEUE) == 3
    queues.push(QUEUE, [b"4"])
    assert depth(QUEUE) == 4
    queues.push(OTHER, [b"x"])
    assert depth(OTHER) == 1
    queues.push(QUEUE, [b"5", b"6"])
    assert depth(QUEUE) == 6
    assert taken(store) == [b"1", b"2", b"3", b"4", b"5", b"6"]


@pytest.mark.parametrize("count", [1, 999, 1000, 1001, 2000, 10_000])
def test_a_push_of_any_size_is_whole_and_in_order(store, count):
    messages = [b"%d" % number for number in range(count)]
    queues.push(QUEUE, [b"before"])
    assert depth(QUEUE) == 1
    queues.push(QUEUE, messages)
    assert depth(QUEUE) == count + 1
    assert taken(store) == [b"before", *messages]


def test_a_message_is_kept_byte_for_byte(store):
    messages = [b"", b"\x00\xff\r\n", b"x" * 2**20, "\U0001f600".encode()]
    queues.push(QUEUE, messages)
    assert taken(store) == messages


def test_pushes_from_more_threads_than_connections_each_stay_whole_and_in_order(store):
    threads, rounds, size = 20, 10, 5

    def work(thread: int) -> None:
        for turn in range(rounds):
            queues.push(QUEUE, [b"%d %d" % (thread, turn * size + one) for one in range(size)])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    found = [tuple(map(int, message.split())) for message in taken(store)]
    assert len(found) == threads * rounds * size
    for at in range(0, len(found), size):  # no push was torn apart by another
        thread, first = found[at]
        assert found[at : at + size] == [(thread, first + one) for one in range(size)]
    for thread in range(threads):
        assert [number for one, number in found if one == thread] == list(range(rounds * size))


def test_accepted_and_rejected_are_counted_in_all_and_by_minute(store):
    began = int(time.time()) // 60
    queues.push(QUEUE, [b"1", b"2", b"3"], rejected=2)
    queues.push(QUEUE, [b"4"])
    queues.push(QUEUE, [], rejected=1)
    ended = int(time.time()) // 60
    (summary,) = queues.summaries([QUEUE])
    assert (summary.depth, summary.accepted, summary.rejected) == (4, 4, 3)
    minutes: dict[str, int] = {"accepted": 0, "rejected": 0}
    for key in store.keys("*:counts:*"):
        assert 48 * 3600 < store.ttl(key) < 50 * 3600
        for field, count in store.hgetall(key).items():
            outcome, minute = field.decode().split(":")
            if outcome == "depth":
                continue
            assert began <= int(key.rpartition(b":")[2]) * 60 + int(minute) <= ended
            minutes[outcome] += int(count)
    assert minutes == {"accepted": 4, "rejected": 3}
    assert all(store.ttl(key) == -1 for key in store.scan_iter() if b":counts:" not in key)


def test_rejections_alone_make_no_queue(store):
    queues.push(QUEUE, [], rejected=2)
    assert depth(QUEUE) == 0
    assert not store.exists(QUEUE)
    assert queues.summaries([QUEUE])[0].rejected == 2


def test_every_key_of_a_queue_lives_in_the_queues_slot(store):
    queues.push(QUEUE, [b"1"], rejected=1)
    assert len(store.keys()) == 3
    assert {key_slot(key) for key in store.scan_iter()} == {key_slot(QUEUE.encode())}


# --- All or nothing ----------------------------------------------------------------------------


def key_of(store: Redis, role: str) -> bytes:
    """A key of the queue by what it is for."""
    found: Any
    (found,) = store.keys({"queue": QUEUE, "totals": "*:totals", "counts": "*:counts:*"}[role])
    return found


@pytest.mark.parametrize("role", ["totals", "counts", "causes"])
def test_a_count_that_is_far_too_long_is_passed_over(store: Redis, role: str) -> None:
    """Python refuses to read it as a number, and every page shows numbers of all queues."""
    queues.push(QUEUE, [b"{}"], rejected=1, causes={"required": 1})
    (found,) = store.keys(f"*:{role}*")
    store.hset(found, "accepted", "9" * 5000)
    overview = queues.overview([QUEUE], hours=1)
    assert overview.summaries[0].depth == 1


@pytest.mark.parametrize("role", ["queue", "totals", "counts"])
def test_a_push_onto_a_key_of_another_type_is_refused_and_changes_nothing(store, role):
    queues.push(QUEUE, [b"1"], rejected=1)
    key = key_of(store, role)
    store.set(key, "not ours")
    if role == "counts":  # the hour may end before the push
        name, _, hour = key.rpartition(b":")
        store.set(b"%s:%d" % (name, int(hour) + 1), "not ours")
    before = everything(store)
    fault = refusal()
    assert (fault.code, fault.outcome_unknown) == (Code.STORE_ERROR, False)
    assert fault.retry_after_seconds
    assert everything(store) == before


@pytest.mark.parametrize("role", ["totals", "counts"])
def test_a_count_that_is_no_number_leaves_no_message_behind(store, role):
    queues.push(QUEUE, [b"1"], rejected=1)
    key = key_of(store, role)
    for field in store.hkeys(key):
        outcome, colon, minute = field.partition(b":")
        store.hset(key, field, "many")
        if colon:  # the minute may end before the push
            store.hset(key, b"%s:%d" % (outcome, (int(minute) + 1) % 60), "many")
    before = everything(store)
    fault = refusal()
    assert (fault.code, fault.outcome_unknown) == (Code.STORE_ERROR, False)
    assert everything(store) == before


def test_a_store_that_is_full_refuses_and_changes_nothing(store):
    queues.push(QUEUE, [b"1"])
    before = everything(store)
    store.config_set("maxmemory", 1)
    try:
        fault = refusal()
    finally:
        store.config_set("maxmemory", 0)
    assert (fault.code, fault.outcome_unknown) == (Code.STORE_OUT_OF_MEMORY, False)
    assert fault.retry_after_seconds
    assert everything(store) == before
    queues.push(QUEUE, [b"2"])
    assert depth(QUEUE) == 2


def test_a_store_that_has_become_a_replica_refuses_and_changes_nothing(store):
    queues.push(QUEUE, [b"1"])
    before = everything(store)
    store.replicaof("127.0.0.1", "1")  # nobody is there
    try:
        fault = refusal()
        health = queues.health()
    finally:
        store.replicaof("NO", "ONE")
    assert (fault.code, fault.outcome_unknown) == (Code.STORE_READ_ONLY, False)
    assert fault.retry_after_seconds
    assert health.reasons == ("store_read_only",)
    assert everything(store) == before
    queues.push(QUEUE, [b"2"])
    assert depth(QUEUE) == 2


def test_a_store_that_forgot_its_scripts_takes_the_push_once_all_the_same(store):
    queues.push(QUEUE, [b"1"])
    store.script_flush()
    queues.push(QUEUE, [b"2"], rejected=1)
    assert depth(QUEUE) == 2
    assert taken(store) == [b"1", b"2"]
    (summary,) = queues.summaries([QUEUE])
    assert (summary.accepted, summary.rejected) == (2, 1)


def test_a_queue_at_its_limit_refuses_until_messages_are_taken(store, settings):
    settings.QUEUE_LIMIT = 4
    queues.push(QUEUE, [b"1", b"2"])
    queues.push(QUEUE, [b"3", b"4"])
    before = everything(store)
    fault = refusal()
    assert (fault.code, fault.outcome_unknown) == (Code.QUEUE_FULL, False)
    assert fault.retry_after_seconds
    assert everything(store) == before
    queues.push(OTHER, [b"x"])
    assert depth(OTHER) == 1
    queues.push(QUEUE, [], rejected=1)
    assert depth(QUEUE) == 4  # there is always room to count
    store.rpop(QUEUE)
    queues.push(QUEUE, [b"5", b"6", b"7"])
    assert depth(QUEUE) == 6  # beyond the limit by one push at most
    assert refusal().code is Code.QUEUE_FULL


# --- Numbers of the queues ---------------------------------------------------------------------


def message(queued_at: datetime) -> bytes:
    text = queued_at.replace(tzinfo=None).isoformat()
    return json.dumps({"data": {}, "queued_at": f"{text}Z", "queue": QUEUE}).encode()


def test_a_summary_tells_the_age_of_the_message_that_is_taken_next(store):
    now = datetime.now(UTC)
    queues.push(QUEUE, [message(now - timedelta(seconds=90)), message(now)])
    queues.push(OTHER, [message(now + timedelta(hours=1))])
    first, second, third = queues.summaries([QUEUE, OTHER, "tutormax:queue:feedbacks"])
    assert (first.queue, first.depth) == (QUEUE, 2)
    assert first.oldest_age_seconds is not None
    assert 90 <= first.oldest_age_seconds < 150
    assert (second.queue, second.depth, second.oldest_age_seconds) == (OTHER, 1, 0.0)
    assert (third.depth, third.oldest_age_seconds) == (0, None)
    assert (third.accepted, third.rejected) == (0, 0)


@pytest.mark.parametrize(
    "foreign",
    [
        b"",
        b"not JSON",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"null",
        b'{"queued_at": null}',
        b'{"queued_at": 1715680800}',
        b'{"queued_at": "yesterday"}',
        b'{"queued_at": "\xff"}',
        b'{"queued_at": "2024-05-14T10:00:00"}',
        b'{"a": ' + b"[" * 100_000,
    ],
    ids=lambda one: repr(one[:36]),
)
def test_a_foreign_message_has_no_age_and_breaks_nothing(store, foreign):
    store.lpush(QUEUE, foreign)
    queues.push(QUEUE, [message(datetime.now(UTC))])
    (summary,) = queues.summaries([QUEUE])
    assert (summary.depth, summary.oldest_age_seconds) == (2, None)
    assert peek(QUEUE, 1) == [foreign]


def test_messages_are_looked_at_and_stay(store):
    queues.push(QUEUE, [b"1", b"2", b"3"])
    assert peek(QUEUE, 2) == [b"1", b"2"]
    assert peek(QUEUE, 2, newest_first=True) == [b"3", b"2"]
    assert peek(QUEUE, 10) == [b"1", b"2", b"3"]
    assert peek(QUEUE, 10, newest_first=True) == [b"3", b"2", b"1"]
    assert peek(QUEUE, 0) == peek(QUEUE, 0, newest_first=True) == []
    assert peek(OTHER, 2) == []
    assert taken(store) == [b"1", b"2", b"3"]


def test_a_store_that_is_well_says_so(store):
    health = queues.health()
    assert health.reasons == ()
    info = store.info()
    assert health.version == info.get("valkey_version", info["redis_version"])
    assert health.used_memory_bytes is not None
    assert health.used_memory_bytes > 0
