"""Consumers that are killed, suspended, or cut off from a store that is away.

The long form of the first two tests:
`FAULT_TRIALS=300 pytest -s tests/faults/test_consumer_faults.py -k killed_at_random`.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from redis import Redis

from ingestion import embedded
from ingestion.queues.keys import Keys
from tests.faults.consuming import Consumers, consumers, end
from tests.store_faults import hung

QUEUE = "tutormax:queue:sessions"
KEYS = Keys(QUEUE)
KILLS = int(os.environ.get("FAULT_TRIALS", "30"))
LEASE_SECONDS = 1.5


def eventually(condition: Callable[[], object], within_seconds: float = 30) -> None:
    """Wait for what must come; the bound is for the broken only."""
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def in_flight(store: Redis) -> dict[int, list[str]]:
    """What consumers hold, by their pid; nothing where they hold nothing."""
    found = {}
    for key in store.scan_iter(KEYS.claimed("*")):
        if held := store.lrange(key, 0, -1):
            found[int(key.split(b":")[-2])] = [one.decode() for one in held]
    return found


@pytest.fixture
def starting(store: Redis, tmp_path: Path) -> Iterator[Consumers]:
    """Starts consumers of the store that the tests share."""
    with consumers(tmp_path, Path(settings.DATA_DIR)) as started:
        yield started


@dataclass(frozen=True, kw_only=True, slots=True)
class Storm:
    """What became of the messages when consumers were killed at random points.

    `in_hand` were held by a consumer as it was killed; `slowest_seconds` is the longest that such a
    message took to be delivered again, or to be in the hand of another that was killed.
    """

    kills: int
    pushed: int
    lost: int
    again: int
    dead: int
    in_hand: int
    slowest_seconds: float


def storm(store: Redis, starting: Consumers, *, kills: int, **how: Any) -> Storm:
    """Kill one of four consumers again and again, each at a random point of its work."""
    chance = random.Random(7)
    pushed: list[str] = []

    def start() -> int:
        batch_size = chance.choice([1, 1, 5])
        return starting.start(QUEUE, batch_size=batch_size, lease_seconds=LEASE_SECONDS, **how)

    def top_up() -> None:
        while store.llen(QUEUE) < 200:
            more = [f"m{len(pushed) + number}" for number in range(200)]
            store.lpush(QUEUE, *more)
            pushed.extend(more)

    top_up()
    living = [start() for _ in range(4)]
    eventually(starting.delivered)
    cut_off: list[tuple[float, str]] = []
    for _ in range(kills):
        top_up()
        time.sleep(chance.uniform(0, 0.15))
        victim = living.pop(chance.randrange(4))
        end(victim)
        killed_at = time.monotonic()
        cut_off += [(killed_at, one) for one in in_flight(store).get(victim, [])]
        living.append(start())
    eventually(lambda: not store.llen(QUEUE) and not in_flight(store))
    for pid in living:
        end(pid)
    delivered = starting.delivered()
    dead = {one.decode() for one in store.lrange(KEYS.dead, 0, -1)}
    waits = []
    for killed_at, message in cut_off:
        events = (at for at, one in [*delivered, *cut_off] if one == message and at > killed_at)
        seen_again = min(events, default=None)
        assert seen_again or message in dead, f"{message} was never delivered again"
        waits.append(seen_again - killed_at if seen_again else 0)
    names = [message for _, message in delivered]
    return Storm(
        kills=kills,
        pushed=len(pushed),
        lost=len(set(pushed) - set(names) - dead),
        again=len(names) - len(set(names)),
        dead=len(dead),
        in_hand=len(cut_off),
        slowest_seconds=round(max(waits, default=0), 2),
    )


@pytest.mark.timeout(60 + 2 * KILLS)
def test_consumers_killed_at_random_lose_nothing(store, starting):
    found = storm(store, starting, kills=KILLS, work_seconds=0.004)
    sys.stdout.write(f"\n{found}\n")
    assert found.lost == 0
    assert found.in_hand > 0
    assert found.again > 0


@pytest.mark.timeout(60 + 2 * KILLS)
def test_control_plain_rpop_killed_at_random_loses_messages(store, starting):
    found = storm(store, starting, kills=KILLS, work_seconds=0.004, plain=True)
    sys.stdout.write(f"\n{found}\n")
    assert found.lost > 0


def killers_deaths(store: Redis, starting: Consumers, *, most: int, **how: Any) -> int:
    """Start a consumer for each that the message `killer` kills, until it is dead or `most` are."""
    pids = [starting.start(QUEUE, lease_seconds=0.6, **how) for _ in range(2)]
    deaths = 0
    deadline = time.monotonic() + 40
    while deaths < most and not store.llen(KEYS.dead):
        assert time.monotonic() < deadline
        for pid in list(pids):
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                deaths += 1
                pids.remove(pid)
                pids.append(starting.start(QUEUE, lease_seconds=0.6, **how))
        time.sleep(0.01)
    return deaths


def test_a_message_that_kills_its_consumers_is_a_dead_letter_after_five(store, starting):
    store.lpush(QUEUE, "first", "killer", "second", "third")
    assert killers_deaths(store, starting, most=7) == 5
    eventually(lambda: {one for _, one in starting.delivered()} == {"first", "second", "third"})
    assert store.lrange(KEYS.dead, 0, -1) == [b"killer"]
    assert not store.exists(QUEUE)
    (reason,) = store.hvals(KEYS.reasons)
    assert b"died with it" in reason
    assert b'"attempts":5' in reason


def test_control_without_a_limit_the_killer_kills_on(store, starting):
    store.lpush(QUEUE, "first", "killer")
    assert killers_deaths(store, starting, most=7, max_attempts=1_000_000) == 7
    assert not store.exists(KEYS.dead)


def test_a_suspended_consumer_loses_its_messages_to_another_and_goes_on(store, starting, tmp_path):
    go = tmp_path / "go"
    suspended = starting.start(QUEUE, lease_seconds=0.6)
    store.lpush(QUEUE, f"wait:{go}")
    eventually(lambda: suspended in in_flight(store))
    other = starting.start(QUEUE, lease_seconds=0.6)
    os.kill(suspended, signal.SIGSTOP)
    eventually(lambda: other in in_flight(store))
    go.touch()
    eventually(lambda: not in_flight(store))
    os.kill(suspended, signal.SIGCONT)
    eventually(lambda: len(starting.delivered()) == 2)
    os.kill(other, signal.SIGSTOP)
    store.lpush(QUEUE, "next")
    eventually(lambda: [one for _, one in starting.delivered()].count("next") == 1)
    assert not store.exists(KEYS.dead)


def three_with_a_message_each(store: Redis, starting: Consumers, go: Path) -> set[int]:
    """Their pids; each has its message in hand until the file is there."""
    pids = {starting.start(QUEUE, lease_seconds=LEASE_SECONDS) for _ in range(3)}
    eventually(lambda: store.zcard(KEYS.leases) == 3)
    store.lpush(QUEUE, *(f"wait:{go}" for _ in pids))
    eventually(lambda: in_flight(store).keys() == pids)
    return pids


def all_keep_their_messages(store: Redis, starting: Consumers, pids: set[int], go: Path) -> None:
    time.sleep(1)  # the time to take somebody for dead
    assert in_flight(store).keys() == pids
    go.touch()
    eventually(lambda: len(starting.delivered()) >= 3 and not in_flight(store))
    assert len(starting.delivered()) == 3


def test_the_living_keep_their_messages_when_the_store_hangs_beyond_their_leases(
    store, starting, tmp_path
):
    pids = three_with_a_message_each(store, starting, tmp_path / "go")
    running = embedded.find(Path(settings.DATA_DIR))
    assert running is not None
    with hung(running):
        time.sleep(2)
    all_keep_their_messages(store, starting, pids, tmp_path / "go")


def test_the_living_keep_their_messages_when_the_store_is_away_beyond_their_leases(tmp_path):
    data = tmp_path / "data"
    with consumers(tmp_path, data) as starting:
        with embedded.running(data) as store, Redis.from_url(store.url) as client:
            pids = three_with_a_message_each(client, starting, tmp_path / "go")
        time.sleep(1.5)
        with embedded.running(data) as store, Redis.from_url(store.url) as client:
            all_keep_their_messages(client, starting, pids, tmp_path / "go")


def test_the_living_keep_their_messages_when_their_machine_is_suspended_beyond_their_leases(
    store, starting, tmp_path
):
    pids = three_with_a_message_each(store, starting, tmp_path / "go")
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(2)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    all_keep_their_messages(store, starting, pids, tmp_path / "go")
