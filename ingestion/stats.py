"""The numbers of all queues at one moment, as every face tells them."""

from __future__ import annotations

from typing import Any

from ingestion import queues
from ingestion.outcomes import Code, StoreError, utc_timestamp
from ingestion.queues import QueueSummary
from ingestion.records import RECORD_TYPES, RecordType

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def queue_summaries() -> dict[RecordType, QueueSummary]:
    """Depth, oldest age and totals of each record type's queue, from one round trip.

    Raises `StoreError`, also where something that is no list lies at a queue's key: the zeros of
    such a queue must not pass for an empty one.
    """
    kinds = RECORD_TYPES.values()
    found = dict(zip(kinds, queues.summaries(kind.queue for kind in kinds), strict=True))
    if any(one.broken for one in found.values()):
        raise StoreError(Code.STORE_ERROR, retry_after_seconds=60)
    return found


def queue_stats_document() -> dict[str, Any]:
    """What `GET /api/queue/stats` answers (contract, section 2). Raises `StoreError`."""
    found = queue_summaries()
    return {
        "timestamp": utc_timestamp(),
        "queues": {kind.queue_label: one.depth for kind, one in found.items()},
        "detail": {
            kind.queue_label: {
                "queue": one.queue,
                "depth": one.depth,
                "oldest_age_seconds": one.oldest_age_seconds,
                "accepted": one.accepted,
                "rejected": one.rejected,
            }
            for kind, one in found.items()
        },
    }


def age_in_words(seconds: float) -> str:
    """An age for people, by its largest unit and the one below: "2 hours 5 minutes"."""
    rest = int(seconds)
    counts: list[tuple[int, str]] = []
    for unit, length in _UNITS:
        count, rest = divmod(rest, length)
        if count or counts:
            counts.append((count, unit))
    words = [f"{count} {unit}{'' if count == 1 else 's'}" for count, unit in counts[:2] if count]
    return " ".join(words) or "under a second"
