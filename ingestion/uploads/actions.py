"""What staff can do with an upload. Each action is possible only in certain states."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any

from django.conf import settings
from django.core.files.base import File
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Greatest
from django.utils.timezone import now

from ingestion import queues, validation
from ingestion.decoding import Row
from ingestion.file_rows import Layout
from ingestion.models import Upload
from ingestion.outcomes import FieldError, Rejection
from ingestion.records import RecordType
from ingestion.uploads import inspecting, inspection, layouts, stored_files
from ingestion.uploads.fixes import fixed, merged, unpacked
from ingestion.uploads.inspection import Inspection
from ingestion.uploads.reading import CHUNK_ROWS
from ingestion.uploads.tasks import advance
from ingestion.uploads.transitions import move

State = Upload.State
_UNCONFIRMED = Q(confirmed_at=None)


class NotNowError(Exception):
    """The upload's state does not allow this; it may have changed since the page was made."""


def create(
    file: File[bytes],
    name: str,
    user_id: int | None,
    *,
    record_type: RecordType | None = None,
    parent: Upload | None = None,
) -> Upload:
    """Store the file for a worker to look at. If there are no questions, it is then read."""
    sha256 = hashlib.sha256()
    file.seek(0)
    for chunk in file.chunks():
        sha256.update(chunk)
    file.seek(0)
    upload = Upload(
        state=State.INSPECTING,
        record_type=record_type,
        file_name=_harmless_name(name),
        size_bytes=file.size,
        sha256=sha256.hexdigest(),
        uploaded_by_id=user_id,
        parent=parent,
    )
    # The sender's name never becomes the name of a file on the disk.
    upload.file.name = stored_files.keep(file)
    with stored_files.exchange(new=upload.file.name):
        upload.save()
        advance.enqueue(upload.pk)
    return upload


def found(upload: Upload) -> Inspection | None:
    """What the last look at the upload's file found; None before the first look."""
    layout = layouts.from_json(upload.layout)
    if layout is None or not upload.inspection:
        return None
    return inspection.from_json(upload.inspection, layout, upload.record_type)


def look_again(upload: Upload, record_type: RecordType, layout: Layout) -> None:
    """Look at the file again with the layout that staff chose. Raises `NotNowError`."""
    with transaction.atomic():
        _begin(
            upload,
            State.INSPECTING,
            only=_UNCONFIRMED,
            record_type=record_type,
            layout=layouts.to_json(replace(layout, columns=None)),
            fixes={},
        )


def answer(upload: Upload, answered: Inspection) -> None:
    """Read the file as staff chose. Raises `NotNowError` once rows are being queued."""
    with transaction.atomic():
        _begin(upload, State.READING, only=_UNCONFIRMED, fixes={}, **inspecting.kept(answered))
        inspection.remember(answered)


def confirm(upload: Upload) -> None:
    """Queue the rows that are ready. Raises `NotNowError`."""
    with transaction.atomic():
        _begin_queueing(
            upload,
            only=Q(rows_ready__gt=0),
            confirmed_at=now(),
            chunk_rows=min(CHUNK_ROWS, settings.MAX_BATCH_RECORDS),
            progress_rows=0,
            progress_line=0,
        )


def cancel(upload: Upload) -> None:
    """Queue no more of it. Rows that are already queued stay; `recall` takes them back.

    While rows are being queued this is only a request: the worker ends after the current chunk, and
    then the upload says how many rows are queued. Raises `NotNowError`.
    """
    with transaction.atomic():
        if move(upload, State.CANCELLED, only=_UNCONFIRMED):
            return
        if not move(upload, State.CANCELLING):
            raise NotNowError
        advance.enqueue(upload.pk)  # in case nobody works on it now


def retry(upload: Upload) -> None:
    """Continue an upload whose step failed. Raises `NotNowError`."""
    with transaction.atomic():
        if upload.confirmed_at is None:
            to = State.READING if _is_known(upload) else State.INSPECTING
            _begin(upload, to, only=Q(state=State.FAILED) & _UNCONFIRMED)
        else:
            _begin_queueing(upload, only=Q(state=State.FAILED))


def fix(
    upload: Upload, corrections: Mapping[int, Mapping[str, Any]]
) -> dict[int, tuple[FieldError, ...]]:
    """Take corrections (line → field → value, None to empty it) and read the file again with them.

    Returns the errors of each line that would still not be valid; then no correction is taken.
    Raises `NotNowError`, also if the lines are no longer those that need fixing.
    """
    record_type = upload.record_type
    if record_type is None:
        raise NotNowError
    rows = {row["line"]: unpacked(row["fields"]) for row in upload.findings.get("bad", [])}
    refused: dict[int, tuple[FieldError, ...]] = {}
    for line, correction in corrections.items():
        record = rows.get(line)
        if record is None:
            raise NotNowError
        (verdict,) = validation.validate(
            record_type, [Row(value=fixed(record, correction), line=line)]
        )
        if isinstance(verdict, Rejection):
            refused[line] = verdict.errors
    # The corrections are for this reading; there may be a newer one.
    seen = Q(state=State.REVIEW, read_at=upload.read_at)
    if corrections and not refused:
        with transaction.atomic():
            _begin(upload, State.READING, only=seen, fixes=merged(upload.fixes, corrections))
    elif not Upload.objects.filter(seen, pk=upload.pk, expired_at=None).exists():
        raise NotNowError
    return refused


def recall(upload: Upload) -> int:
    """Take the rows that nobody has read off the queue; returns how many.

    Copies are kept for some days. Raises `NotNowError` while rows are still being queued, and
    `StoreError`.
    """
    record_type = upload.record_type
    if record_type is None or upload.confirmed_at is None or upload.state in Upload.RUNNING:
        raise NotNowError
    count = 0
    name = _copies(upload)
    for raws in queues.of_upload(record_type.queue, upload.pk, most=upload.rows_queued):
        count += queues.take_off(record_type.queue, raws[::-1], name=name, newest=True)
    # Not the sum: others may have noted these rows already, or were killed before they noted
    # theirs.
    known = Greatest("rows_recalled", queues.copies_left(record_type.queue, name))
    this = Upload.objects.filter(pk=upload.pk)
    this.update(rows_recalled=known)
    # None of its rows is on the queue now, unless somebody has continued the upload meanwhile.
    this.filter(push_key=upload.push_key).exclude(state__in=Upload.RUNNING).update(places=[])
    return count


@dataclass(frozen=True, kw_only=True, slots=True)
class Whereabouts:
    """How many queued rows wait, were read or recalled; `is_exact` is False for an estimate."""

    waiting: int
    read: int
    recalled: int
    is_exact: bool


def whereabouts(upload: Upload) -> Whereabouts:
    """Where the queued rows of the upload are now. Raises `StoreError`.

    It compares places. The queue is first in, first out: a row is next when as many messages were
    taken as stood before it. Messages that were taken off out of turn make this an estimate.
    """
    waiting, recalled, is_exact = 0, upload.rows_recalled, True
    if upload.record_type and upload.places:
        (summary,) = queues.summaries([upload.record_type.queue])
        # Staff who recall rows may be killed before they can note it.
        recalled = max(recalled, queues.copies_left(upload.record_type.queue, _copies(upload)))
        taken = sum(min(max(summary.taken - first, 0), count) for first, count in upload.places)
        # There are never more rows than messages on the queue.
        waiting = max(0, min(upload.rows_queued - recalled - taken, summary.depth))
        is_exact = not summary.taken_off
    read = max(0, upload.rows_queued - recalled - waiting)
    return Whereabouts(waiting=waiting, read=read, recalled=recalled, is_exact=is_exact)


def _copies(upload: Upload) -> str:
    """The name for the copies of recalled rows: one name, so that the store can count them.

    It holds the time, because a restored database may use the same upload numbers again.
    """
    return f"upload-{upload.pk}-{upload.confirmed_at:%Y%m%d%H%M%S%f}"


def expire() -> int:
    """Delete the files, and the rows that pages show, of uploads past their storage time."""
    before = now() - timedelta(days=settings.UPLOAD_KEEP_DAYS)
    count = 0
    for upload in Upload.objects.filter(uploaded_at__lt=before, expired_at=None):
        gone = {
            "findings": {"causes": upload.findings.get("causes", [])},
            "fixes": {},
            "verdicts": b"",
            "file": "",
            "error_file": "",
            "expired_at": now(),
        }
        files = (upload.file.name or "", upload.error_file.name or "")
        as_seen = Q(file=files[0], error_file=files[1], expired_at=None)
        waits = as_seen & Q(state__in=(State.CHECK, State.REVIEW))
        ended = as_seen & Q(state__in=(State.DONE, State.CANCELLED, State.FAILED))
        try:
            with stored_files.exchange(old=files):
                if not move(upload, State.CANCELLED, only=waits, **gone) and not (
                    Upload.objects.filter(ended, pk=upload.pk).update(**gone)
                ):
                    raise NotNowError
        except NotNowError:
            continue
        count += 1
    return count


def _is_known(upload: Upload) -> bool:
    """Whether it is known how to read the file, from staff or from the file itself."""
    layout = layouts.from_json(upload.layout)
    is_asked = layout is not None and layout.format.is_table and layout.columns is None
    return layout is not None and upload.record_type is not None and not is_asked


def _begin(upload: Upload, to: Upload.State, *, only: Q, **fields: Any) -> None:
    if not move(upload, to, only=only, **fields):
        raise NotNowError
    advance.enqueue(upload.pk)


def _begin_queueing(upload: Upload, *, only: Q, **fields: Any) -> None:
    # The chunks that were pushed so far are known, so later chunks may have new names.
    if not move(upload, State.QUEUEING, only=only, push_key=uuid.uuid4().hex, **fields):
        raise NotNowError
    advance.enqueue(upload.pk)


def _harmless_name(name: str) -> str:
    """The file's name without folders and control characters."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return "".join(letter for letter in last if letter.isprintable())[:255] or "file"
