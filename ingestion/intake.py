"""The only way onto a queue, and what "accepted" means.

Every face takes the same steps, and none of them calls back: rows (`validation.read`, or a file's
rows), `receive`, an answer made from the receipt, `queue` with that answer. Only the last step
touches the store. The API charges a client's quota between the rows and `receive`.

A record is accepted once the store has said that its message lies on the queue. Until then
nothing is promised, and no record is ever held in memory alone.
"""

from __future__ import annotations

import math
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import structlog

from ingestion import queues, validation
from ingestion.decoding import Row
from ingestion.outcomes import Receipt, Rejection, StoreError
from ingestion.queues import Once
from ingestion.records import RecordType
from ingestion.sources import Source
from ingestion.times import utc_timestamp
from ingestion.validation import Records, Valid, encode

logger = structlog.get_logger(__name__)

_FIXABLE_BYTES = 2**15
_IGNORED_NAMES_TOLD = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """Records that are validated and not queued yet.

    `records` will be queued. `receipt` is what can be said once they are, and what an answer is
    made from.
    """

    record_type: RecordType
    records: tuple[Valid, ...]
    receipt: Receipt


def receive(
    record_type: RecordType, rows: Records | Iterable[Row], *, strict: bool = False
) -> Received:
    """Validate every record. With `strict`, one rejection keeps all of them off the queue.

    Touches no store. Raises `PayloadError` if there is nothing to validate.
    """
    verdicts = validation.validate(record_type, rows)
    rejections = tuple(verdict for verdict in verdicts if isinstance(verdict, Rejection))
    records = tuple(verdict for verdict in verdicts if isinstance(verdict, Valid))
    if strict and rejections:
        records = ()
    receipt = Receipt(
        ids=tuple(record.id for record in records),
        rejections=rejections,
        ignored_fields=_ignored_fields(records),
    )
    return Received(record_type=record_type, records=records, receipt=receipt)


def queue(received: Received, *, source: Source, once: Once | None = None) -> Receipt:
    """Queue the valid records in one atomic push, in order, and count the rejections.

    `source` says where the records came in (contract, section 3); an upload's gets the line of
    each record. With `once` the same request is queued once, however often it comes, and its
    answer is remembered in the same step. Gives the receipt with what the store said. Raises
    `IntakeError` (mostly a `StoreError`) if the push was refused; then nothing was queued, unless
    the fault says that its outcome is unknown.
    """
    record_type, records, receipt = received.record_type, received.records, received.receipt
    rejections = receipt.rejections
    causes: Counter[str] = Counter(error.code for one in rejections for error in one.errors)
    queued_at = utc_timestamp()
    try:
        pushed = queues.push(
            record_type.queue,
            _messages(received, source, queued_at),
            rejected=len(rejections),
            causes=causes,
            rejections=_kept(rejections, source, queued_at),
            once=once,
        )
        receipt = replace(receipt, place=pushed.place, replayed=pushed.answer is not None)
        if once:
            receipt = replace(receipt, answer=pushed.answer or once.answer)
    except StoreError:
        # With no record to queue the verdicts stand without the store; only their count is lost.
        if records:
            raise
        logger.warning("rejections_not_counted", type=record_type.path, rejected=len(rejections))
    logger.info(
        "records_judged",
        type=record_type.path,
        source=str(source),
        accepted=len(records),
        rejected=len(rejections),
        causes=dict(causes),
        replayed=receipt.replayed,
    )
    return receipt


def _ignored_fields(records: Iterable[Valid]) -> Mapping[str, int]:
    """How many records had each field that was dropped; beyond some names, they count together."""
    names = Counter(name for record in records for name in record.ignored)
    told = dict(names.most_common(_IGNORED_NAMES_TOLD))
    if more := names.total() - sum(told.values()):
        told["(more)"] = more
    return told


def _messages(received: Received, source: Source, queued_at: str) -> list[bytes]:
    """Each record in the envelope that lies on the queue (contract, section 3).

    The record is JSON already, so that the envelope is put around it.
    """
    queue = received.record_type.queue
    head = b',"queued_at":%s,"queue":%s,"id":"' % (encode(queued_at), encode(queue))
    tail = b'","source":%s}' % encode(str(source))
    messages = []
    for record, name in zip(received.records, _names(len(received.records)), strict=True):
        if source.upload is not None and record.line is not None:
            tail = b'","source":%s}' % encode(str(replace(source, line=record.line)))
        messages.append(b'{"data":%s%s%s%s' % (record.content, head, name, tail))
    return messages


def _names(count: int) -> Iterator[bytes]:
    """Random UUIDs (RFC 9562, version 4). One by one, they would cost more than all the rest."""
    digits = os.urandom(16 * count).hex().encode()
    for at in range(0, len(digits), 32):
        one = digits[at : at + 32]
        yield b"%s-%s-4%s-a%s-%s" % (one[:8], one[8:12], one[13:16], one[17:20], one[20:])


def _kept(rejections: tuple[Rejection, ...], source: Source, at: str) -> list[bytes]:
    """Rejections of the API as the store keeps them for staff; files have error files instead."""
    if source.client is None:
        return []
    return [
        encode(
            {
                "id": str(uuid.uuid4()),
                "at": at,
                "source": str(source),
                "record_id": one.id,
                "errors": [(error.field, error.code, error.message) for error in one.errors],
                "record": _fixable(one.record),
            }
        )
        for one in rejections[: validation.RECORDS_KEPT]
    ]


def _fixable(record: Mapping[str, Any] | None) -> msgspec.Raw | None:
    """The record as JSON, where somebody could fix it: text that can be stored, of bounded size."""
    try:
        content = encode(record)
    except (UnicodeEncodeError, OverflowError, RecursionError):
        return None
    # 1e999 is JSON, and infinity to Python: it would come back as null.
    if len(content) > _FIXABLE_BYTES or _holds_infinity(record):
        return None
    return msgspec.Raw(content)


def _holds_infinity(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return any(map(_holds_infinity, value))
    return isinstance(value, float) and math.isinf(value)
