"""The latest records of the API that were refused: limited in number and time, for staff to fix."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from ingestion.queues.connection import RoundTrip
from ingestion.queues.keys import Keys

_FIXED_TTL_SECONDS = 7 * 24 * 3600


class KeptRejection(msgspec.Struct, frozen=True, kw_only=True):
    """A refused record: when it came, from which client, why it was refused, and what was sent.

    `errors` are (field, code, message). `record` is the object that was sent, None if it was no
    object or cannot be kept. `queue` is the queue of its type. `fixed_by` is the id of the record
    that staff sent in its place.
    """

    id: Annotated[str, msgspec.Meta(pattern=r"^[-0-9A-Za-z_]{1,64}\Z")]
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    source: str
    record_id: str | None
    errors: tuple[tuple[str | None, str, str], ...]
    record: dict[str, object] | None
    queue: str = ""
    fixed_by: str | None = None


def rejections(queues: Iterable[str]) -> list[KeptRejection]:
    """All kept rejections of these queues, the newest first, from one round trip.

    Raises `StoreError`.
    """
    names = list(queues)
    round_trip = RoundTrip()
    for keys in map(Keys, names):
        round_trip.ask("LRANGE", keys.rejections, 0, -1)  # the push keeps it short
        round_trip.ask("HGETALL", keys.fixed)
    replies = round_trip.replies()
    found = []
    for queue in names:
        kept, fixed = next(replies), next(replies)
        for raw in kept:
            if (one := _ours(raw)) is None:
                continue
            by = fixed.get(one.id.encode())
            found.append(
                msgspec.structs.replace(
                    one, queue=queue, fixed_by=by.decode(errors="replace") if by else None
                )
            )
    return sorted(found, key=lambda one: one.at, reverse=True)


def _ours(raw: bytes) -> KeptRejection | None:
    """A kept rejection; None if another program put something else there."""
    try:
        one = msgspec.json.decode(raw, type=KeptRejection)
        return msgspec.structs.replace(one, at=one.at.astimezone(UTC))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError):
        return None


def mark_fixed(queue: str, rejection_id: str, record_id: str) -> None:
    """Note that the record was sent again as `record_id`. Raises `StoreError`."""
    keys = Keys(queue)
    round_trip = RoundTrip()
    round_trip.ask("HSET", keys.fixed, rejection_id, record_id)
    round_trip.ask("EXPIRE", keys.fixed, _FIXED_TTL_SECONDS)
    round_trip.replies()
