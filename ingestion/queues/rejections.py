"""The latest refused records of the API: bounded, expiring, and there to be fixed by staff."""

from __future__ import annotations

from datetime import datetime

import msgspec

from ingestion.queues.connection import client, read
from ingestion.queues.keys import Keys


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A refused record as it is kept: when, by which client, why, and what was sent.

    `errors` are (field, code, message); `record` is the JSON value that was sent, None where it was
    no object.
    """

    id: str
    at: datetime
    source: str
    record_id: str | None
    errors: tuple[tuple[str | None, str, str], ...]
    record: dict[str, object] | None


def refusals(queue: str, count: int) -> list[tuple[Refusal, str | None]]:
    """The newest `count`, each with the id of the record that fixed it. Raises `StoreError`."""
    keys = Keys(queue)
    pipeline = client().pipeline(transaction=False)
    pipeline.lrange(keys.rejections, 0, count - 1)
    pipeline.hgetall(keys.fixed)
    kept, fixed = read(pipeline.execute)
    found = [msgspec.json.decode(raw, type=Refusal) for raw in kept]
    return [(one, _text(fixed.get(one.id.encode()))) for one in found]


def mark_fixed(queue: str, refusal_id: str, record_id: str) -> None:
    """Note that the record was sent again as `record_id`. Raises `StoreError`."""
    keys = Keys(queue)
    pipeline = client().pipeline(transaction=False)
    pipeline.hset(keys.fixed, refusal_id, record_id)
    pipeline.expire(keys.fixed, 7 * 24 * 3600)
    read(pipeline.execute)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
