"""The second step: push the rows that reading found ready, in chunks, each of them once."""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from collections.abc import Iterator
from itertools import islice

from django.conf import settings
from django.utils.timezone import now

from ingestion import file_rows, intake, queues
from ingestion.decoding import Row
from ingestion.intake import Idempotency
from ingestion.models import Upload
from ingestion.outcomes import Receipt, StoreError, trouble
from ingestion.records import RecordType
from ingestion.uploads import layouts
from ingestion.uploads.reading import CHUNK_ROWS, READY, fixed_rows
from ingestion.uploads.work import LostError, WaitError, Work

# For so long a push is tried again at once; after that the worker turns to other uploads.
_PATIENCE_SECONDS = 10.0
_TRY_EVERY_SECONDS = 1.0


def queue(work: Work) -> None:
    """Push the ready rows that are not pushed yet; then the upload is done.

    Killed and begun again, it goes on after the last chunk that is known to be pushed; the one in
    flight is pushed again under the same name, and the store knows whether it has it. Raises
    `WaitError` where the queue takes nothing at present.
    """
    upload = work.upload
    kind = upload.kind
    if kind is None:
        raise LostError
    layout = layouts.from_json(upload.layout)
    _wait_for_queue(kind)
    if upload.step_at is None:
        work.save(step_at=now())
    with work.file(lambda _: work.beat()) as file:
        rows = _ready_rows(
            upload, fixed_rows(file_rows.rows(file, layout, kind), upload, layout, kind)
        )
        content = _content(upload)
        while chunk := list(islice(rows, min(CHUNK_ROWS, settings.MAX_BATCH_RECORDS))):
            _note(work, _push(work, kind, chunk, content), chunk)
            work.beat()
    work.save(state=Upload.State.DONE, claim="", finished_at=now(), waiting="")


def _note(work: Work, receipt: Receipt, chunk: list[Row]) -> None:
    """Write down that a chunk is pushed, be it that the upload was cancelled meanwhile."""
    upload = work.upload
    before = upload.progress_line
    pushed = {
        "progress_line": chunk[-1].line,
        "progress_rows": upload.progress_rows + len(chunk),
        "rows_queued": upload.rows_queued + receipt.accepted,
        "places": _joined(upload.places, receipt),
    }
    try:
        work.save(waiting="", **pushed)
    except LostError:
        cancelled = Upload.objects.filter(pk=upload.pk, state=Upload.State.CANCELLED)
        cancelled.filter(progress_line=before).update(**pushed)
        raise


def _ready_rows(upload: Upload, rows: Iterator[file_rows.FileRow]) -> Iterator[Row]:
    """The rows found ready that lie behind what is pushed, in order."""
    verdicts = iter(zlib.decompress(upload.verdicts))
    for one in rows:
        if one.row is not None and next(verdicts) == READY and one.line > upload.progress_line:
            yield one.row


def _push(work: Work, kind: RecordType, chunk: list[Row], content: str) -> Receipt:
    number = work.upload.pk
    idempotency = Idempotency(
        request=f"upload:{number}:{chunk[0].line}",
        fingerprint=f"{content}:{chunk[-1].line}:{len(chunk)}",
        ttl_seconds=settings.UPLOAD_KEEP_DAYS * 24 * 3600,
        answer=lambda receipt: b"%d" % receipt.accepted,
    )
    give_up_at = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return intake.accept(kind, chunk, source=f"upload:{number}", idempotency=idempotency)
        except StoreError as fault:
            if time.monotonic() > give_up_at:
                raise WaitError(trouble(fault)) from fault
            work.pause(_TRY_EVERY_SECONDS, trouble(fault))


def _wait_for_queue(kind: RecordType) -> None:
    """Raise `WaitError` while a push would be refused: the file need not be read for that."""
    try:
        (summary,) = queues.summaries([kind.queue])
    except StoreError as fault:
        raise WaitError(trouble(fault)) from fault
    if summary.pause is not None:
        raise WaitError(f"The queue is paused: {summary.pause.reason}")
    if summary.depth >= settings.QUEUE_LIMIT:
        raise WaitError("The queue is full.")


def _joined(places: list[list[int]], receipt: Receipt) -> list[list[int]]:
    """The places with those of one more chunk; chunks that lie side by side become one."""
    if receipt.place is None or not receipt.accepted:
        return places
    if places and sum(places[-1]) == receipt.place:
        return [*places[:-1], [places[-1][0], places[-1][1] + receipt.accepted]]
    return [*places, [receipt.place, receipt.accepted]]


def _content(upload: Upload) -> str:
    """Stands for the file and all that decides what its rows are."""
    how = json.dumps([upload.layout, upload.fixes], sort_keys=True)
    return hashlib.sha256(f"{upload.sha256}{how}".encode()).hexdigest()
