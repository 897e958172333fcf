"""What a consumer survives: pauses, lost leases, clocks, odd names, a store in trouble.

test_consumer.py tests the protocol itself. test_script_refusals.py tests its scripts when the store
refuses a command.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from django_redis import get_redis_connection
from redis import Redis
from redis.exceptions import RedisError

from ingestion import queues
from ingestion.consumer import Consumer, DownstreamError, consume
from ingestion.outcomes import Code, StoreError
from ingestion.queues import Pause, put_back_all_dead
from tests.test_consumer import (
    KEYS,
    QUEUE,
    bury,
    claimed,
    end_lease,
    eventually,
    fill,
    held,
    waiting,
)
from tests.test_consumer_loop import pushed

PAUSE = Pause(reason="repairs", by="ann", since=datetime.now(UTC))


def blocked(store: Redis) -> int:
    """How many clients wait for a message."""
    number: int = store.info("clients")["blocked_clients"]
    return number


# --- Pauses and leases -------------------------------------------------------------------------


def test_a_claim_that_waits_heeds_a_pause_that_was_set_meanwhile(store, monkeypatch):
    monkeypatch.setattr("ingestion.queues.claims._WAIT_SECONDS", 4)
    with Consumer(QUEUE) as consumer:
        found: list[Any] = []
        claiming = threading.Thread(target=lambda: found.append(consumer.claim()))
        claiming.start()
        eventually(lambda: blocked(store))
        queues.pause_queue(QUEUE, PAUSE)
        store.lpush(QUEUE, b"put back by staff")
        claiming.join()
        assert (found[0].messages, found[0].pause) == ((), PAUSE)
        assert (waiting(store), held(store, consumer)) == ([b"put back by staff"], [])
        queues.resume_queue(QUEUE)
        (one,) = consumer.claim().messages
        assert one.attempts == 0


def test_acknowledging_a_lost_message_forgets_no_attempt(store):
    fill(b"1")
    with Consumer(QUEUE) as slow, Consumer(QUEUE) as other:
        claimed(slow)
        end_lease(store, slow)
        other._reap(slow.name)
        (one,) = other.claim(wait=False).messages
        assert one.attempts == 1
        assert slow.acknowledge([b"1"]) == 0
        (again,) = other.claim(wait=False).messages
        assert again.attempts == 1
        assert other.acknowledge([b"1"]) == 1
        assert not store.exists(KEYS.attempts)


def test_a_clock_of_the_store_that_was_set_back_does_not_keep_the_dead_alive(store):
    fill(b"1")
    with Consumer(QUEUE) as dead, Consumer(QUEUE) as living:
        claimed(dead)
        end_lease(store, dead)
        ahead = store.zscore(KEYS.leases, living.name) + 7_200_000  # made before it was set back
        store.zadd(KEYS.leases, {dead.name: ahead, "bare": ahead, "long": ahead})
        store.hset(KEYS.consumers, "long", json.dumps({"lease_seconds": 7100}))
        living.beat()
        now = store.time()[0] * 1000
        seconds = {
            name.decode(): (ends - now) / 1000
            for name, ends in store.zrange(KEYS.leases, 0, -1, withscores=True)
        }
        assert 0 < seconds[dead.name] < 27
        assert 3500 < seconds["bare"] < 3602  # it says nothing of its lease
        assert 7000 < seconds["long"] < 7102


def test_a_lease_that_somebody_wrote_strangely_stops_no_heart(store):
    with Consumer(QUEUE) as living:
        for number, says in enumerate(
            ["", "[]", "1", '{"lease_seconds":"x"}', "{", "null", "\udc80"]
        ):
            raw = says.encode(errors="surrogateescape")
            store.hset(KEYS.consumers, f"odd{number}", raw)
            store.zadd(KEYS.leases, {f"odd{number}": 4e12})
        store.zadd(KEYS.leases, {"never": float("inf")})
        living.beat()
        now = store.time()[0] * 1000
        leases = store.zrange(KEYS.leases, 0, -1, withscores=True)
        assert all(ends < now + 3_602_000 for _, ends in leases)
        assert len(leases) == 9


def test_a_consumer_whose_name_is_no_text_is_reaped_like_any_other(store):
    name = b"\xff\xfe dead"
    key = KEYS.claimed("").encode() + name
    store.lpush(key, b"1")
    store.zadd(KEYS.leases, {name: 1})
    with Consumer(QUEUE) as living:
        living._beat_and_reap()
        assert waiting(store) == [b"1"]
        assert store.zscore(KEYS.leases, name) is None


# --- The store's troubles ----------------------------------------------------------------------


def test_a_heart_beats_on_after_any_fault(store, log, monkeypatch):
    beat = Consumer.beat
    faults = iter([OSError(errno.EMFILE, "no descriptors"), RuntimeError("can't start new thread")])

    def failing(self: Consumer) -> list[str]:
        if threading.current_thread() is self._heart and (fault := next(faults, None)):
            raise fault
        return beat(self)

    monkeypatch.setattr(Consumer, "beat", failing)
    with Consumer(QUEUE, lease_seconds=0.6) as consumer:
        store.zadd(KEYS.leases, {consumer.name: 1})
        eventually(lambda: store.zscore(KEYS.leases, consumer.name) > 1)
    assert sum("heartbeat_failed" in line for line in log()) == 2


@contextmanager
def busy(store: Redis) -> Iterator[None]:
    """Another program's script runs on and on."""
    store.config_set("busy-reply-threshold", 1)
    path = store.connection_pool.connection_kwargs["path"]

    def run() -> None:
        with Redis(unix_socket_path=path, socket_timeout=60) as other, pytest.raises(RedisError):
            other.eval("while true do end", 0)

    running = threading.Thread(target=run)
    running.start()
    try:
        eventually(lambda: _refuses(store, "BUSY"))
        yield
    finally:
        store.script_kill()
        running.join()


@contextmanager
def without_disk(store: Redis) -> Iterator[None]:
    """Its last snapshot failed, and it is configured to take no writes in that case."""
    folder = f"{store.config_get('dir')['dir']}/dump.rdb"
    store.config_set("save", "3600 1000000")
    os.mkdir(folder)  # a snapshot cannot be written there
    try:
        store.bgsave()
        eventually(lambda: _refuses(store, "MISCONF"))
        yield
    finally:
        os.rmdir(folder)
        store.bgsave()
        eventually(lambda: store.info()["rdb_last_bgsave_status"] == "ok")
        store.config_set("save", "")
        os.remove(folder)


def _refuses(store: Redis, word: str) -> bool:
    try:
        store.delete("nothing")
    except RedisError as fault:
        return str(fault).startswith(word)
    return False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "code"),
    [(busy, Code.STORE_UNREACHABLE), (without_disk, Code.STORE_READ_ONLY)],
)
def test_a_consumer_waits_while_the_store_cannot(store, trouble, code):
    fill(b"1")
    stopping = threading.Event()
    seen: list[bytes] = []
    consuming = threading.Thread(
        target=lambda: consume(QUEUE, seen.extend, stopping=stopping, most=2)
    )
    consuming.start()
    eventually(lambda: seen == [b"1"])
    with trouble(store):
        with pytest.raises(StoreError) as caught:
            queues.summaries([QUEUE]) if trouble is busy else queues.push(QUEUE, [b"refused"])
        assert (caught.value.code, caught.value.outcome_unknown) == (code, False)
        consuming.join(1.5)  # it claims twice a second
        assert consuming.is_alive()
    eventually(lambda: pushed(b"2"))
    eventually(lambda: seen == [b"1", b"2"])
    consuming.join()


def test_without_descriptors_the_store_is_not_reachable_and_nothing_worse(store, use_store):
    path = store.connection_pool.connection_kwargs["path"]
    use_store(f"unix://{path}?db=0&client_name=new")  # no connection is open yet
    fill(b"warm")
    get_redis_connection("store").connection_pool.disconnect()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    full: list[int] = []
    try:
        highest = max(int(one) for one in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                full.append(os.open(os.devnull, os.O_RDONLY))
        for call in (lambda: fill(b"1"), lambda: queues.summaries([QUEUE])):
            with pytest.raises(StoreError) as caught:
                call()
            assert caught.value.code is Code.STORE_UNREACHABLE
            assert not caught.value.outcome_unknown
        assert queues.health().reasons == ("store_unreachable",)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for one in full:
            os.close(one)
    fill(b"2")
    assert waiting(store) == [b"warm", b"2"]


# --- Dead letters while others die -------------------------------------------------------------


def test_all_dead_letters_of_a_moment_are_put_back_while_others_die(store, monkeypatch):
    monkeypatch.setattr("ingestion.queues.dead._SLICE", 3)
    old = [b"%d" % number for number in range(10)]
    store.lpush(KEYS.dead, *old)
    put_back = queues.put_back_dead
    new = iter(b"new %d" % number for number in range(100))

    def meanwhile(*what: Any, **how: Any) -> int:
        store.lpush(KEYS.dead, next(new), next(new))
        return put_back(*what, **how)

    monkeypatch.setattr("ingestion.queues.dead.put_back_dead", meanwhile)
    assert put_back_all_dead(QUEUE) == 10
    assert waiting(store) == old
    assert all(one.startswith(b"new") for one in store.lrange(KEYS.dead, 0, -1))


# --- The receiver of the messages --------------------------------------------------------------


def _from(cause: Exception) -> Exception:
    """An error of a library that calls another machine."""
    try:
        try:
            raise cause
        except OSError:
            raise ValueError("the library's own error")  # noqa: B904 (as some libraries do)
    except ValueError as fault:
        return fault


AWAY = [
    DownstreamError("it is being updated"),
    ConnectionRefusedError(),
    TimeoutError(),
    OSError(errno.ENOSPC, "no room"),
    _from(ConnectionResetError()),
    _from(OSError(errno.EHOSTUNREACH, "no way")),
]


@pytest.mark.parametrize("fault", AWAY, ids=lambda one: f"{type(one).__name__}-{one.__context__!r}")
def test_a_failure_downstream_counts_against_no_message(store, log, monkeypatch, fault):
    monkeypatch.setattr("ingestion.consumer._FIRST_BACKOFF_SECONDS", 0.001)
    fill(b"1", b"2", b"3")
    tries: list[Any] = []
    rests: list[Any] = []

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            rests.append((timeout, waiting(store)))  # the messages are on the queue meanwhile
            return super().wait(timeout)

    def deliver(messages: Any) -> None:
        tries.append(list(messages))
        if len(tries) <= 7:
            raise fault

    tally = consume(QUEUE, deliver, stopping=Stopping(), batch_size=2, drain=True)
    assert tries == [[b"1", b"2"]] * 8 + [[b"3"]]
    assert (tally.done, tally.failed, tally.dead) == (3, 0, 0)
    assert not store.exists(KEYS.attempts, KEYS.dead)
    assert rests == [(0.001 * 2**at, [b"1", b"2", b"3"]) for at in range(7)]
    assert sum("downstream_away" in line for line in log()) == 7


def test_a_rest_is_bounded_and_begins_small_again(store, monkeypatch):
    monkeypatch.setattr("ingestion.consumer._FIRST_BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr("ingestion.consumer._LONGEST_REST_SECONDS", 0.004)
    fill(b"1", b"2")
    rests: list[Any] = []
    fails = iter([True] * 5 + [False] + [True] * 2 + [False])

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            rests.append(timeout)
            return super().wait(timeout)

    def deliver(messages: Any) -> None:
        if next(fails):
            raise DownstreamError

    consume(QUEUE, deliver, stopping=Stopping(), drain=True)
    assert rests == [0.001, 0.002, 0.004, 0.004, 0.004, 0.001, 0.002]


def test_an_error_of_the_handlers_own_counts_even_if_it_met_another_before(store, monkeypatch):
    monkeypatch.setattr("ingestion.consumer._FIRST_BACKOFF_SECONDS", 0.001)
    fill(b"1")

    def deliver(messages: Any) -> None:
        try:
            raise ConnectionError
        except ConnectionError:
            raise ValueError("the message is bad") from None

    assert consume(QUEUE, deliver, stopping=threading.Event(), drain=True).dead == 1


def test_control_a_fault_of_a_message_counts(store, monkeypatch):
    monkeypatch.setattr("ingestion.consumer._FIRST_BACKOFF_SECONDS", 0.001)
    bury(b"1")
    fill(b"2")

    def deliver(messages: Any) -> None:
        raise FileNotFoundError(errno.ENOENT, "the message names a file")

    assert consume(QUEUE, deliver, stopping=threading.Event(), drain=True).dead == 1
