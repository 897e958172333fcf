"""The numbers of all queues at one moment, as every face tells them."""

from __future__ import annotations

from typing import Any

from ingestion import queues
from ingestion.outcomes import Code, StoreError, utc_timestamp
from ingestion.queues import QueueSummary
from ingestion.records import RECORD_TYPES, RecordType

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def queue_summaries() -> dict[RecordType, QueueSummary]:
    """Depth, oldest age and totals of each record type's queue, from one round trip.

    Raises `StoreError`, also where something that is no list lies at a queue's key: the zeros of
    such a queue must not pass for an empty one.
    """
    types = RECORD_TYPES.values()
    found = dict(zip(types, queues.summaries(one.queue for one in types), strict=True))
    if any(one.broken for one in found.values()):
        raise StoreError(Code.STORE_ERROR, retry_after_seconds=60)
    return found


def queue_stats_document() -> dict[str, Any]:
    """What `GET /api/queue/stats` answers (contract, section 2). Raises `StoreError`."""
    found = queue_summaries()
    return {
        "timestamp": utc_timestamp(),
        "queues": {record_type.queue_label: one.depth for record_type, one in found.items()},
        "detail": {
            record_type.queue_label: {
                "queue": one.queue,
                "depth": one.depth,
                "oldest_age_seconds": one.oldest_age_seconds,
                "accepted": one.accepted,
                "rejected": one.rejected,
            }
            for record_type, one in found.items()
        },
    }


def duration(seconds: float | None) -> str:
    """Seconds as people say them, the two largest units: `4 min 10 s`, `3 h 5 min`, `2 d 1 h`.

    Nothing for None, and 0 s for a time to come, as clocks differ.
    """
    if seconds is None:
        return ""
    rest = max(0, int(seconds))
    counts: list[tuple[int, str]] = []
    for length, unit in _UNITS:
        count, rest = divmod(rest, length)
        if count or counts:
            counts.append((count, unit))
    return " ".join(f"{count} {unit}" for count, unit in counts[:2] if count) or "0 s"
