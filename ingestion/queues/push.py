"""Puts messages on a queue, and pauses a queue so that nothing can be put on it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.conf import settings

from ingestion.outcomes import Code, IntakeError, QueuePausedError, StoreError
from ingestion.queues.connection import RoundTrip, Script, write
from ingestion.queues.keys import NUMBERS_TTL_SECONDS, Keys, this_minute

_push = Script("push")

# The portal shows the latest rejections. More of them, or for a longer time, would be a second
# store of student data.
_REJECTIONS_KEPT = 500
_REJECTIONS_TTL_SECONDS = 7 * 24 * 3600

# A longer answer is stored compressed. It may be a megabyte about records without any field, sent
# in 71 bytes, and no limit of a queue prevents that. No plain answer begins like gzip.
_PLAIN_BYTES = 1024
_GZIP = b"\x1f\x8b"


class Once(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a push safe to repeat: the request's name, its fingerprint, and its answer.

    The answer is stored for `ttl_seconds` in the same step as the push, so that a crash cannot
    separate the two.
    """

    request: str
    fingerprint: str
    answer: bytes
    ttl_seconds: int


class Pushed(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a push.

    `place` is how many messages had ever been pushed on the queue before. `answer` is the first
    answer to the same request; if it is set, nothing was pushed now.
    """

    place: int
    answer: bytes | None = None


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """Why a queue takes nothing at present. `until` is None if somebody must resume it."""

    reason: str
    by: str
    since: datetime
    until: datetime | None = None


class Push(msgspec.Struct, frozen=True, kw_only=True):
    """What one request asks for: all of it is done, or nothing.

    `messages` go onto the queue in this order. `rejected` records are counted by their `causes`,
    and `rejections` are kept for the portal's list.
    """

    messages: Sequence[bytes]
    rejected: int = 0
    causes: Mapping[str, int] = {}
    rejections: Sequence[bytes] = ()
    once: Once | None = None


def push(queue: str, messages: Sequence[bytes], **options: Any) -> Pushed:
    """Make one push; `options` are the other fields of `Push`.

    Raises the `IntakeError` that `push_together` would give.
    """
    (outcome,) = push_together(queue, [Push(messages=messages, **options)])
    if isinstance(outcome, IntakeError):
        raise outcome
    return outcome


def push_together(queue: str, pushes: Sequence[Push]) -> list[Pushed | IntakeError]:
    """Make several pushes in one call of the store, in order; the outcome of each.

    A push that was refused has a `StoreError`, a `QueuePausedError`, or an `IntakeError` if the
    request of its `once` came before with another content. Its messages may be on the queue only
    if the error's `outcome_unknown` is set.
    """
    hour, minute = this_minute()
    replies: list[list[Any]] = []

    def need_a_replica(reply: list[list[Any]]) -> bool:
        replies.extend(reply)
        # This includes a replayed answer: perhaps no replica confirmed the first push.
        return any(one[0] in (b"pushed", b"replayed") for one in reply)

    arguments: list[Any] = [
        settings.QUEUE_LIMIT,
        minute,
        NUMBERS_TTL_SECONDS,
        _REJECTIONS_KEPT,
        _REJECTIONS_TTL_SECONDS,
    ]
    for one in pushes:
        arguments += _arguments(one)
    try:
        reply = _push(
            _keys(queue, hour, (one.once.request for one in pushes if one.once)),
            arguments,
            replicated=need_a_replica if settings.INGESTION_DURABILITY == "replicated" else None,
        )
    except StoreError as fault:
        if not replies:
            return [fault] * len(pushes)
        # They have been made, but no replica has confirmed it. The refusals stand.
        outcomes = [_outcome(one) for one in replies]
        return [one if isinstance(one, IntakeError) else fault for one in outcomes]
    return [_outcome(one) for one in reply]


def _arguments(push: Push) -> Iterable[Any]:
    once = push.once
    return (
        once.fingerprint if once else "",
        _packed(once.answer) if once else b"",
        once.ttl_seconds if once else 0,
        push.rejected,
        msgspec.json.encode(push.causes) if push.rejected else b"{}",
        len(push.rejections),
        len(push.messages),
        *push.rejections,
        *push.messages,
    )


def _outcome(reply: list[Any]) -> Pushed | IntakeError:
    match reply:
        case [b"pushed", place]:
            return Pushed(place=place)
        case [b"replayed", answer, place]:
            try:
                return Pushed(place=place, answer=_unpacked(answer))
            except (zlib.error, AttributeError):  # damaged: the other requests of the call are not
                return StoreError(
                    Code.STORE_ANSWER_LOST, retry_after_seconds=1, outcome_unknown=True
                )
        case [b"conflict"]:
            return IntakeError(Code.KEY_REUSED)
        case [b"paused", pause]:
            return _paused(read_pause(pause))
        case _:
            return StoreError(Code.QUEUE_FULL, retry_after_seconds=5)


def _packed(answer: bytes) -> bytes:
    if len(answer) <= _PLAIN_BYTES:
        return answer
    return zlib.compress(answer, level=1, wbits=16 + zlib.MAX_WBITS)


def _unpacked(kept: bytes) -> bytes:
    if not kept.startswith(_GZIP):
        return kept
    return zlib.decompress(kept, wbits=16 + zlib.MAX_WBITS)


def ask_refusal(round_trip: RoundTrip, queue: str) -> None:
    """Ask whether a push on the queue would be refused; the reply is the refusal, if any."""
    hour, _ = this_minute()
    _push.ask(round_trip, _keys(queue, hour, [""]), may_refuse=True)


def _keys(queue: str, hour: int, requests: Iterable[str]) -> tuple[str, ...]:
    keys = Keys(queue)
    return (
        queue,
        keys.totals,
        keys.counts(hour),
        keys.causes(hour),
        keys.rejections,
        keys.pause,
        *map(keys.answer, requests),
    )


def read_pause(content: bytes) -> Pause:
    """The pause as the store holds it."""
    try:
        return msgspec.json.decode(content, type=Pause)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Somebody set it by hand, from a shell: it keeps messages out too.
        return Pause(reason="set outside the portal", by="unknown", since=datetime.now(UTC))


def pause_queue(queue: str, pause: Pause) -> None:
    """Refuse messages for `queue` until it is resumed or the pause ends. Raises `StoreError`."""
    ends = () if pause.until is None else ("EXAT", int(pause.until.timestamp()))
    write("SET", Keys(queue).pause, msgspec.json.encode(pause), *ends)


def resume_queue(queue: str) -> bool:
    """End the pause; False if there was none. Raises `StoreError`."""
    return bool(write("DEL", Keys(queue).pause))


def _paused(pause: Pause) -> QueuePausedError:
    left = 60 if pause.until is None else (pause.until - datetime.now(UTC)).total_seconds()
    # At most an hour: staff may resume earlier than they said.
    return QueuePausedError(pause.reason, retry_after_seconds=int(min(max(left, 1), 3600)))
