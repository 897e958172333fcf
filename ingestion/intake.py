"""The only way onto a queue, and the meaning of "accepted".

Every caller takes the same steps, and none of them calls back: rows (`validation.read`, or a file's
rows), `receive`, an answer made from the receipt, and `queue` with that answer. Only the last step
uses the store. The API charges a client's quota between the rows and `receive`.

A record is accepted when the store has confirmed that its message is on the queue. Until then,
nothing is promised. No record is ever held only in memory.
"""

from __future__ import annotations

import math
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace

from ingestion import queues, validation
from ingestion.decoding import Row
from ingestion.outcomes import IntakeError, Receipt, Rejection, StoreError
from ingestion.queues import Once, Push, Pushed
from ingestion.records import RecordType
from ingestion.sources import Source
from ingestion.times import utc_timestamp
from ingestion.validation import Records, Valid, encode

logger = structlog.get_logger(__name__)

_FIXABLE_BYTES = 2**15
_IGNORED_NAMES_TOLD = 20


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """Records that are validated and not queued yet.

    `records` will be queued. `receipt` is what can be said once they are queued; the answer is
    made from it.
    """

    record_type: RecordType
    records: tuple[Valid, ...]
    receipt: Receipt


def receive(
    record_type: RecordType, rows: Records | Iterable[Row], *, strict: bool = False
) -> Received:
    """Validate every record. With `strict`, one rejection keeps all of them off the queue.

    Does not use the store. Raises `PayloadError` if there is nothing to validate.
    """
    verdicts = validation.validate(record_type, rows)
    rejections = tuple(verdict for verdict in verdicts if isinstance(verdict, Rejection))
    records = tuple(verdict for verdict in verdicts if isinstance(verdict, Valid))
    if strict and rejections:
        records = ()
    receipt = Receipt(
        ids=tuple(record.id for record in records),
        rejections=rejections,
        # Usually there are none, and counting them takes longer than all the rest.
        ignored_fields=_ignored_fields(records) if any(one.ignored for one in records) else {},
    )
    return Received(record_type=record_type, records=records, receipt=receipt)


def queue(received: Received, *, source: Source, once: Once | None = None) -> Receipt:
    """Queue the valid records in one atomic push, in order, and count the rejections.

    `source` says where the records came in (contract, section 3); for an upload, the line of each
    record is added. With `once`, the same request is queued only once, and its answer is
    remembered in the same step. Returns the receipt with the store's answer. Raises `IntakeError`
    (usually a `StoreError`) if the push was refused; then nothing was queued, unless the fault says
    that its outcome is unknown.
    """
    push = prepare(received, source=source, at=utc_timestamp(), once=once)
    (outcome,) = queues.push_together(received.record_type.queue, [push])
    receipt = settle(received, push, outcome)
    logger.info("records_judged", source=str(source), **facts(received, receipt))
    return receipt


def prepare(received: Received, *, source: Source, at: str, once: Once | None = None) -> Push:
    """What to ask of the store; the first half of `queue`. `at` is the time of the messages."""
    rejections = received.receipt.rejections
    return Push(
        messages=_messages(received, source, at),
        rejected=len(rejections),
        causes=_causes(received) if rejections else {},
        rejections=_kept(rejections, source, at) if rejections else (),
        once=once,
    )


def settle(received: Received, push: Push, outcome: Pushed | IntakeError) -> Receipt:
    """What came of the push; the second half of `queue`. Raises the outcome if it is an error."""
    receipt, once = received.receipt, push.once
    if isinstance(outcome, Pushed):
        answer = (outcome.answer or once.answer) if once else None
        return replace(
            receipt, place=outcome.place, replayed=outcome.answer is not None, answer=answer
        )
    # If no record is valid, the verdicts need no store; only the count of rejections is lost.
    if received.records or not isinstance(outcome, StoreError):
        raise outcome
    logger.warning("rejections_not_counted", type=received.record_type.path, rejected=push.rejected)
    return receipt


def facts(received: Received, receipt: Receipt) -> dict[str, Any]:
    """What the log says of these records."""
    told: dict[str, Any] = {
        "type": received.record_type.path,
        "accepted": receipt.accepted,
        "rejected": receipt.rejected,
    }
    if receipt.rejections:
        told["causes"] = _causes(received)
    if receipt.replayed:
        told["replayed"] = True
    return told


def _causes(received: Received) -> dict[str, int]:
    """How often each field was refused for what, by the code."""
    return dict(
        Counter(error.code.value for one in received.receipt.rejections for error in one.errors)
    )


def _ignored_fields(records: Iterable[Valid]) -> Mapping[str, int]:
    """How many records had each dropped field; after the first names, the rest is one count."""
    names = Counter(name for record in records for name in record.ignored)
    told = dict(names.most_common(_IGNORED_NAMES_TOLD))
    if more := names.total() - sum(told.values()):
        told["(more)"] = more
    return told


def _messages(received: Received, source: Source, queued_at: str) -> list[bytes]:
    """Each record in its envelope, as it goes on the queue (contract, section 3).

    The record is JSON already, so the envelope is written around it.
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
    """Random UUIDs (RFC 9562, version 4). One by one, they would cost more than everything else."""
    digits = os.urandom(16 * count).hex().encode()
    for at in range(0, len(digits), 32):
        one = digits[at : at + 32]
        yield b"%s-%s-4%s-a%s-%s" % (one[:8], one[8:12], one[13:16], one[17:20], one[20:])


def _kept(rejections: tuple[Rejection, ...], source: Source, at: str) -> list[bytes]:
    """The API's rejections as the store keeps them for staff. Files have error files instead."""
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
    """The record as JSON if somebody could fix it: text that can be stored, of limited size."""
    try:
        content = encode(record)
    except (UnicodeEncodeError, OverflowError, RecursionError):
        return None
    # 1e999 is valid JSON, and Python reads it as infinity: it would come back as null.
    if len(content) > _FIXABLE_BYTES or _holds_infinity(record):
        return None
    return msgspec.Raw(content)


def _holds_infinity(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return any(map(_holds_infinity, value))
    return isinstance(value, float) and math.isinf(value)
