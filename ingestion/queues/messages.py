"""What lies on a queue: look at it, find in it, take off and put back. For staff, not consumers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import msgspec

from ingestion.queues.connection import Script, client, read
from ingestion.queues.keys import NUMBERS_TTL_SECONDS, Keys, this_minute

_take_off = Script("take_off")
_put_back = Script("put_back")

COPIES_TTL_SECONDS = 7 * 24 * 3600
# Finding goes through so many messages at most, from the newest on.
FIND_WITHIN = 10_000
_SLICE = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One message as it lies on a queue.

    `name` stands for exactly these bytes in addresses and forms. Where the bytes are not a message
    of ours, `problem` says so in words for people, and only name and size are told.
    """

    raw: bytes
    name: str
    problem: str | None = None
    id: str | None = None
    source: str | None = None
    queued_at: datetime | None = None
    data: Any = None

    @property
    def size_bytes(self) -> int:
        """How many bytes it takes on the queue."""
        return len(self.raw)


class _Envelope(msgspec.Struct):
    data: dict[str, Any]
    queued_at: Annotated[datetime, msgspec.Meta(tz=True)]
    id: str | None = None
    source: str | None = None


def window(queue: str, *, first: int, count: int, newest_first: bool = False) -> list[Message]:
    """`count` messages from place `first` on, the next to be taken first (or the newest first).

    Takes nothing off the queue; `first` counts from 0. Raises `StoreError`.
    """
    if count < 1:  # Redis would take a range that ends at -1 for the whole list
        return []
    if newest_first:
        found = _slice(queue, first, first + count - 1)
    else:
        found = _slice(queue, -first - count, -first - 1)[::-1]
    return [_message(raw) for raw in found]


def find(queue: str, id_field: str, record_id: str) -> list[Message]:
    """The messages whose record has this id, among the newest `FIND_WITHIN`.

    Raises `StoreError`.
    """
    # The id is looked for in the raw bytes first: only what could match is decoded.
    needle = msgspec.json.encode(record_id)
    return [
        message
        for raw in _newest(queue, FIND_WITHIN)
        if needle in raw
        and (message := _message(raw)).problem is None
        and message.data.get(id_field) == record_id
    ]


def take_off(queue: str, messages: Sequence[bytes], *, name: str, newest: bool = False) -> int:
    """Take exactly these messages off and keep copies under `name` for `COPIES_TTL_SECONDS`.

    `messages` come the oldest first. Gives how many were still there: a consumer may have been
    faster. Raises `StoreError`.
    """
    keys = Keys(queue)
    hour, minute = this_minute()
    taken: int = _take_off(
        (queue, keys.copies(name), keys.totals, keys.counts(hour)),
        (minute, NUMBERS_TTL_SECONDS, COPIES_TTL_SECONDS, 1 if newest else -1, *messages),
    )
    return taken


def put_back(queue: str, name: str) -> int:
    """Put the copies kept under `name` back, the next to be taken. Gives how many. `StoreError`."""
    keys = Keys(queue)
    hour, minute = this_minute()
    count: int = _put_back(
        (queue, keys.copies(name), keys.totals, keys.counts(hour)),
        (minute, NUMBERS_TTL_SECONDS),
    )
    return count


def copies(queue: str, names: Sequence[str]) -> dict[str, int]:
    """How many copies are kept under each of `names`, in one round trip. Raises `StoreError`."""
    keys = Keys(queue)
    pipeline = client().pipeline(transaction=False)
    for name in names:
        pipeline.llen(keys.copies(name))
    return dict(zip(names, read(pipeline.execute), strict=True))


def of_upload(queue: str, upload: int, *, since: datetime) -> Iterator[list[bytes]]:
    """The messages of an upload that nobody has taken, in slices, the newest first.

    Looks from the newest message on and ends at the first that was queued before `since`, so its
    cost is what came in since then, not the queue's depth. Raises `StoreError`.
    """
    source = f"upload:{upload}#"
    needle = source.encode()
    first = 0
    while slice_ := _slice(queue, first, first + _SLICE - 1):
        found = [
            raw
            for raw in slice_
            if needle in raw and (_message(raw).source or "").startswith(source)
        ]
        yield found
        # What the caller takes off moves the rest up.
        first += len(slice_) - len(found)
        oldest = _message(slice_[-1]).queued_at
        if oldest is not None and oldest < since:
            return


def _slice(queue: str, first: int, last: int) -> list[bytes]:
    found: list[bytes] = read(lambda: client().lrange(queue, first, last))
    return found


def _newest(queue: str, count: int) -> Iterator[bytes]:
    pipeline = client().pipeline(transaction=False)
    for first in range(0, count, _SLICE):
        pipeline.lrange(queue, first, first + _SLICE - 1)
    for slice_ in read(pipeline.execute):
        yield from slice_


def _message(raw: bytes) -> Message:
    name = hashlib.sha256(raw).hexdigest()[:32]
    try:
        msgspec.json.decode(raw)
        envelope = msgspec.json.decode(raw, type=_Envelope)
    except msgspec.ValidationError:
        return Message(raw=raw, name=name, problem="no message of ours")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Message(raw=raw, name=name, problem="not JSON")
    return Message(
        raw=raw,
        name=name,
        id=envelope.id,
        source=envelope.source,
        queued_at=envelope.queued_at,
        data=envelope.data,
    )
