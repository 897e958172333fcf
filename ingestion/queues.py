"""How Redis is used; no other module of the intake knows a key, a command or a direction.

A queue is a list: messages are pushed left and taken right, so the oldest lies at the right end.
Every other key of a queue carries the queue's name as its hash tag and so lives in the same slot
of a cluster.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import structlog
from django.conf import settings
from django_redis import get_redis_connection
from redis import Redis
from redis import exceptions as redis_exceptions

from ingestion.outcomes import Code, StoreError

logger = structlog.get_logger(__name__)

_PUSH = (Path(__file__).parent / "lua" / "push.lua").read_text()
_PUSH_SHA = hashlib.sha1(_PUSH.encode(), usedforsecurity=False).hexdigest()

# Counters of a minute are kept 48 hours; they lie in one hash per hour.
_COUNTS_TTL_SECONDS = 49 * 3600
# After a time-out the store is left alone for this long: while it hangs, every further try would
# only hold another thread for the whole time-out.
_PAUSE_AFTER_TIMEOUT_SECONDS = 1.0
_left_alone_until = 0.0

# What the store itself answered, most special first; it then did nothing of what was asked.
_REFUSALS: tuple[tuple[type[redis_exceptions.RedisError], Code], ...] = (
    (redis_exceptions.BusyLoadingError, Code.STORE_LOADING),
    (redis_exceptions.ReadOnlyError, Code.STORE_READ_ONLY),
    (redis_exceptions.OutOfMemoryError, Code.STORE_OUT_OF_MEMORY),
    (redis_exceptions.AuthenticationError, Code.STORE_ERROR),
    (redis_exceptions.ResponseError, Code.STORE_ERROR),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueSummary:
    """One queue at one moment. Totals count since the store's data began."""

    queue: str
    depth: int
    oldest_age_seconds: float | None
    accepted: int
    rejected: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreHealth:
    """What the store says of itself. `reasons` says why it can not take records; empty is well."""

    reasons: tuple[str, ...]
    version: str | None = None
    used_memory_bytes: int | None = None


def push(queue: str, messages: Sequence[bytes], *, rejected: int = 0) -> int:
    """Put `messages` on `queue` in the order given and count them, all or nothing.

    Gives the queue's depth after it. Raises `StoreError`; only where its `outcome_unknown` is
    set may the messages be on the queue all the same.
    """
    hour, minute = divmod(int(time.time()) // 60, 60)
    keys = (queue, _totals_key(queue), _counts_key(queue, hour))
    arguments = (settings.QUEUE_LIMIT, minute, _COUNTS_TTL_SECONDS, rejected, *messages)
    depth: int = _run_once(keys, arguments)
    if depth < 0:
        raise StoreError(Code.QUEUE_FULL, retry_after_seconds=5)
    return depth


def summaries(queues: Iterable[str]) -> list[QueueSummary]:
    """Depth, oldest age and totals of the queues, in one round trip. Raises `StoreError`."""
    names = list(queues)
    pipeline = _client().pipeline(transaction=False)
    for queue in names:
        pipeline.llen(queue)
        pipeline.lindex(queue, -1)
        pipeline.hgetall(_totals_key(queue))
    replies = _read(pipeline.execute)
    now = datetime.now(UTC)
    return [
        QueueSummary(
            queue=queue,
            depth=replies[at],
            oldest_age_seconds=_age_seconds(replies[at + 1], now),
            accepted=int(replies[at + 2].get(b"accepted", 0)),
            rejected=int(replies[at + 2].get(b"rejected", 0)),
        )
        for queue, at in zip(names, range(0, len(replies), 3), strict=True)
    ]


def peek(queue: str, count: int, *, newest_first: bool = False) -> list[bytes]:
    """Up to `count` messages as they lie on the queue, the next to be taken first.

    Takes nothing off the queue. Raises `StoreError`.
    """
    if count < 1:  # Redis would take a range that ends at -1 for the whole list
        return []
    client = _client()
    if newest_first:
        found: list[bytes] = _read(lambda: client.lrange(queue, 0, count - 1))
        return found
    found = _read(lambda: client.lrange(queue, -count, -1))
    return found[::-1]


def health() -> StoreHealth:
    """Whether the store can take records now, and what it says of itself. Never raises."""
    client = _client()
    try:
        info: dict[str, Any] = _read(client.info)
    except StoreError as fault:
        return StoreHealth(reasons=(fault.code.value,))
    reasons = []
    # Some hosted stores leave parts of INFO out: what is not said is taken for good.
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


def _client() -> Redis:
    client: Redis = get_redis_connection("default")
    return client


def _totals_key(queue: str) -> str:
    return f"{{{queue}}}:totals"


def _counts_key(queue: str, hour: int) -> str:
    return f"{{{queue}}}:counts:{hour}"


def _age_seconds(message: bytes | None, now: datetime) -> float | None:
    """The age of a message; None where there is none, or one that is not ours."""
    if message is None:
        return None
    try:
        queued_at = msgspec.json.decode(message, type=_Envelope).queued_at
    except (msgspec.DecodeError, RecursionError):
        return None
    return max(0.0, (now - queued_at).total_seconds())


class _Envelope(msgspec.Struct):
    """The one part of a message that the queue itself reads."""

    queued_at: Annotated[datetime, msgspec.Meta(tz=True)]


def _run_once(keys: Sequence[str], arguments: Sequence[Any]) -> Any:
    """Run the push script once, never twice, and know whether it may have run.

    By hand on a connection of the pool, since the client's own call can neither say whether a
    failure came before or after the command was sent, nor be trusted not to send it again.
    """
    pool = _client().connection_pool
    sent = False
    _raise_if_left_alone()
    try:
        connection = pool.get_connection()
        try:
            for command, script in (("EVALSHA", _PUSH_SHA), ("EVAL", _PUSH)):
                connection.send_command(  # type: ignore[no-untyped-call]
                    command, script, len(keys), *keys, *arguments
                )
                sent = True
                try:
                    return connection.read_response()
                except redis_exceptions.NoScriptError:
                    sent = False  # the store has forgotten its scripts and did nothing
        finally:
            pool.release(connection)
    except redis_exceptions.RedisError as fault:
        raise _store_error(fault, sent=sent) from fault


def _read(call: Callable[[], Any]) -> Any:
    """What `call` reads from the store; raises `StoreError`."""
    _raise_if_left_alone()
    try:
        return call()
    except redis_exceptions.RedisError as fault:
        raise _store_error(fault, sent=False) from fault


def _raise_if_left_alone() -> None:
    if time.monotonic() < _left_alone_until:
        raise StoreError(Code.STORE_UNREACHABLE, retry_after_seconds=1)


def _store_error(fault: redis_exceptions.RedisError, *, sent: bool) -> StoreError:
    global _left_alone_until
    if isinstance(fault, redis_exceptions.TimeoutError):
        _left_alone_until = time.monotonic() + _PAUSE_AFTER_TIMEOUT_SECONDS
    code = next((code for kind, code in _REFUSALS if isinstance(fault, kind)), None)
    unknown = code is None and sent
    if code is None:
        code = Code.STORE_ANSWER_LOST if sent else Code.STORE_UNREACHABLE
    logger.warning("store_fault", code=code.value, fault=type(fault).__name__, exc_info=fault)
    return StoreError(code, retry_after_seconds=1, outcome_unknown=unknown)
