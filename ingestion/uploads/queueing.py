"""The second step: push the ready rows in chunks, each of them once.

Reading stored one verdict per row and no records: up to a million records would be a second store
of student data. So this step reads the file again and validates its rows again. That gives the
records as they are queued (with defaults, without unknown fields). It also stays correct if the
rules, or the file on the disk, have changed since.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import structlog
from django.conf import settings
from django.utils.timezone import now

from ingestion import file_rows, intake, queues
from ingestion.decoding import Row
from ingestion.file_rows import FileRow, FileRows
from ingestion.models import Upload
from ingestion.outcomes import Receipt, StoreError
from ingestion.queues import Once
from ingestion.records import RecordType
from ingestion.sources import Source
from ingestion.uploads import layouts
from ingestion.uploads.fixes import fixed_rows
from ingestion.uploads.reading import READY
from ingestion.uploads.work import LostError, WaitError, Work

logger = structlog.get_logger(__name__)

# A push is repeated for this long; then the worker goes on with other uploads.
_PATIENCE_SECONDS = 10.0
_TRY_EVERY_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chunk:
    """The result of a chunk of rows, which the store remembers with the push."""

    accepted: int
    rows: int
    last_line: int

    def to_bytes(self) -> bytes:
        return b"%d %d %d" % (self.accepted, self.rows, self.last_line)

    @classmethod
    def from_bytes(cls, content: bytes) -> _Chunk:
        accepted, rows, last_line = map(int, content.split())
        return cls(accepted=accepted, rows=rows, last_line=last_line)


_NEVER_PUSHED = b"never"


def queue(work: Work) -> None:
    """Push the ready rows that are not pushed yet; then the upload is done.

    If it was killed and starts again, it continues after the last chunk that is known to be pushed.
    The chunk in flight is pushed again with the same name, and the store knows whether it has it.
    Raises `WaitError` if the queue takes nothing at present.
    """
    upload = work.upload
    record_type, layout = upload.record_type, layouts.from_json(upload.layout)
    if record_type is None or layout is None:
        raise LostError
    _wait_for_queue(record_type)
    if upload.step_at is None:
        work.save(step_at=now())
    with work.rows(layout.shape, lambda _: work.tell()) as raws:
        rows = _ready_rows(upload, fixed_rows(FileRows(raws, layout, record_type), upload.fixes))
        for ready in file_rows.chunks(rows, upload.chunk_rows):
            chunk = [one.row for one in ready if one.row is not None]
            receipt = _push(work, record_type, chunk)
            if receipt.answer == _NEVER_PUSHED:
                raise LostError
            work.save(
                waiting="", tries=0, **_noted(upload, _came_to(receipt, chunk), receipt.place)
            )
            if work.is_cancelled():
                end(work, Upload.State.CANCELLED)
                return
            work.tell()
    work.finish(Upload.State.DONE)


def end(work: Work, to: Upload.State, *, failure: str = "") -> None:
    """End the queueing before all rows are queued; the upload then says how many are.

    Only the store knows whether the chunk in flight was pushed, by this worker or by one that was
    killed. This call asks the store, and also makes sure that a push that is still under way has no
    effect later. Raises `WaitError` if the store cannot be asked.
    """
    upload = work.upload
    if upload.record_type is None:
        raise LostError
    once = Once(**_name(upload), answer=_NEVER_PUSHED)
    try:
        pushed = queues.push(upload.record_type.queue, (), once=once)
    except StoreError as fault:
        raise WaitError(fault.for_staff) from fault
    noted = {}
    if pushed.answer is not None and pushed.answer != _NEVER_PUSHED:
        noted = _noted(upload, _Chunk.from_bytes(pushed.answer), pushed.place)
    if work.is_cancelled():
        to, failure = Upload.State.CANCELLED, ""
    work.finish(to, failure=failure, **noted)
    logger.info("upload_ended", upload=upload.pk, state=upload.state, queued=upload.rows_queued)


def _noted(upload: Upload, chunk: _Chunk, place: int | None) -> dict[str, Any]:
    """The new values of the upload after its next chunk is known to be pushed."""
    return {
        "progress_line": chunk.last_line,
        "progress_rows": upload.progress_rows + chunk.rows,
        "rows_queued": upload.rows_queued + chunk.accepted,
        "places": _joined(upload.places, place, chunk.accepted),
    }


def _came_to(receipt: Receipt, chunk: list[Row]) -> _Chunk:
    """The chunk that was pushed, now or by a worker that could not note it."""
    if receipt.answer is None:  # nothing was pushed, so the store remembers nothing
        return _Chunk(accepted=0, rows=len(chunk), last_line=chunk[-1].line or 0)
    return _Chunk.from_bytes(receipt.answer)


def _ready_rows(upload: Upload, rows: Iterator[FileRow]) -> Iterator[FileRow]:
    """The ready rows after the last pushed one, in order."""
    verdicts = iter(zlib.decompress(upload.verdicts))
    for one in rows:
        if one.row is not None and next(verdicts) == READY and one.line > upload.progress_line:
            yield one


def _push(work: Work, record_type: RecordType, chunk: list[Row]) -> Receipt:
    received = intake.receive(record_type, chunk)
    came_to = _Chunk(
        accepted=received.receipt.accepted, rows=len(chunk), last_line=chunk[-1].line or 0
    )
    once = Once(**_name(work.upload), answer=came_to.to_bytes())
    source = Source(upload=work.upload.pk)
    give_up_at = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return intake.queue(received, source=source, once=once)
        except StoreError as fault:
            if time.monotonic() > give_up_at:
                raise WaitError(fault.for_staff) from fault
            work.pause(_TRY_EVERY_SECONDS, fault.for_staff)


def _name(upload: Upload) -> dict[str, Any]:
    """The name of the next chunk in the store; it is known before the chunk is read."""
    return {
        "request": f"upload:{upload.push_key}:{upload.progress_line}",
        "fingerprint": upload.push_key,
        "ttl_seconds": settings.UPLOAD_KEEP_DAYS * 24 * 3600,
    }


def _wait_for_queue(record_type: RecordType) -> None:
    """Raise `WaitError` while a push would be refused. Then the file need not be read."""
    try:
        (summary,) = queues.summaries([record_type.queue])
    except StoreError as fault:
        raise WaitError(fault.for_staff) from fault
    if summary.pause is not None:
        raise WaitError(f"The queue is paused: {summary.pause.reason}")
    if summary.depth >= settings.QUEUE_LIMIT:
        raise WaitError("The queue is full.")


def _joined(places: list[list[int]], place: int | None, accepted: int) -> list[list[int]]:
    """The places with those of one more chunk; adjacent chunks are joined."""
    if place is None or not accepted:
        return places
    if places and sum(places[-1]) == place:
        return [*places[:-1], [places[-1][0], places[-1][1] + accepted]]
    return [*places, [place, accepted]]
