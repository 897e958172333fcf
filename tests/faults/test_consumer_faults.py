"""Consumers that are killed, suspended, or cut off from a store that is away."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from django.conf import settings
from redis import Redis

from ingestion import embedded
from ingestion.consumer import consume
from ingestion.queues import put_back_dead
from ingestion.queues.keys import Keys
from tests.faults.consuming import Consumers, consumers, end
from tests.faults.figures import Outcome, count
from tests.store_faults import hung

QUEUE = "tutormax:queue:sessions"
KEYS = Keys(QUEUE)
KILLS = count(short=30, long=300)
KILLERS = count(short=1, long=20)
LEASE_SECONDS = 1.5


def eventually(condition: Callable[[], object], within_seconds: float = 30) -> None:
    """Wait for something that must happen; the time limit only ends a broken test."""
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def in_flight(store: Redis) -> dict[int, list[str]]:
    """What consumers hold, by pid; a consumer that holds nothing is left out."""
    found = {}
    for key in store.scan_iter(KEYS.claimed("*")):
        held: list[Any] = store.lrange(key, 0, -1)
        if held:
            found[int(key.split(b":")[-2])] = [one.decode() for one in held]
    return found


@pytest.fixture
def starting(store: Redis, tmp_path: Path) -> Iterator[Consumers]:
    """Starts consumers of the store that the tests share."""
    with consumers(tmp_path, Path(settings.DATA_DIR)) as started:
        yield started


def settled(store: Redis) -> bool:
    """Whether no message waits and none is held, even while messages move between the two."""
    return not (in_flight(store) or store.llen(QUEUE) or in_flight(store))


@dataclass(frozen=True, kw_only=True, slots=True)
class Storm:
    """What happened to the messages when consumers were killed at random points.

    `in_hand` messages were held by a consumer when it was killed. `slowest_seconds` is the longest
    time until such a message was delivered again, or was held by another consumer that was killed.
    Doubled are messages that were delivered more than once.
    """

    outcome: Outcome
    in_hand: int
    slowest_seconds: float


def storm(store: Redis, starting: Consumers, *, kills: int, **how: Any) -> Storm:
    """Kill one of four consumers again and again, each time at a random point of its work."""
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
    eventually(lambda: settled(store))
    for pid in living:
        end(pid)
    delivered = starting.delivered()
    letters: list[Any] = store.lrange(KEYS.dead, 0, -1)
    dead = {one.decode() for one in letters}
    waits = []
    for killed_at, message in cut_off:
        events = (at for at, one in [*delivered, *cut_off] if one == message and at > killed_at)
        seen_again = min(events, default=None)
        assert seen_again or message in dead, f"{message} was never delivered again"
        waits.append(seen_again - killed_at if seen_again else 0)
    return Storm(
        outcome=outcome(kills, pushed, [message for _, message in delivered], dead),
        in_hand=len(cut_off),
        slowest_seconds=max(waits, default=0),
    )


def outcome(
    trials: int, pushed: Collection[str], delivered: Collection[str], dead: Collection[str]
) -> Outcome:
    """Compares the pushed messages with the delivered ones and the dead letters."""
    times = Counter(delivered)
    return Outcome(
        trials=trials,
        acknowledged=len(pushed),
        lost=len(set(pushed) - times.keys() - set(dead)),
        doubled=sum(often > 1 for often in times.values()),
    )


@pytest.mark.timeout(300 + 2 * KILLS)
def test_consumers_killed_at_random_lose_nothing(store, starting, figures):
    found = storm(store, starting, kills=KILLS, work_seconds=0.004)
    figures.add(
        "C1",
        "SIGKILL of a consumer at a random point",
        found.outcome,
        remark=f"{found.in_hand:,} messages in hand when it came, each delivered again, the "
        f"slowest after {found.slowest_seconds:.1f} s with a lease of {LEASE_SECONDS} s; doubled "
        "are those that were worked on and not yet acknowledged",
    )
    assert found.outcome.lost == 0
    assert found.in_hand > 0
    assert found.outcome.doubled > 0


@pytest.mark.timeout(300 + 2 * KILLS)
def test_control_plain_rpop_killed_at_random_loses_messages(store, starting, figures):
    found = storm(store, starting, kills=KILLS, work_seconds=0.004, plain=True)
    figures.add_control("C1", "with a plain RPOP", found.outcome)
    assert found.outcome.lost > 0


def killers_deaths(
    store: Redis, starting: Consumers, *, most: int, **how: Any
) -> tuple[int, list[int]]:
    """Start a consumer for each one that a message kills, until all is settled or `most` are dead.

    Returns how many died, and the pids of the two that are there at the end.
    """
    living = [starting.start(QUEUE, lease_seconds=0.6, **how) for _ in range(2)]
    deaths = 0
    deadline = time.monotonic() + 40 * KILLERS
    while deaths < most and not settled(store):
        assert time.monotonic() < deadline
        for pid in list(living):
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                deaths += 1
                living.remove(pid)
                living.append(starting.start(QUEUE, lease_seconds=0.6, **how))
        time.sleep(0.01)
    return deaths, living


def push_killers(store: Redis) -> list[str]:
    """Push `KILLERS` messages that kill their consumer, and as many others between them."""
    pushed = [f"{kind} {number}" for number in range(KILLERS) for kind in ("good", "killer")]
    store.lpush(QUEUE, *pushed, "last")
    return [*pushed, "last"]


@pytest.mark.timeout(300 + 40 * KILLERS)
def test_messages_that_kill_their_consumers_are_dead_letters_after_five_and_can_be_put_back(
    store, starting, figures
):
    pushed = push_killers(store)
    deaths, living = killers_deaths(store, starting, most=7 * KILLERS)
    for pid in living:
        end(pid)
    assert deaths == 5 * KILLERS
    delivered = [one for _, one in starting.delivered()]
    letters = store.lrange(KEYS.dead, 0, -1)
    assert {one for one in pushed if one.startswith("killer")} == {*map(bytes.decode, letters)}
    for reason in store.hvals(KEYS.reasons):
        assert b"died with it" in reason
        assert b'"attempts":5' in reason
    assert put_back_dead(QUEUE, letters[::-1]) == KILLERS
    mended: list[bytes] = []
    consume(QUEUE, mended.extend, stopping=Event(), drain=True)
    found = outcome(deaths, pushed, [*delivered, *map(bytes.decode, mended)], ())
    figures.add(
        "C2",
        "a message kills its consumer",
        found,
        remark=f"{KILLERS} such messages, each a dead letter after 5 consumers; the others were "
        "delivered meanwhile, and these when they were put back",
    )
    assert found.lost == 0


@pytest.mark.timeout(300 + 40 * KILLERS)
def test_control_with_a_plain_rpop_a_message_that_kills_its_consumer_is_lost(
    store, starting, figures
):
    pushed = push_killers(store)
    killers_deaths(store, starting, most=KILLERS, plain=True)
    others = {one for one in pushed if not one.startswith("killer")}
    eventually(lambda: others <= {one for _, one in starting.delivered()})
    found = outcome(KILLERS, pushed, [one for _, one in starting.delivered()], ())
    figures.add_control("C2", "with a plain RPOP", found)
    assert found.lost == KILLERS


def test_control_without_a_limit_the_killer_kills_on(store, starting):
    store.lpush(QUEUE, "first", "killer")
    deaths, _ = killers_deaths(store, starting, most=7, max_attempts=1_000_000)
    assert deaths == 7
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
    """Their pids; each holds its message until the file exists."""
    pids = {starting.start(QUEUE, lease_seconds=LEASE_SECONDS) for _ in range(3)}
    eventually(lambda: store.zcard(KEYS.leases) == 3)
    store.lpush(QUEUE, *(f"wait:{go}" for _ in pids))
    eventually(lambda: in_flight(store).keys() == pids)
    return pids


def all_keep_their_messages(store: Redis, starting: Consumers, pids: set[int], go: Path) -> None:
    time.sleep(1)  # long enough to be treated as dead
    assert in_flight(store).keys() == pids
    go.touch()
    eventually(lambda: len(starting.delivered()) >= 3 and not in_flight(store))
    assert len(starting.delivered()) == 3


def test_live_consumers_keep_their_messages_when_the_store_hangs_longer_than_their_leases(
    store, starting, tmp_path
):
    pids = three_with_a_message_each(store, starting, tmp_path / "go")
    running = embedded.find(Path(settings.DATA_DIR))
    assert running is not None
    with hung(running):
        time.sleep(2)
    all_keep_their_messages(store, starting, pids, tmp_path / "go")


def test_live_consumers_keep_their_messages_when_the_store_is_away_longer_than_their_leases(
    tmp_path,
):
    data = tmp_path / "data"
    with consumers(tmp_path, data) as starting:
        with embedded.running(data) as store, Redis.from_url(store.url) as client:
            pids = three_with_a_message_each(client, starting, tmp_path / "go")
        time.sleep(1.5)
        with embedded.running(data) as store, Redis.from_url(store.url) as client:
            all_keep_their_messages(client, starting, pids, tmp_path / "go")


def test_live_consumers_keep_their_messages_when_their_machine_is_suspended_for_long(
    store, starting, tmp_path
):
    pids = three_with_a_message_each(store, starting, tmp_path / "go")
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(2)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    all_keep_their_messages(store, starting, pids, tmp_path / "go")
