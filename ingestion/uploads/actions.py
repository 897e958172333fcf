"""What staff do with an upload. Each changes it only in the state in which that makes sense."""

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
    """The upload is not in a state for this; it may have changed since the page was made."""


def create(
    file: File[bytes],
    name: str,
    user_id: int | None,
    *,
    record_type: RecordType | None = None,
    parent: Upload | None = None,
) -> Upload:
    """Keep the file, to be looked at by a worker; if nothing has to be asked, it is then read."""
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
    # The sender's name never becomes a name on the disk.
    upload.file.name = stored_files.keep(file)
    with stored_files.exchange(new=upload.file.name):
        upload.save()
        advance.enqueue(upload.pk)
    return upload


def found(upload: Upload) -> Inspection | None:
    """What the last look at the upload's file found; None before the first."""
    layout = layouts.from_json(upload.layout)
    if layout is None or not upload.inspection:
        return None
    return inspection.from_json(upload.inspection, layout, upload.record_type)


def look_again(upload: Upload, record_type: RecordType, layout: Layout) -> None:
    """Look at the file as staff say it is laid out, and ask anew. Raises `NotNowError`."""
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
    """Read the file as staff say. Raises `NotNowError` once rows are being queued."""
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
    """Queue nothing more of it. What is queued already stays; `recall` takes it back.

    Once rows are being queued this is a request: the worker ends at the edge of a chunk, and then
    the upload says how many rows are queued. Raises `NotNowError`.
    """
    with transaction.atomic():
        if move(upload, State.CANCELLED, only=_UNCONFIRMED):
            return
        if not move(upload, State.CANCELLING):
            raise NotNowError
        advance.enqueue(upload.pk)  # if nobody works on it at present


def retry(upload: Upload) -> None:
    """Go on with an upload whose step failed. Raises `NotNowError`."""
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

    Gives, for each line that would still not be valid, why; then nothing is taken. Raises
    `NotNowError`, also if the lines are no longer those that need fixing.
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
    # What is corrected is what this reading found: another one may have come in between.
    seen = Q(state=State.REVIEW, read_at=upload.read_at)
    if corrections and not refused:
        with transaction.atomic():
            _begin(upload, State.READING, only=seen, fixes=merged(upload.fixes, corrections))
    elif not Upload.objects.filter(seen, pk=upload.pk, expired_at=None).exists():
        raise NotNowError
    return refused


def recall(upload: Upload) -> int:
    """Take the rows off the queue that nobody has read yet; gives how many.

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
    # Not counted on: somebody else may have noted these, or was killed before they noted theirs.
    known = Greatest("rows_recalled", queues.copies_left(record_type.queue, name))
    this = Upload.objects.filter(pk=upload.pk)
    this.update(rows_recalled=known)
    # Nothing of it is left on the queue, unless somebody goes on with it by now.
    this.filter(push_key=upload.push_key).exclude(state__in=Upload.RUNNING).update(places=[])
    return count


@dataclass(frozen=True, kw_only=True, slots=True)
class Whereabouts:
    """Where the queued rows of an upload are; `is_exact` is False if that is an estimate."""

    waiting: int
    read: int
    recalled: int
    is_exact: bool


def whereabouts(upload: Upload) -> Whereabouts:
    """Where its queued rows are at this moment. Raises `StoreError`.

    Counted by places: the queue is first in, first out, so once as many messages were taken as
    stood before a row, the row is next. Messages that were taken off out of turn shift the places.
    """
    waiting, recalled, is_exact = 0, upload.rows_recalled, True
    if upload.record_type and upload.places:
        (summary,) = queues.summaries([upload.record_type.queue])
        # Staff who recall may be killed before they can note it.
        recalled = max(recalled, queues.copies_left(upload.record_type.queue, _copies(upload)))
        taken = sum(min(max(summary.taken - first, 0), count) for first, count in upload.places)
        # More than lies there it never is.
        waiting = max(0, min(upload.rows_queued - recalled - taken, summary.depth))
        is_exact = not summary.taken_off
    read = max(0, upload.rows_queued - recalled - waiting)
    return Whereabouts(waiting=waiting, read=read, recalled=recalled, is_exact=is_exact)


def _copies(upload: Upload) -> str:
    """Under what name recalled rows are kept: one, so that the store can tell how many they are.

    The time is in it since numbers of uploads come again in a restored database.
    """
    return f"upload-{upload.pk}-{upload.confirmed_at:%Y%m%d%H%M%S%f}"


def expire() -> int:
    """Delete the files, and the rows that pages show, of uploads beyond their time."""
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
    """Whether it was said how the file is read, or seen for certain."""
    layout = layouts.from_json(upload.layout)
    is_asked = layout is not None and layout.format.is_table and layout.columns is None
    return layout is not None and upload.record_type is not None and not is_asked


def _begin(upload: Upload, to: Upload.State, *, only: Q, **fields: Any) -> None:
    if not move(upload, to, only=only, **fields):
        raise NotNowError
    advance.enqueue(upload.pk)


def _begin_queueing(upload: Upload, *, only: Q, **fields: Any) -> None:
    # What was pushed so far is known: from here on the chunks have new names.
    if not move(upload, State.QUEUEING, only=only, push_key=uuid.uuid4().hex, **fields):
        raise NotNowError
    advance.enqueue(upload.pk)


def _harmless_name(name: str) -> str:
    """The file's name without folders and control characters."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return "".join(letter for letter in last if letter.isprintable())[:255] or "file"
