"""The consumers of the queues, for people who look."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from ingestion.queues.connection import RoundTrip, Script, is_wrong_type
from ingestion.queues.keys import Keys

_consumption = Script("consumption")


class Says(msgspec.Struct, frozen=True, kw_only=True):
    """What a consumer says of itself."""

    host: str
    pid: int
    since: datetime
    lease_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsumerSummary:
    """A consumer as the store knows it; times are by the store's clock.

    `alive` is False if its lease ran out. Its messages go back to the queue as soon as another
    consumer runs. `host`, `pid`, `since` and `last_heartbeat_at` are None if it did not say them.
    """

    name: str
    in_flight: int
    alive: bool
    host: str | None = None
    pid: int | None = None
    since: datetime | None = None
    last_heartbeat_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Consumption:
    """The consumers of one queue at one moment, and how many dead letters there are."""

    queue: str
    consumers: tuple[ConsumerSummary, ...]
    dead: int

    @property
    def in_flight(self) -> int:
        """How many messages the consumers hold."""
        return sum(one.in_flight for one in self.consumers)


def consumption(queues: Iterable[str]) -> list[Consumption]:
    """Consumers, messages in flight and dead letters of the queues, in one round trip.

    Consumers that take with a plain `RPOP` are not seen. Raises `StoreError`.
    """
    names = list(queues)
    round_trip = RoundTrip()
    for queue in names:
        ask_consumption(round_trip, queue)
    replies = round_trip.replies(forgive=is_wrong_type)
    return [read_consumption(replies, queue) for queue in names]


def ask_consumption(round_trip: RoundTrip, queue: str) -> None:
    """Ask for the values that `read_consumption` reads."""
    keys = Keys(queue)
    _consumption.ask(round_trip, (keys.leases, keys.consumers, keys.dead, keys.claimed("")))


def read_consumption(replies: Iterator[Any], queue: str) -> Consumption:
    """The consumers of the queue; empty if one of the keys holds a value of the wrong type."""
    reply = next(replies)
    if is_wrong_type(reply):
        return Consumption(queue=queue, consumers=(), dead=0)
    now, dead, consumers = reply
    found = tuple(_summary(one, now) for one in consumers)
    return Consumption(queue=queue, consumers=found, dead=dead)


def _summary(one: Any, now: int) -> ConsumerSummary:
    name, said, lease_ends, in_flight = one
    summary = {
        "name": name.decode(errors="replace"),
        "in_flight": in_flight,
        "alive": lease_ends > now,
    }
    try:
        says = msgspec.json.decode(said, type=Says)
        ends_at = datetime.fromtimestamp(lease_ends / 1000, UTC)
        heartbeat_at = ends_at - timedelta(seconds=says.lease_seconds)
    # It uses only the bare protocol, or it writes invalid times.
    except (msgspec.DecodeError, ValueError, RecursionError, OverflowError, OSError):
        return ConsumerSummary(**summary)
    return ConsumerSummary(
        **summary,
        host=says.host,
        pid=says.pid,
        since=says.since,
        last_heartbeat_at=heartbeat_at,
    )
