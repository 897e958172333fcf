"""Messages that consumers gave up on: look at them, put them back, or throw them away."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from ingestion.queues.connection import Script, read
from ingestion.queues.keys import Keys
from ingestion.queues.messages import Message, window

_settle_dead = Script("settle_dead")

_SLICE = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter:
    """A message that failed too often: why the last attempt failed, how many failed, and when.

    The three are None if another program put the message among the dead letters.
    """

    message: Message
    reason: str | None = None
    attempts: int | None = None
    died_at: datetime | None = None


class _Why(msgspec.Struct):
    reason: str
    attempts: int
    died_at_ms: int


def dead_letters(
    queue: str, *, first: int, count: int, newest_first: bool = False
) -> list[DeadLetter]:
    """`count` dead letters from place `first` (from 0) on, the oldest or the newest first.

    Takes two round trips, however many dead letters there are. Raises `StoreError`.
    """
    keys = Keys(queue)
    messages = window(keys.dead, first=first, count=count, newest_first=newest_first)
    if not messages:
        return []
    ids = [hashlib.sha1(one.raw, usedforsecurity=False).hexdigest() for one in messages]
    reasons = read(keys.reasons, lambda store: store.hmget(keys.reasons, ids))
    return [_letter(message, why) for message, why in zip(messages, reasons, strict=True)]


def put_back_dead(queue: str, messages: Sequence[bytes], *, newest: bool = False) -> int:
    """Put these dead letters back on the queue, in order, to be taken next.

    They get all their attempts again. `messages` holds about a thousand at most, the oldest first;
    the search begins at the oldest dead letter, or at the newest. Returns how many were still
    there. Raises `StoreError`.
    """
    return _settle(queue, "put_back", messages, newest)


def put_back_all_dead(queue: str) -> int:
    """Put all present dead letters back. Returns how many. Raises `StoreError`."""
    keys = Keys(queue)
    left = read(keys.dead, lambda store: store.llen(keys.dead))
    count = 0
    # The newest first: then, slice after slice, the older ones are taken before the newer ones.
    # Places count from the oldest, so new dead letters come after all of these.
    while left > 0:
        first = max(0, left - _SLICE)
        newest = window(keys.dead, first=first, count=left - first)
        count += put_back_dead(queue, [one.raw for one in newest], newest=True)
        left = first
    return count


def discard_dead(queue: str, messages: Sequence[bytes], *, newest: bool = False) -> int:
    """Delete these dead letters for good. The rest is as in `put_back_dead`."""
    return _settle(queue, "discard", messages, newest)


def _settle(queue: str, what: str, messages: Sequence[bytes], newest: bool) -> int:
    keys = Keys(queue)
    settled: int = _settle_dead(
        (keys.dead, keys.reasons, queue), (what, 1 if newest else -1, *messages)
    )
    return settled


def _letter(message: Message, why: bytes | None) -> DeadLetter:
    try:
        told = msgspec.json.decode(why or b"", type=_Why)
        died_at = datetime.fromtimestamp(told.died_at_ms / 1000, UTC)
    # There is no reason, or another program wrote it.
    except (msgspec.DecodeError, ValueError, RecursionError, OverflowError, OSError):
        return DeadLetter(message=message)
    return DeadLetter(message=message, reason=told.reason, attempts=told.attempts, died_at=died_at)
