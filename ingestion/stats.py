"""The numbers of all queues at one moment, as every face tells them."""

from __future__ import annotations

from typing import Any

from ingestion import queues
from ingestion.outcomes import Code, StoreError
from ingestion.queues import QueueSummary
from ingestion.records import RECORD_TYPES, RecordType
from ingestion.times import utc_timestamp


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
