"""The messages on a queue: view, find, take off, put back. For staff, not for consumers."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from ingestion import sources
from ingestion.queues.connection import RoundTrip, Script, is_wrong_type, read
from ingestion.queues.consumers import Consumption, ask_consumption, read_consumption
from ingestion.queues.health import StoreHealth, ask_store, read_store
from ingestion.queues.keys import NUMBERS_TTL_SECONDS, Keys, this_minute
from ingestion.queues.numbers import (
    QueueHistory,
    QueueSummary,
    Span,
    ask_numbers,
    read_numbers,
)

_take_off = Script("take_off")
_put_back = Script("put_back")
_of_source = Script("of_source")

COPIES_TTL_SECONDS = 7 * 24 * 3600
# Staff can view, find and take off this many messages at either end, so that the cost of a page
# does not grow with the depth. Messages in between come within reach as consumers read on.
REACH = 10_000
_LOOK_THROUGH = 5000


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One message as it is on a queue.

    `name` stands for exactly these bytes in addresses and forms. If the bytes are not a message of
    ours, `problem` says so in words for people, and only the name and the size are known.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """`count` messages from place `first` (from 0) on: the next to be taken first or the newest."""

    first: int
    count: int
    newest_first: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """The messages whose record has this id, the newest first; searches the newest `REACH`."""

    id_field: str
    record_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Detail:
    """Everything that the page of one queue shows, from one round trip.

    `copies` says how many copies are still kept of messages that were taken off, by their name.
    """

    summary: QueueSummary
    history: QueueHistory
    consumption: Consumption
    store: StoreHealth
    messages: tuple[Message, ...]
    copies: Mapping[str, int]


def detail(
    queue: str, *, hours: int, listing: Window | Search, copies: Sequence[str] = ()
) -> Detail:
    """The numbers of the last `hours`, the messages of `listing`, and how many `copies` are left.

    Raises `StoreError`.
    """
    span = Span.until_now(hours)
    round_trip = RoundTrip()
    ask_numbers(round_trip, queue, span)
    ask_consumption(round_trip, queue)
    round_trip.ask("LRANGE", queue, *_bounds(listing))
    for name in copies:
        round_trip.ask("LLEN", Keys(queue).copies(name))
    ask_store(round_trip)
    replies = round_trip.replies(forgive=is_wrong_type)
    summary, history = read_numbers(replies, queue, span)
    consumption = read_consumption(replies, queue)
    found = next(replies)
    return Detail(
        summary=summary,
        history=history,
        consumption=consumption,
        messages=() if is_wrong_type(found) else _listed(listing, found),
        copies={name: next(replies) for name in copies},
        store=read_store(replies),
    )


def window(queue: str, *, first: int, count: int, newest_first: bool = False) -> list[Message]:
    """`count` messages from place `first` on: the next to be taken first, or the newest.

    Takes nothing off the queue; `first` counts from 0. Raises `StoreError`.
    """
    if count < 1:  # for Redis, a range that ends at -1 would be the whole list
        return []
    listing = Window(first=first, count=count, newest_first=newest_first)
    return list(_listed(listing, _slice(queue, *_bounds(listing))))


def named(queue: str, names: Collection[str], *, newest_first: bool) -> dict[str, Message]:
    """The messages with these names, among `REACH` from one end. Raises `StoreError`.

    A name that is not found stands for a message that a consumer has taken meanwhile.
    """
    # One range, not several: a message could move out of sight if a consumer takes in between.
    whole = Window(first=0, count=REACH, newest_first=newest_first)
    return {
        name: _message(raw)
        for raw in _slice(queue, *_bounds(whole))
        if (name := _name(raw)) in names
    }


def take_off(
    queue: str,
    messages: Sequence[bytes],
    *,
    name: str,
    newest: bool = False,
    within: int | None = None,
) -> int:
    """Take exactly these messages off and keep copies under `name` for `COPIES_TTL_SECONDS`.

    The search begins at the oldest message, or at the newest, and goes through the whole queue or
    through `within` messages. Returns how many were still there: a consumer may have been faster.
    Raises `StoreError`.
    """
    keys = Keys(queue)
    hour, minute = this_minute()
    taken: int = _take_off(
        (queue, keys.copies(name), keys.totals, keys.counts(hour)),
        (
            minute,
            NUMBERS_TTL_SECONDS,
            COPIES_TTL_SECONDS,
            "newest" if newest else "oldest",
            2**31 if within is None else within,
            secrets.token_hex(),
            *messages,
        ),
    )
    return taken


def put_back(queue: str, name: str) -> int:
    """Put the copies kept under `name` back, to be taken next. Returns how many. `StoreError`."""
    keys = Keys(queue)
    hour, minute = this_minute()
    count: int = _put_back(
        (queue, keys.copies(name), keys.totals, keys.counts(hour)),
        (minute, NUMBERS_TTL_SECONDS),
    )
    return count


def copies_left(queue: str, name: str) -> int:
    """How many copies are kept under `name` now. Raises `StoreError`."""
    count: int = read(queue, lambda store: store.llen(Keys(queue).copies(name)))
    return count


def of_upload(queue: str, upload: int, *, most: int) -> Iterator[list[bytes]]:
    """The messages of an upload that nobody has taken, in slices, the newest first.

    The caller takes each slice off before it asks for the next. A message is recognised by its
    source, so neither the time nor the clock of its queueing matters. The search begins at the
    newest message and ends when `most` are found or the queue ends. The store searches some
    thousand messages at a time, and sends only the ones that are found. Raises `StoreError`.
    """
    text = sources.before_line(upload)
    keys = (queue, Keys(queue).totals)
    place, taken_off, looked_at = 0, -1, 1
    while most > 0 and looked_at:
        arguments = (place, taken_off, _LOOK_THROUGH, f'"{text}')
        place, taken_off, looked_at, *raws = _of_source(keys, arguments)
        found = [raw for raw in raws if (_message(raw).source or "").startswith(text)]
        most -= len(found)
        if found:
            yield found


def _slice(queue: str, first: int, last: int) -> list[bytes]:
    found: list[bytes] = read(queue, lambda store: store.lrange(queue, first, last))
    return found


def _bounds(listing: Window | Search) -> tuple[int, int]:
    if isinstance(listing, Search):
        return 0, REACH - 1
    last = listing.first + listing.count - 1
    return (listing.first, last) if listing.newest_first else (-last - 1, -listing.first - 1)


def _listed(listing: Window | Search, found: list[bytes]) -> tuple[Message, ...]:
    if isinstance(listing, Window):
        return tuple(_message(raw) for raw in (found if listing.newest_first else found[::-1]))
    # The raw bytes are searched for the id first, in both ways in which JSON may write it. Only
    # messages that may match are decoded.
    needles = {msgspec.json.encode(listing.record_id), json.dumps(listing.record_id).encode()}
    return tuple(
        message
        for raw in found
        if any(needle in raw for needle in needles)
        and (message := _message(raw)).problem is None
        and message.data.get(listing.id_field) == listing.record_id
    )


def _name(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:32]


def _message(raw: bytes) -> Message:
    name = _name(raw)
    try:
        msgspec.json.decode(raw)
        envelope = msgspec.json.decode(raw, type=_Envelope)
        queued_at = envelope.queued_at.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):  # in UTC it is outside the calendar
        return Message(raw=raw, name=name, problem="no message of ours")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Message(raw=raw, name=name, problem="not JSON")
    return Message(
        raw=raw,
        name=name,
        id=envelope.id,
        source=envelope.source,
        queued_at=queued_at,
        data=envelope.data,
    )
