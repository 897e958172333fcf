"""The only way onto a queue, and what "accepted" means.

A record is accepted once the store has said that its message lies on the queue. Until then
nothing is promised, and no record is ever held in memory alone.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable

import msgspec
import structlog

from ingestion import queues, validation
from ingestion.decoding import Payload, Row
from ingestion.outcomes import Receipt, Rejection, StoreError, utc_timestamp
from ingestion.records import RecordType
from ingestion.validation import Valid

logger = structlog.get_logger(__name__)

_encoder = msgspec.json.Encoder()


def accept(
    record_type: RecordType,
    payload: Payload | Iterable[Row],
    *,
    source: str,
    strict: bool = False,
) -> Receipt:
    """Judge every record of `payload` and queue the valid ones in one atomic push, in order.

    With `strict`, one rejection keeps everything off the queue. `source` says where the records
    came in (contract, section 3). Gives a receipt in which every record is accepted or rejected.
    Raises `PayloadError` where there is nothing to judge and `StoreError` where the push failed;
    then nothing was queued, unless the fault says that its outcome is unknown.
    """
    verdicts = validation.judge(record_type, payload)
    rejections = tuple(verdict for verdict in verdicts if isinstance(verdict, Rejection))
    records = [verdict for verdict in verdicts if isinstance(verdict, Valid)]
    if strict and rejections:
        records = []
    queued_at = utc_timestamp()
    try:
        queues.push(
            record_type.queue,
            [_message(record, record_type, source, queued_at) for record in records],
            rejected=len(rejections),
        )
    except StoreError:
        # With no record to queue the verdict stands without the store; only its count is lost.
        if records:
            raise
        logger.warning("rejections_not_counted", type=record_type.path, rejected=len(rejections))
    causes = Counter(error.code.value for one in rejections for error in one.errors)
    logger.info(
        "records_judged",
        type=record_type.path,
        source=source,
        accepted=len(records),
        rejected=len(rejections),
        causes=dict(causes),
    )
    return Receipt(ids=tuple(record.id for record in records), rejections=rejections)


def _message(record: Valid, record_type: RecordType, source: str, queued_at: str) -> bytes:
    """The envelope that lies on the queue (contract, section 3)."""
    return _encoder.encode(
        {
            "data": record.data,
            "queued_at": queued_at,
            "queue": record_type.queue,
            "id": str(uuid.uuid4()),
            "source": source,
        }
    )
