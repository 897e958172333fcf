"""The numbers of all queues at one moment, in the same form for all callers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, TypedDict

from msgspec import Meta, Struct

from ingestion import queues
from ingestion.outcomes import Code, StoreError
from ingestion.queues import QueueSummary
from ingestion.records import RECORD_TYPES, RecordType
from ingestion.times import utc_timestamp

Text = Annotated[str, Meta(min_length=1)]
Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""A time as `utc_timestamp` writes it."""

_Total = Annotated[int, Meta(description="Since the store's data began.")]


class QueueDetail(Struct, frozen=True, kw_only=True):
    """One queue."""

    queue: Annotated[Text, Meta(description="The list's key in Redis.")]
    depth: int
    oldest_age_seconds: Annotated[float | None, Meta(extra_json_schema={"format": "double"})]
    accepted: _Total
    rejected: _Total


if TYPE_CHECKING:
    QueueDepths = Mapping[str, int]
    QueueDetails = Mapping[str, QueueDetail]
else:  # the schema names the queues
    _LABELS = [record_type.queue_label for record_type in RECORD_TYPES.values()]
    QueueDepths = TypedDict("QueueDepths", dict.fromkeys(_LABELS, Annotated[int, Meta(ge=0)]))
    QueueDetails = TypedDict("QueueDetails", dict.fromkeys(_LABELS, QueueDetail))


class QueueStats(Struct, frozen=True, kw_only=True):
    timestamp: Moment
    queues: QueueDepths
    detail: QueueDetails


def queue_summaries() -> dict[RecordType, QueueSummary]:
    """Depth, oldest age and totals of each record type's queue, from one round trip.

    Raises `StoreError`, also if a queue's key holds something that is not a list: the zeros of such
    a queue must not look like an empty queue.
    """
    types = RECORD_TYPES.values()
    found = dict(zip(types, queues.summaries(one.queue for one in types), strict=True))
    if any(one.broken for one in found.values()):
        raise StoreError(Code.STORE_ERROR, retry_after_seconds=60)
    return found


def queue_stats() -> QueueStats:
    """The answer to `GET /api/queue/stats` (contract, section 2). Raises `StoreError`."""
    found = queue_summaries()
    return QueueStats(
        timestamp=utc_timestamp(),
        queues={record_type.queue_label: one.depth for record_type, one in found.items()},
        detail={
            record_type.queue_label: QueueDetail(
                queue=one.queue,
                depth=one.depth,
                oldest_age_seconds=one.oldest_age_seconds,
                accepted=one.accepted,
                rejected=one.rejected,
            )
            for record_type, one in found.items()
        },
    )
