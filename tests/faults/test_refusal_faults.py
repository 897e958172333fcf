"""The store refuses for every possible reason, or its configuration breaks the promise."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import msgspec
import pytest
from redis import Redis
from redis.exceptions import ResponseError

from ingestion import embedded
from ingestion.queues.keys import Keys, this_minute
from tests.faults.figures import Outcome, count
from tests.faults.sending import Senders, new_batch, settle
from tests.portal_process import running_portal
from tests.record_types import TUTORS
from tests.test_health_api import TOO_WEAK, words

KEYS = Keys(TUTORS.queue)


# --- R6: refuses -------------------------------------------------------------------------------

ROUNDS = count(short=16, long=200)
BATCH = 100

_TAKE_AWAY = """
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAME', KEYS[1], KEYS[2]) end
redis.call('SADD', KEYS[1], 'no list, no hash, no text')
"""
_PUT_BACK = """
redis.call('DEL', KEYS[1])
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[1]) end
"""


@contextmanager
def full(store: Redis) -> Iterator[None]:
    """Its memory is full, and it drops nothing."""
    store.config_set("maxmemory", 1)
    yield
    store.config_set("maxmemory", 0)


@contextmanager
def read_only(store: Redis) -> Iterator[None]:
    """It is a replica."""
    store.replicaof("127.0.0.1", "1")  # no server is there
    yield
    store.replicaof("NO", "ONE")


@contextmanager
def mistaken(store: Redis) -> Iterator[None]:
    """One of the queue's keys holds a value of the wrong type."""
    hour, _ = this_minute()
    names = (TUTORS.queue, KEYS.totals, KEYS.counts(hour), KEYS.causes(hour), KEYS.pause)
    key = random.choice(names)
    store.eval(_TAKE_AWAY, 2, key, f"{key}:aside")
    yield
    store.eval(_PUT_BACK, 2, key, f"{key}:aside")


@contextmanager
def miscounted(store: Redis) -> Iterator[None]:
    """The script fails at its first write, after all that it reads."""
    before = store.hget(KEYS.totals, "accepted") or 0
    store.hset(KEYS.totals, "accepted", "many")
    yield
    store.hset(KEYS.totals, "accepted", before)


@contextmanager
def forgetful(store: Redis) -> Iterator[None]:
    """It has forgotten the scripts."""
    store.script_flush()
    yield
    store.script_flush()


REFUSALS = (full, read_only, mistaken, miscounted, forgetful)


def refuse(url: str, wait: Callable[[], None]) -> None:
    """Let the store refuse for all reasons in turn; `wait` gives clients time to meet each."""
    with Redis.from_url(url) as store:
        for number in range(ROUNDS):
            with REFUSALS[number % len(REFUSALS)](store):
                wait()
            wait()


@pytest.mark.timeout(300 + 2 * ROUNDS)
def test_a_store_that_refuses_never_has_half_a_batch(tmp_path, figures):
    with (
        embedded.running(tmp_path / "store") as store,
        running_portal(tmp_path / "var", REDIS_URL=store.url) as portal,
        Senders(portal.address, clients=8, batch=BATCH) as sent,
    ):

        def wait() -> None:
            enough = len(sent.heard) + 16  # the last of them began in the present state
            portal.wait_for(lambda: len(sent.heard) >= enough)

        refuse(store.url, wait)
        sent.stop()
        outcome = settle(store.url, sent.acknowledged, trials=ROUNDS, batch=BATCH)
    heard = Counter(sent.heard)
    refusals = {"store_out_of_memory", "store_read_only", "store_error"}
    remark = f"{sum(heard[one] for one in refusals):,} batches of {BATCH} refused, none in part"
    figures.add("R6", "no memory, read-only, wrong keys, no scripts", outcome, remark=remark)
    assert heard.keys() == {"201", *refusals}
    assert (outcome.lost, outcome.doubled) == (0, 0)


@pytest.mark.timeout(300 + 2 * ROUNDS)
def test_control_records_pushed_one_by_one_leave_half_batches(tmp_path, figures):
    acknowledged: list[str] = []
    stopping = threading.Event()

    def push(url: str) -> None:
        with Redis.from_url(url) as client:
            while not stopping.is_set():
                name, records = new_batch(BATCH)
                pipeline = client.pipeline(transaction=False)
                for record in records:
                    pipeline.lpush(TUTORS.queue, msgspec.json.encode({"data": record}))
                answers = pipeline.execute(raise_on_error=False)
                if not any(isinstance(answer, ResponseError) for answer in answers):
                    acknowledged.append(name)

    with embedded.running(tmp_path / "store") as store:
        with ThreadPoolExecutor(4) as pool:
            pushing = [pool.submit(push, store.url) for _ in range(4)]
            refuse(store.url, lambda: time.sleep(0.02))
            stopping.set()
        for one in pushing:
            one.result()
        outcome = settle(store.url, acknowledged, trials=ROUNDS, batch=BATCH)
    without = "one LPUSH a record, no script; what half batches lack is lost"
    figures.add_control("R6", without, outcome)
    assert outcome.lost > 0


# --- R7: set up wrongly ------------------------------------------------------------------------

WRONG = [
    *((config, word) for config, _, word in TOO_WEAK),
    ({"replicaof": "127.0.0.1 1"}, "store_read_only"),
]


def test_a_store_that_is_set_up_wrongly_is_named_and_one_that_is_not_is_ready(tmp_path, figures):
    data = tmp_path / "store"
    with running_portal(tmp_path / "var", REDIS_URL=embedded.url(data)) as portal:
        for config, word in WRONG:
            with embedded.running(data, config=config):
                portal.wait_for(lambda word=word: words(portal.get("/health/ready")) == [word])
                assert portal.get("/health/ready").status == 503
        with embedded.running(data):
            portal.wait_for(lambda: portal.get("/health/ready").status == 200)
    remark = "/health/ready is 503 with the reason each time"
    figures.add("R7", "a store is set up wrongly", Outcome(trials=len(WRONG)), remark=remark)
    figures.add_control("R7", "a store that is set up rightly: /health/ready is 200")
