"""The numbers of the queues: how deep, how old, how much goes in and out, and what was refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from redis.exceptions import RedisError, ResponseError

from ingestion.outcomes import Code, StoreError
from ingestion.queues.connection import client, read
from ingestion.queues.keys import NUMBERS_TTL_SECONDS, Keys, this_minute
from ingestion.queues.push import Pause


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueSummary:
    """One queue at one moment. Totals count since the store's data began.

    `taken` is how many messages consumers have taken in all. `broken` is True where something
    that is no list lies at the queue's key; depth and age then say nothing.
    """

    queue: str
    depth: int
    oldest_age_seconds: float | None
    accepted: int
    rejected: int
    taken: int
    pause: Pause | None = None
    broken: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Minute:
    """One minute of one queue.

    `depth` is the depth at its end and `taken` what consumers took in it; both None where nothing
    looked at the queue in that minute.
    """

    begins_at: datetime
    accepted: int
    rejected: int
    depth: int | None
    taken: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueHistory:
    """The last minutes of one queue, the oldest first, and the causes of its rejections."""

    minutes: tuple[Minute, ...]
    causes: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreHealth:
    """What the store says of itself. `reasons` says why it can not take records; empty is well."""

    reasons: tuple[str, ...]
    version: str | None = None
    used_memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """Everything that the portal's pages show of the queues, from one round trip."""

    summaries: tuple[QueueSummary, ...]
    histories: tuple[QueueHistory, ...]
    store: StoreHealth


def summaries(queues: Iterable[str]) -> list[QueueSummary]:
    """Depth, oldest age and totals of the queues, in one round trip. Raises `StoreError`."""
    names = list(queues)
    pipeline = client().pipeline(transaction=False)
    for queue in names:
        _ask_summary(pipeline, queue)
    replies = iter(_replies(pipeline))
    now = datetime.now(UTC)
    return [_summary(queue, replies, now) for queue in names]


def overview(queues: Iterable[str], *, hours: int) -> Overview:
    """Summaries, the last `hours` of each queue, and the store, in one round trip.

    Causes of rejection are those of the last 24 hours whatever `hours` is. Raises `StoreError`.
    """
    names = list(queues)
    now = datetime.now(UTC)
    hour, minute = this_minute()
    # One hour more than shown: a minute's flow needs the depth before it.
    shown = range(hour - hours, hour + 1)
    caused = range(hour - 23, hour + 1)
    pipeline = client().pipeline(transaction=False)
    for queue in names:
        keys = Keys(queue)
        _ask_summary(pipeline, queue)
        for one in shown:
            pipeline.hgetall(keys.counts(one))
        for one in caused:
            pipeline.hgetall(keys.causes(one))
    pipeline.info()
    replies = iter(_replies(pipeline))
    found = []
    histories = []
    for queue in names:
        found.append(_summary(queue, replies, now))
        by_hour = {one: next(replies) for one in shown}
        causes: Counter[str] = Counter()
        for _ in caused:
            causes.update({key.decode(): int(n) for key, n in next(replies).items()})
        histories.append(
            QueueHistory(
                minutes=_minutes(by_hour, last=hour * 60 + minute, count=hours * 60),
                causes=dict(causes.most_common()),
            )
        )
    return Overview(
        summaries=tuple(found), histories=tuple(histories), store=_health(next(replies))
    )


def health() -> StoreHealth:
    """Whether the store can take records now, and what it says of itself. Never raises."""
    try:
        return _health(read(client().info))
    except StoreError as fault:
        return StoreHealth(reasons=(fault.code.value,))


def sample_depths(queues: Iterable[str]) -> None:
    """Note the depth of each queue for this minute. Raises `StoreError`.

    Pushes note it too; this is for the minutes in which consumers take and nothing comes in.
    """
    names = list(queues)
    hour, minute = this_minute()
    depths = [one.depth for one in summaries(names)]
    pipeline = client().pipeline(transaction=False)
    for queue, depth in zip(names, depths, strict=True):
        key = Keys(queue).counts(hour)
        pipeline.hset(key, f"depth:{minute}", depth)
        pipeline.expire(key, NUMBERS_TTL_SECONDS)
    read(pipeline.execute)


def _ask_summary(pipeline: Any, queue: str) -> None:
    keys = Keys(queue)
    pipeline.llen(queue)
    pipeline.lindex(queue, -1)
    pipeline.hgetall(keys.totals)
    pipeline.get(keys.pause)


def _replies(pipeline: Any) -> list[Any]:
    """The replies; a key of the wrong type gives its error as reply, every other one is raised."""

    def execute() -> list[Any]:
        replies: list[Any] = pipeline.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, RedisError) and not _is_wrong_type(reply):
                raise reply
        return replies

    found: list[Any] = read(execute)
    return found


def _is_wrong_type(reply: object) -> bool:
    return isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE")


def _summary(queue: str, replies: Any, now: datetime) -> QueueSummary:
    depth, oldest, totals, pause = (next(replies) for _ in range(4))
    broken = _is_wrong_type(depth)
    total = {name.decode(): int(n) for name, n in totals.items()}
    accepted = total.get("accepted", 0)
    return QueueSummary(
        queue=queue,
        depth=0 if broken else depth,
        oldest_age_seconds=None if broken else age_seconds(oldest, now),
        accepted=accepted,
        rejected=total.get("rejected", 0),
        taken=0
        if broken
        else max(0, accepted + total.get("put_back", 0) - total.get("taken_off", 0) - depth),
        pause=msgspec.json.decode(pause, type=Pause) if pause else None,
        broken=broken,
    )


def age_seconds(message: bytes | None, now: datetime) -> float | None:
    """The age of a message; None where there is none, or one that is not ours."""
    if message is None:
        return None
    try:
        queued_at = msgspec.json.decode(message, type=_Envelope).queued_at
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return max(0.0, (now - queued_at).total_seconds())


class _Envelope(msgspec.Struct):
    """The one part of a message that the numbers need."""

    queued_at: Annotated[datetime, msgspec.Meta(tz=True)]


def _minutes(
    by_hour: Mapping[int, Mapping[bytes, bytes]], *, last: int, count: int
) -> tuple[Minute, ...]:
    """The `count` minutes that end with minute `last` (since 1970), the oldest first."""
    found = []
    before: int | None = None
    for at in range(last - count, last + 1):
        hour, minute = divmod(at, 60)

        def number(name: str, hour: int = hour, minute: int = minute) -> int | None:
            value = by_hour[hour].get(f"{name}:{minute}".encode())
            return None if value is None else int(value)

        accepted = number("accepted") or 0
        depth = number("depth")
        taken = None
        if depth is not None and before is not None:
            moved = (number("put_back") or 0) - (number("taken_off") or 0)
            taken = max(0, before + accepted + moved - depth)
        found.append(
            Minute(
                begins_at=datetime.fromtimestamp(at * 60, UTC),
                accepted=accepted,
                rejected=number("rejected") or 0,
                depth=depth,
                taken=taken,
            )
        )
        before = depth
    return tuple(found[1:])


def _health(info: Mapping[str, Any]) -> StoreHealth:
    reasons = []
    # Some hosted stores leave parts of INFO out; what is not said counts as well.
    if info.get("loading"):
        reasons.append(Code.STORE_LOADING.value)
    if info.get("role", "master") != "master":
        reasons.append(Code.STORE_READ_ONLY.value)
    version = info.get("valkey_version") or info.get("redis_version")
    return StoreHealth(
        reasons=tuple(reasons),
        version=None if version is None else str(version),
        used_memory_bytes=info.get("used_memory"),
    )
