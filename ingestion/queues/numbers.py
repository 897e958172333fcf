"""The numbers of the queues: depth, age, how much goes in and out, and what was refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Self

import msgspec

from ingestion.queues.connection import RoundTrip, is_wrong_type
from ingestion.queues.consumers import Consumption, ask_consumption, read_consumption
from ingestion.queues.health import StoreHealth, ask_store, read_store
from ingestion.queues.keys import NUMBERS_TTL_SECONDS, Keys, this_minute
from ingestion.queues.push import Pause, read_pause

_MOST_DIGITS = 20  # of a number that the store itself counts


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueSummary:
    """One queue at one moment. Totals count since the store's data began.

    `taken` is how many messages consumers have taken in all. `taken_off` is how many staff took off
    out of turn. `broken` is True if the queue's key holds something that is not a list; depth and
    age then mean nothing.
    """

    queue: str
    depth: int
    oldest_age_seconds: float | None
    accepted: int
    rejected: int
    taken: int
    taken_off: int = 0
    pause: Pause | None = None
    broken: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Minute:
    """One minute of one queue.

    `depth` is the depth that was read last in this minute; for the current minute it is the present
    depth. `taken` is what consumers took since the last minute with a depth. Both are None if
    nobody read the depth in that minute.
    """

    begins_at: datetime
    accepted: int
    rejected: int
    depth: int | None
    taken: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueHistory:
    """The last minutes of one queue, the oldest first; the last of them is the current one.

    `causes` is how often each code was the cause of a rejection in the last 24 hours.
    """

    minutes: tuple[Minute, ...]
    causes: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """Everything that the portal's pages show of the queues, from one round trip."""

    summaries: tuple[QueueSummary, ...]
    histories: tuple[QueueHistory, ...]
    consumption: tuple[Consumption, ...]
    store: StoreHealth


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """The last `hours` until now, as the keys of numbers are named."""

    now: datetime
    hour: int
    minute: int
    hours: int

    @classmethod
    def until_now(cls, hours: int) -> Self:
        """The span that ends now."""
        hour, minute = this_minute()
        return cls(now=datetime.now(UTC), hour=hour, minute=minute, hours=hours)

    @property
    def shown(self) -> range:
        """The hours to read; one more than asked for, because the first one is incomplete."""
        return range(self.hour - self.hours, self.hour + 1)

    @property
    def caused(self) -> range:
        """The hours whose causes of rejection are shown."""
        return range(self.hour - 23, self.hour + 1)


def summaries(queues: Iterable[str]) -> list[QueueSummary]:
    """Depth, oldest age and totals of the queues, in one round trip. Raises `StoreError`."""
    names = list(queues)
    round_trip = RoundTrip()
    for queue in names:
        _ask_summary(round_trip, queue)
    replies = round_trip.replies(forgive=is_wrong_type)
    now = datetime.now(UTC)
    return [_summary(queue, replies, now) for queue in names]


def overview(queues: Iterable[str], *, hours: int) -> Overview:
    """Summaries, the last `hours` of each queue, and the store, in one round trip.

    Raises `StoreError`.
    """
    names = list(queues)
    span = Span.until_now(hours)
    round_trip = RoundTrip()
    for queue in names:
        ask_numbers(round_trip, queue, span)
        ask_consumption(round_trip, queue)
    ask_store(round_trip)
    replies = round_trip.replies(forgive=is_wrong_type)
    found = [
        (*read_numbers(replies, queue, span), read_consumption(replies, queue)) for queue in names
    ]
    return Overview(
        summaries=tuple(summary for summary, _, _ in found),
        histories=tuple(history for _, history, _ in found),
        consumption=tuple(consumption for _, _, consumption in found),
        store=read_store(replies),
    )


def sample_depths(queues: Iterable[str]) -> None:
    """Note the depth of each queue for this minute. Raises `StoreError`.

    Pushes note it too. This is for minutes in which consumers take messages and none comes in.
    """
    hour, minute = this_minute()
    round_trip = RoundTrip()
    for one in summaries(queues):
        if one.broken:
            continue
        key = Keys(one.queue).counts(hour)
        round_trip.ask("HSET", key, f"depth:{minute}", one.depth)
        round_trip.ask("EXPIRE", key, NUMBERS_TTL_SECONDS)
    round_trip.replies(forgive=is_wrong_type)


# --- Questions that are sent together, and their answers in the same order ---------------------


def ask_numbers(round_trip: RoundTrip, queue: str, span: Span) -> None:
    """Ask for the values that `read_numbers` reads."""
    keys = Keys(queue)
    _ask_summary(round_trip, queue)
    for hour in span.shown:
        round_trip.ask("HGETALL", keys.counts(hour))
    for hour in span.caused:
        round_trip.ask("HGETALL", keys.causes(hour))


def read_numbers(
    replies: Iterator[Any], queue: str, span: Span
) -> tuple[QueueSummary, QueueHistory]:
    """A queue now, and what happened to it in `span`."""
    summary = _summary(queue, replies, span.now)
    by_hour = {hour: _numbers(next(replies)) for hour in span.shown}
    causes: Counter[str] = Counter()
    for _ in span.caused:
        causes.update(_numbers(next(replies)))
    if not summary.broken:
        by_hour[span.hour][f"depth:{span.minute}"] = summary.depth
    minutes = _minutes(by_hour, last=span.hour * 60 + span.minute, count=span.hours * 60)
    return summary, QueueHistory(minutes=minutes, causes=dict(causes.most_common()))


def _ask_summary(round_trip: RoundTrip, queue: str) -> None:
    keys = Keys(queue)
    round_trip.ask("LLEN", queue)
    round_trip.ask("LINDEX", queue, -1)
    round_trip.ask("HGETALL", keys.totals)
    round_trip.ask("GET", keys.pause)


def _summary(queue: str, replies: Iterator[Any], now: datetime) -> QueueSummary:
    depth, oldest, totals, pause = (next(replies) for _ in range(4))
    broken = is_wrong_type(depth)
    total = Counter(_numbers(totals))
    gone = total["accepted"] + total["put_back"] - total["taken_off"] - (0 if broken else depth)
    return QueueSummary(
        queue=queue,
        depth=0 if broken else depth,
        oldest_age_seconds=None if broken else age_seconds(oldest, now),
        accepted=total["accepted"],
        rejected=total["rejected"],
        taken=0 if broken else max(0, gone),
        taken_off=total["taken_off"],
        pause=None if pause is None or is_wrong_type(pause) else read_pause(pause),
        broken=broken,
    )


def age_seconds(message: bytes | None, now: datetime) -> float | None:
    """The age of a message; None if there is no message, or if it is not ours."""
    if message is None:
        return None
    try:
        queued_at = msgspec.json.decode(message, type=_Envelope).queued_at
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return max(0.0, (now - queued_at).total_seconds())


class _Envelope(msgspec.Struct):
    """The only part of a message that the numbers need."""

    queued_at: Annotated[datetime, msgspec.Meta(tz=True)]


def _numbers(reply: Any) -> dict[str, int]:
    """A hash of counts; values that somebody else put there are ignored."""
    if is_wrong_type(reply):
        return {}
    return {
        name.decode(errors="replace"): int(value)
        for name, value in reply.items()
        if len(value) <= _MOST_DIGITS and value.removeprefix(b"-").isdigit()
    }


def _minutes(
    by_hour: Mapping[int, Mapping[str, int]], *, last: int, count: int
) -> tuple[Minute, ...]:
    """The `count` minutes that end with minute `last` (since 1970), the oldest first."""
    found = []
    before: int | None = None
    for at in range(last - count, last + 1):
        hour, minute = divmod(at, 60)
        counts = by_hour[hour]
        accepted = counts.get(f"accepted:{minute}", 0)
        depth = counts.get(f"depth:{minute}")
        taken = None
        if depth is not None:
            if before is not None:
                put_back = counts.get(f"put_back:{minute}", 0)
                taken_off = counts.get(f"taken_off:{minute}", 0)
                taken = max(0, before + accepted + put_back - taken_off - depth)
            before = depth
        found.append(
            Minute(
                begins_at=datetime.fromtimestamp(at * 60, UTC),
                accepted=accepted,
                rejected=counts.get(f"rejected:{minute}", 0),
                depth=depth,
                taken=taken,
            )
        )
    return tuple(found[1:])
