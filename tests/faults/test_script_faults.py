"""A1: the store refuses one command of a script after another, and is killed in between."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from django_redis import get_redis_connection
from redis import Redis
from redis.exceptions import RedisError

from ingestion import embedded, queues
from ingestion.consumer import Consumer
from ingestion.outcomes import StoreError
from ingestion.queues import Once
from tests.faults.figures import Outcome, count
from tests.test_script_refusals import (
    FORMER,
    KEYS,
    LUA,
    PATTERNS,
    QUEUE,
    Account,
    commands,
)

_Given = TypeVar("_Given")

LIVES = count(short=3, long=20)  # lives of the store; a kill ends each
REFUSALS = count(short=4, long=15)  # in each life
COPIES = "taken off"

Push = Callable[[str, Sequence[bytes]], None]


class Traffic:
    """Senders that repeat, consumers, and staff, each in a thread, until each is stopped.

    These notes hold what they were told. `acknowledged`: the batches with their messages. `gone`:
    the messages that a consumer was told are acknowledged. `perhaps_gone`: messages for which it
    got no answer.
    """

    def __init__(self, push: Push, *, senders: int, others: bool) -> None:
        self._push = push
        self._stopping = threading.Event()
        self.consumers = [Consumer(QUEUE, lease_seconds=7200) for _ in range(2 if others else 0)]
        works = [self._send] * senders
        works += [partial(self._consume, one) for one in self.consumers]
        works += [self._look_after] if others else []
        self._threads = [threading.Thread(target=work) for work in works]
        self.acknowledged: dict[str, list[bytes]] = {}
        self.gone: set[bytes] = set()
        self.perhaps_gone: set[bytes] = set()
        self.calls = 0
        self.refused = 0

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Return when every batch that was begun is acknowledged."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _tried(self, call: Callable[[], _Given]) -> _Given | None:
        """The result of the call; None if the store did not do it, or if that is unknown."""
        self.calls += 1
        try:
            return call()
        except (StoreError, RedisError):
            self.refused += 1
            time.sleep(0.005)
            return None

    def _send(self) -> None:
        while not self._stopping.is_set():
            name = uuid.uuid4().hex
            size = random.choice([1, 3, 9] * 20 + [1200])  # the last takes two LPUSHs of the script
            messages = [b"%s-%d" % (name.encode(), number) for number in range(size)]
            while self._tried(lambda: self._push(name, messages) or True) is None:  # noqa: B023
                continue
            self.acknowledged[name] = messages

    def _consume(self, one: Consumer) -> None:
        while not self._stopping.is_set():
            claim = self._tried(lambda: one.claim(random.choice([1, 20, 100]), wait=False))
            raws = [message.raw for message in claim.messages] if claim else []
            if random.random() < 0.3:
                reason = random.choice([None, "it broke"])
                self._tried(lambda: one.give_back(reason=reason))  # noqa: B023
            elif raws:
                self._tried(lambda: self._acknowledge(one, raws))  # noqa: B023

    def _acknowledge(self, one: Consumer, raws: list[bytes]) -> None:
        try:
            done = one.acknowledge(raws)
        except StoreError as fault:
            if fault.outcome_unknown:
                self.perhaps_gone.update(raws)
            raise
        (self.gone if done == len(raws) else self.perhaps_gone).update(raws)

    def _look_after(self) -> None:
        while not self._stopping.is_set():
            some = self._tried(lambda: queues.window(QUEUE, first=0, count=50)) or []
            raws = [one.raw for one in some[::3]]
            steps: list[Callable[[], object]] = [
                lambda: queues.take_off(QUEUE, raws, name=COPIES, within=200),  # noqa: B023
                lambda: queues.put_back(QUEUE, COPIES),
                lambda: queues.put_back_all_dead(QUEUE),
            ]
            self._tried(random.choice(steps))

    def settle(self, store: Redis, *, trials: int) -> Outcome:
        """Put everything back on the queue, and compare it with what was told."""
        for one in self.consumers:
            one.give_back()
        queues.put_back(QUEUE, COPIES)
        queues.put_back_all_dead(QUEUE)
        there = Counter(store.lrange(QUEUE, 0, -1))
        told = {message for some in self.acknowledged.values() for message in some}
        stray = there.keys() - told  # from a push that nobody was told about
        twice = {one for one, times in there.items() if times > 1} | (there.keys() & self.gone)
        return Outcome(
            trials=trials,
            acknowledged=len(told),
            lost=len(told - there.keys() - self.gone - self.perhaps_gone),
            doubled=len(twice) + len(stray),
        )


@contextmanager
def as_portal(data: Path, use_store: Callable[[str], None]) -> Iterator[None]:
    """Use the portal's account inside the block; every life of the store must know it."""
    address, _, _ = embedded.url(data).partition("?")
    use_store(f"{address.replace('unix://', 'unix://portal@')}?password=any")
    yield


def refused_and_killed(
    data: Path, words: Sequence[str], patterns: Sequence[str], traffic: Traffic
) -> Outcome:
    """Refuse a command now and then, on all keys or on some, and kill the store now and then."""
    for _ in range(LIVES):
        with embedded.running(data) as running, Redis.from_url(running.url) as store:
            account = Account(store)
            account.may_all()
            for _ in range(REFUSALS):
                account.may_not(random.choice(words), random.choice([None, *patterns]))
                _wait_for_calls(traffic)
                account.may_all()
                _wait_for_calls(traffic)
            os.kill(running.pid, signal.SIGKILL)
    with embedded.running(data) as running, Redis.from_url(running.url) as store:
        Account(store).may_all()
        traffic.stop()
        outcome = traffic.settle(store, trials=LIVES * (REFUSALS + 1))
        if traffic.consumers:  # each message is counted once, however often it was sent
            assert int(store.hget(KEYS.totals, "accepted")) == outcome.acknowledged
    return outcome


def _wait_for_calls(traffic: Traffic) -> None:
    enough = traffic.calls + 40
    deadline = time.monotonic() + 30
    while traffic.calls < enough:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def push(name: str, messages: Sequence[bytes]) -> None:
    """As the intake does it: with the answer to remember."""
    once = Once(request=name, fingerprint=name, answer=name.encode(), ttl_seconds=3600)
    pushed = queues.push(QUEUE, messages, rejected=1, causes={"blank": 1}, once=once)
    assert pushed.answer in (None, once.answer)


def former_push(name: str, messages: Sequence[bytes]) -> None:
    """As it was once: the answer is remembered first, then the messages are pushed."""
    store = get_redis_connection("store")
    if not store.exists(KEYS.answer(name)):
        store.eval(FORMER, 2, QUEUE, KEYS.answer(name), name, name, *messages)


@pytest.mark.timeout(300 + 20 * LIVES)
def test_commands_refused_and_a_store_killed_in_between_lose_and_double_nothing(
    tmp_path, use_store, figures
):
    with embedded.running(tmp_path) as running, Redis.from_url(running.url) as store:
        words = sorted({word for script in LUA for word in commands(store, script)})
    with (
        as_portal(tmp_path, use_store),
        Traffic(push, senders=count(short=3, long=6), others=True) as traffic,
    ):
        outcome = refused_and_killed(tmp_path, words, sorted(PATTERNS), traffic)
    figures.add(
        "A1",
        "a command of the scripts is refused, or the store is killed, under senders that repeat, "
        "consumers, and staff who take off and put back",
        outcome,
        remark=f"{traffic.refused:,} of {traffic.calls:,} calls failed, and {len(traffic.gone):,} "
        "messages were consumed",
    )
    assert traffic.refused > 0
    assert traffic.gone
    assert (outcome.lost, outcome.doubled) == (0, 0)


@pytest.mark.timeout(300 + 20 * LIVES)
def test_control_with_the_answer_remembered_before_the_push_records_are_lost(
    tmp_path, use_store, figures
):
    with (
        as_portal(tmp_path, use_store),
        Traffic(former_push, senders=3, others=False) as traffic,
    ):
        outcome = refused_and_killed(tmp_path, ["LPUSH", "HSET"], [QUEUE], traffic)
    figures.add_control("A1", "the answer remembered before the push", outcome)
    assert outcome.lost > 0
