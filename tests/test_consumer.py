"""The consumer protocol on the real store: nothing is lost, nothing blocks, order is kept."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from redis import Redis
from redis.crc import key_slot
from redis.exceptions import OutOfMemoryError

from ingestion import embedded, queues
from ingestion.consumer import LEASE_SECONDS, Consumer
from ingestion.outcomes import Code, StoreError
from ingestion.queues import (
    MAX_ATTEMPTS,
    GivenBack,
    consumption,
    dead_letters,
    put_back_all_dead,
    put_back_dead,
)
from ingestion.queues.keys import Keys
from tests.portal_process import free_port
from tests.store_faults import Proxy
from tests.test_queues import everything

QUEUE = "tutormax:queue:sessions"
OTHER = "tutormax:queue:tutors"
KEYS = Keys(QUEUE)


def waiting(store: Redis) -> list[bytes]:
    """The messages on the queue, the next to be taken first."""
    messages: list[Any] = store.lrange(QUEUE, 0, -1)
    return messages[::-1]


def held(store: Redis, consumer: Consumer) -> list[bytes]:
    """The messages that the consumer holds, the first claimed first."""
    messages: list[Any] = store.lrange(KEYS.claimed(consumer.name), 0, -1)
    return messages[::-1]


def claimed(consumer: Consumer, count: int = 1) -> list[bytes]:
    """The result of a claim now."""
    return [one.raw for one in consumer.claim(count, wait=False).messages]


def fill(*messages: bytes) -> None:
    queues.push(QUEUE, messages)


def bury(*messages: bytes, reason: str = "it broke") -> None:
    """Make these messages dead letters, one after another."""
    with Consumer(QUEUE) as consumer:
        for message in messages:
            fill(message)
            for _ in range(MAX_ATTEMPTS):
                assert claimed(consumer) == [message]
                consumer.give_back(reason=reason)


def eventually(condition: Callable[[], object]) -> None:
    """Wait for something that must happen; the time limit only ends a broken test."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def end_lease(store: Redis, consumer: Consumer) -> None:
    """Its lease is over and it sends no heartbeat, as if its process were gone."""
    consumer._leaving.set()
    consumer._heart.join()
    store.zadd(KEYS.leases, {consumer.name: 1})


# --- Claim and acknowledge ---------------------------------------------------------------------


def test_messages_are_claimed_oldest_first_and_leave_when_they_are_acknowledged(store):
    fill(b"1", b"2", b"3")
    with Consumer(QUEUE) as consumer:
        assert claimed(consumer, 2) == [b"1", b"2"]
        assert (held(store, consumer), waiting(store)) == ([b"1", b"2"], [b"3"])
        assert consumer.acknowledge([b"1", b"2"]) == 2
        assert (held(store, consumer), waiting(store)) == ([], [b"3"])
        assert claimed(consumer, 2) == [b"3"]
        assert consumer.acknowledge([b"3"]) == 1
        assert claimed(consumer, 2) == []
    assert not store.exists(QUEUE, KEYS.dead, KEYS.attempts, KEYS.consumers)


def test_messages_are_claimed_byte_for_byte(store):
    messages = [b"", b"\x00\xff\r\n", b"x" * 2**20, "\U0001f600".encode()]
    fill(*messages)
    with Consumer(QUEUE) as consumer:
        assert claimed(consumer, 10) == messages
        assert consumer.acknowledge(messages) == 4


def test_messages_of_the_same_bytes_are_each_delivered(store):
    fill(b"twin", b"twin")
    with Consumer(QUEUE) as consumer:
        assert claimed(consumer, 2) == [b"twin", b"twin"]
        assert consumer.acknowledge([b"twin"]) == 1
        assert claimed(consumer, 2) == [b"twin"]
        assert consumer.acknowledge([b"twin"]) == 1
        assert claimed(consumer, 2) == []


def test_a_claimed_message_that_is_not_acknowledged_is_claimed_again(store):
    fill(b"1", b"2", b"3", b"4")
    with Consumer(QUEUE) as consumer:
        assert claimed(consumer, 2) == [b"1", b"2"]
        assert claimed(consumer, 2) == [b"1", b"2"]
        consumer.acknowledge([b"1"])
        assert claimed(consumer, 2) == [b"2", b"3"]
        assert claimed(consumer, 1) == [b"2"]
    assert waiting(store) == [b"2", b"3", b"4"]


def test_a_claim_whose_answer_is_cut_off_loses_nothing(store, proxy: Proxy):
    with Consumer(QUEUE) as consumer:
        fill(b"1", b"2", b"3")
        proxy.cuts = 1
        with pytest.raises(StoreError):
            consumer.claim(2)
        assert (held(store, consumer), waiting(store)) == ([b"1", b"2"], [b"3"])
        assert claimed(consumer, 2) == [b"1", b"2"]
        proxy.cuts = 1
        with pytest.raises(StoreError):
            consumer.acknowledge([b"1", b"2"])
        consumer.acknowledge([b"1", b"2"])
        assert claimed(consumer, 2) == [b"3"]


def test_a_claim_of_an_empty_queue_waits_for_a_message(store):
    with Consumer(QUEUE) as consumer:
        assert consumer.claim().messages == ()
        pushing = threading.Timer(0.2, fill, [b"1", b"2"])
        pushing.start()
        claims = 1
        while not consumer.claim(2).messages:
            claims += 1
        assert claims < 20  # it waits half a second in each
        pushing.join()
        assert claimed(consumer, 2) == [b"1", b"2"]


def test_two_consumers_never_hold_the_same_message(store):
    fill(*(b"%d" % number for number in range(100)))
    with Consumer(QUEUE) as one, Consumer(QUEUE) as other:
        found = [*claimed(one, 30), *claimed(other, 30), *claimed(one, 100), *claimed(other, 100)]
        assert sorted(set(found)) == sorted(b"%d" % number for number in range(100))
        assert not {*held(store, one)} & {*held(store, other)}


def test_a_plain_rpop_takes_messages_too(store):
    fill(b"1", b"2", b"3")
    with Consumer(QUEUE) as consumer:
        assert claimed(consumer) == [b"1"]
        assert store.rpop(QUEUE) == b"2"
        consumer.acknowledge([b"1"])
        assert claimed(consumer) == [b"3"]


def test_nothing_is_claimed_while_the_queue_is_paused(store):
    fill(b"1", b"2")
    pause = queues.Pause(reason="repairs", by="ann", since=datetime.now(UTC))
    with Consumer(QUEUE) as consumer:
        queues.pause_queue(QUEUE, pause)
        claim = consumer.claim()
        assert (claim.messages, claim.pause) == ((), pause)
        assert waiting(store) == [b"1", b"2"]
        queues.resume_queue(QUEUE)
        assert claimed(consumer) == [b"1"]
        queues.pause_queue(QUEUE, pause)
        assert consumer.acknowledge([b"1"]) == 1  # messages that are held may be finished


# --- Give back, attempts, dead letters ---------------------------------------------------------


def test_messages_that_are_given_back_are_where_they_were(store):
    fill(*(b"%d" % number for number in range(1, 7)))
    with Consumer(QUEUE) as consumer:
        claimed(consumer, 4)
        consumer.acknowledge([b"2"])
        assert consumer.give_back() == GivenBack(returned=3, dead=0)
        assert held(store, consumer) == []
        assert waiting(store) == [b"1", b"3", b"4", b"5", b"6"]
        assert [one.attempts for one in consumer.claim(5).messages] == [0] * 5


def test_a_consumer_that_ends_gives_back_what_it_holds_uncounted(store):
    fill(b"1", b"2", b"3")
    with Consumer(QUEUE) as consumer:
        claimed(consumer, 2)
    assert waiting(store) == [b"1", b"2", b"3"]
    assert not store.exists(KEYS.attempts)
    (now,) = consumption([QUEUE])
    assert (now.consumers, now.in_flight, now.dead) == ((), 0, 0)


def test_a_message_that_failed_before_is_given_alone(store):
    fill(b"1", b"2", b"3", b"4", b"5")
    with Consumer(QUEUE) as consumer:
        assert claimed(consumer, 2) == [b"1", b"2"]
        consumer.give_back(reason="one of both is bad")
        for message in (b"1", b"2"):
            (alone,) = consumer.claim(5).messages
            assert (alone.raw, alone.attempts) == (message, 1)
            consumer.acknowledge([message])
        assert claimed(consumer, 5) == [b"3", b"4", b"5"]
        assert not store.exists(KEYS.attempts)


def test_good_messages_are_not_held_up_by_a_failed_one_behind_them(store):
    fill(b"bad")
    with Consumer(QUEUE) as one, Consumer(QUEUE) as other:
        claimed(one)
        fill(b"1", b"2")
        claimed(other, 2)
        one.give_back(reason="bad")
        other.give_back()
        assert waiting(store) == [b"1", b"2", b"bad"]
        assert claimed(one, 5) == [b"1", b"2"]


def test_a_message_that_fails_five_times_is_a_dead_letter_and_the_queue_moves_on(store):
    began = datetime.now(UTC) - timedelta(seconds=1)
    fill(b"bad", b"good")
    with Consumer(QUEUE) as consumer:
        for attempt in range(5):
            (one,) = consumer.claim().messages
            assert (one.raw, one.attempts) == (b"bad", attempt)
            outcome = consumer.give_back(reason=f"attempt {attempt + 1}")
        assert outcome == GivenBack(returned=0, dead=1)
        assert claimed(consumer) == [b"good"]
    (letter,) = dead_letters(QUEUE, first=0, count=10)
    assert (letter.message.raw, letter.attempts, letter.reason) == (b"bad", 5, "attempt 5")
    assert letter.died_at is not None
    assert began <= letter.died_at <= datetime.now(UTC) + timedelta(seconds=1)
    assert consumption([QUEUE])[0].dead == 1
    assert store.hlen(KEYS.attempts) == 0


def test_messages_that_die_together_keep_their_order(store):
    messages = [b"1", b"2", b"3", b"4"]
    fill(*messages, b"5")
    for one in (b"2", b"3"):
        name = hashlib.sha1(one, usedforsecurity=False).hexdigest()
        store.hset(KEYS.attempts, name, MAX_ATTEMPTS - 1)
    with Consumer(QUEUE) as consumer:
        for one in messages:  # a consumer with plain commands may hold failed ones together
            assert store.lmove(QUEUE, KEYS.claimed(consumer.name), "RIGHT", "LEFT") == one
        assert consumer.give_back(reason="all") == GivenBack(returned=2, dead=2)
    assert waiting(store) == [b"1", b"4", b"5"]
    assert [one.message.raw for one in dead_letters(QUEUE, first=0, count=9)] == [b"2", b"3"]


# --- Leases ------------------------------------------------------------------------------------


def test_the_messages_of_a_dead_consumer_are_back_in_their_order_and_the_attempt_counts(store):
    fill(b"1", b"2", b"3", b"4", b"5")
    dead = Consumer(QUEUE)
    with dead, Consumer(QUEUE, lease_seconds=0.3) as living:
        assert claimed(dead, 3) == [b"1", b"2", b"3"]
        end_lease(store, dead)
        eventually(lambda: waiting(store) == [b"1", b"2", b"3", b"4", b"5"])
        (one,) = living.claim(5).messages
        assert (one.raw, one.attempts) == (b"1", 1)


def test_a_message_whose_consumers_die_is_a_dead_letter_in_the_end(store):
    fill(b"killer", b"good")
    with Consumer(QUEUE, lease_seconds=0.3):
        for _ in range(MAX_ATTEMPTS):
            with Consumer(QUEUE) as dead:
                assert claimed(dead) == [b"killer"]
                end_lease(store, dead)
                eventually(lambda: not held(store, dead))
    (letter,) = dead_letters(QUEUE, first=0, count=5)
    assert (letter.message.raw, letter.attempts) == (b"killer", 5)
    assert letter.reason == f"The consumer {dead.name} died with it."
    assert waiting(store) == [b"good"]


def test_a_consumer_keeps_its_messages_however_long_the_work_takes(store):
    fill(b"long")
    with Consumer(QUEUE, lease_seconds=0.3) as busy, Consumer(QUEUE, lease_seconds=0.3) as other:
        assert claimed(busy) == [b"long"]
        for _ in range(10):
            assert claimed(other) == []
            time.sleep(0.1)
        assert busy.acknowledge([b"long"]) == 1


def test_a_lease_ends_one_heartbeat_before_others_must_have_seen_it(store):
    with Consumer(QUEUE):
        (lease,) = store.zrange(KEYS.leases, 0, -1, withscores=True)
        seconds, microseconds = store.time()
        assert 20 < lease[1] / 1000 - (seconds + microseconds / 1e6) <= LEASE_SECONDS * 5 / 6
        (seen,) = consumption([QUEUE])[0].consumers
        assert seen.last_heartbeat_at.timestamp() == pytest.approx(lease[1] / 1000 - 25, abs=0.01)


def test_a_consumer_that_has_just_renewed_its_lease_is_not_reaped(store):
    fill(b"1")
    with Consumer(QUEUE) as living, Consumer(QUEUE) as hasty:
        assert claimed(living) == [b"1"]
        hasty._reap(living.name)
        assert held(store, living) == [b"1"]
        assert store.hexists(KEYS.consumers, living.name)


def test_a_consumer_whose_own_lease_was_not_running_takes_nobody_for_dead_yet(store):
    with Consumer(QUEUE) as one, Consumer(QUEUE) as other:
        end_lease(store, one)
        end_lease(store, other)
        assert one.beat() == []  # their machine, or the store, was suspended
        assert one.beat() == [other.name]
        new = Consumer(QUEUE)
        assert new.beat() == []
        assert new.beat() == [other.name]


def test_after_an_outage_the_others_get_a_heartbeats_time_before_they_are_taken_for_dead(
    store,
    use_store,
    tmp_path,
):
    fill(b"1")
    with Consumer(QUEUE) as other, Consumer(QUEUE) as consumer:
        assert claimed(other) == [b"1"]
        end_lease(store, other)
        use_store(f"unix://{tmp_path}/away.sock")
        consumer._beat_and_reap()
        use_store(embedded.url(Path(settings.DATA_DIR)))
        consumer._beat_and_reap()
        assert held(store, other) == [b"1"]
        consumer._beat_and_reap()
        assert waiting(store) == [b"1"]


def test_a_consumer_that_was_taken_for_dead_is_told_and_goes_on(store):
    fill(b"1")
    with Consumer(QUEUE) as suspended, Consumer(QUEUE, lease_seconds=0.3) as other:
        assert claimed(suspended) == [b"1"]
        end_lease(store, suspended)
        eventually(lambda: claimed(other) == [b"1"])
        assert suspended.acknowledge([b"1"]) == 0
        assert held(store, other) == [b"1"]
        fill(b"2")
        assert claimed(suspended) == [b"2"]
        assert store.hexists(KEYS.consumers, suspended.name)


def test_a_late_claim_of_a_consumer_that_is_gone_is_found_all_the_same(store):
    with Consumer(QUEUE) as gone:
        pass
    fill(b"late")  # its BLMOVE was still on its way to the store when it left
    store.lmove(QUEUE, KEYS.claimed(gone.name), "RIGHT", "LEFT")
    ends = store.zscore(KEYS.leases, gone.name)
    assert time.time() + 3000 < ends / 1000 < time.time() + 3700
    assert consumption([QUEUE])[0].in_flight == 1
    store.zadd(KEYS.leases, {gone.name: 1})  # the hour has passed
    with Consumer(QUEUE, lease_seconds=0.3):
        eventually(lambda: waiting(store) == [b"late"])
        eventually(lambda: store.zscore(KEYS.leases, gone.name) is None)


def test_a_consumer_that_speaks_bare_commands_is_reaped_like_any_other(store):
    fill(b"1", b"2")
    store.zadd(KEYS.leases, {"bare": 1})
    assert store.blmove(QUEUE, KEYS.claimed("bare"), 1, "RIGHT", "LEFT") == b"1"
    (seen,) = consumption([QUEUE])[0].consumers
    assert (seen.name, seen.in_flight, seen.alive, seen.host) == ("bare", 1, False, None)
    with Consumer(QUEUE, lease_seconds=0.3):
        eventually(lambda: waiting(store) == [b"1", b"2"])
        eventually(lambda: store.zscore(KEYS.leases, "bare") is None)


def test_a_pause_that_was_set_by_hand_is_honoured(store):
    fill(b"1")
    store.set(KEYS.pause, "by hand")
    with Consumer(QUEUE) as consumer:
        claim = consumer.claim(wait=False)
    assert claim.pause is not None
    assert claim.pause.reason == "set outside the portal"


def test_the_others_are_reaped_even_if_one_consumer_cannot_be(store):
    store.set(KEYS.claimed("broken"), "not a list")
    store.zadd(KEYS.leases, {"broken": 1, b"\xff": 2, "dead": 3})
    store.lpush(KEYS.claimed("dead"), b"1")
    with Consumer(QUEUE, lease_seconds=0.3):
        eventually(lambda: waiting(store) == [b"1"])


# --- The store's troubles ----------------------------------------------------------------------


@contextmanager
def full(store: Redis) -> Iterator[None]:
    store.config_set("maxmemory", 1)
    try:
        yield
    finally:
        store.config_set("maxmemory", 0)


def test_a_full_store_can_be_emptied(store):
    bury(b"dead")
    fill(b"1", b"2", b"3", b"bad")
    with full(store), Consumer(QUEUE) as consumer:
        assert claimed(consumer, 2) == [b"1", b"2"]
        assert consumer.acknowledge([b"1"]) == 1
        assert consumer.give_back(reason="full") == GivenBack(returned=1, dead=0)
        assert claimed(consumer) == [b"2"]
        assert put_back_dead(QUEUE, [b"dead"]) == 1
    assert waiting(store) == [b"2", b"dead", b"3", b"bad"]


def test_control_a_full_store_refuses_the_bare_command(store):
    fill(b"1")
    with full(store), pytest.raises(OutOfMemoryError):
        store.lmove(QUEUE, KEYS.claimed("bare"), "RIGHT", "LEFT")


@pytest.mark.parametrize(
    "role", ["queue", "held", "leases", "consumers", "attempts", "dead", "reasons"]
)
def test_a_key_of_another_type_is_refused_and_changes_nothing(store, role):
    fill(b"1", b"2")
    with Consumer(QUEUE) as consumer:
        claimed(consumer, 1)
        key = {"queue": QUEUE, "held": KEYS.claimed(consumer.name)}.get(role)
        key = key or getattr(KEYS, role)
        kept = store.dump(key)
        store.set(key, "not ours")
        before = everything(store)
        with pytest.raises(StoreError) as caught:
            consumer.give_back(reason="wrong")
        assert caught.value.code is Code.STORE_ERROR
        assert everything(store) == before
        store.delete(key)
        if kept:
            store.restore(key, 0, kept)
    assert waiting(store) == [b"1", b"2"]


def test_a_store_that_forgot_its_scripts_goes_on(store):
    fill(b"1")
    with Consumer(QUEUE) as consumer:
        store.script_flush()
        assert claimed(consumer) == [b"1"]
        store.script_flush()
        assert consumer.acknowledge([b"1"]) == 1
        store.script_flush()
        assert consumption([QUEUE])[0].consumers[0].name == consumer.name


def test_a_consumer_cannot_start_without_a_store(no_store):
    with pytest.raises(StoreError), Consumer(QUEUE):
        pass


def test_every_key_lives_in_the_queues_slot(store):
    bury(b"dead")
    fill(b"1", b"2")
    with Consumer(QUEUE) as consumer:
        claimed(consumer)
        consumer.give_back(reason="bad")
        claimed(consumer)
        assert len(store.keys()) == 9
        assert {key_slot(key) for key in store.scan_iter()} == {key_slot(QUEUE.encode())}


@pytest.mark.processes
def test_it_runs_on_a_node_of_a_cluster(use_store, tmp_path):
    # A node in cluster mode refuses every script with keys of several slots.
    config = {"cluster-enabled": "yes", "cluster-port": str(free_port()), "bind": "127.0.0.1"}
    with embedded.running(tmp_path, config=config) as node, Redis.from_url(node.url) as client:
        client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        eventually(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        use_store(node.url)
        bury(b"dead")
        fill(b"1", b"2")
        with Consumer(QUEUE) as dead, Consumer(QUEUE, lease_seconds=0.3) as consumer:
            assert claimed(dead) == [b"1"]
            end_lease(client, dead)
            eventually(lambda: waiting(client) == [b"1", b"2"])
            assert claimed(consumer) == [b"1"]
            assert consumer.acknowledge([b"1"]) == 1
            assert put_back_all_dead(QUEUE) == 1
            assert consumption([QUEUE])[0].in_flight == 0
