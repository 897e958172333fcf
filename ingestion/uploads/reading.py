"""The first step: read the file and validate every row, without queueing any."""

from __future__ import annotations

import zlib
from contextlib import ExitStack
from dataclasses import dataclass

from django.conf import settings
from django.core.files.base import File
from django.utils.timezone import now

from ingestion import file_rows, validation
from ingestion.decoding import Row
from ingestion.file_rows import FileRow, FileRows
from ingestion.models import Upload
from ingestion.outcomes import Rejection
from ingestion.records import RecordType
from ingestion.uploads import error_files, layouts, stored_files
from ingestion.uploads.findings import BadRow, Findings
from ingestion.uploads.fixes import fixed_rows, packed
from ingestion.uploads.work import LostError, Work

CHUNK_ROWS = 1000

READY, INVALID, DUPLICATE = b"rid"
"""The letters of `Upload.verdicts`."""


class TooManyRowsError(Exception):
    """The file has more rows than an upload may have."""


@dataclass(kw_only=True, slots=True)
class ReadSoFar:
    """The progress of a step; it is written about once a second."""

    bytes: int = 0
    rows: int = 0


def read(work: Work) -> None:
    """Validate every row and store the findings; then the upload waits for a decision.

    If it is killed and started again, it starts from the first row. Raises `PayloadError` if the
    file cannot be read to its end.
    """
    upload = work.upload
    record_type, layout = upload.record_type, layouts.from_json(upload.layout)
    if record_type is None or layout is None:
        raise LostError
    progress = ReadSoFar()

    def tell(read_bytes: int) -> None:
        progress.bytes = min(read_bytes, upload.size_bytes)
        work.tell(progress_bytes=progress.bytes, progress_rows=progress.rows)

    work.save(step_at=now(), progress_bytes=0, progress_rows=0, waiting="")
    with ExitStack() as opened:
        rows = FileRows(opened.enter_context(work.rows(layout.shape, tell)), layout, record_type)
        errors = opened.enter_context(error_files.writing(layout, rows.header))
        reading = _Reading(upload, record_type, errors)
        most_rows = min(CHUNK_ROWS, settings.MAX_BATCH_RECORDS)
        for chunk in file_rows.chunks(fixed_rows(rows, upload.fixes), most_rows):
            reading.judge(chunk)
            progress.rows = reading.read
            tell(progress.bytes)
        kept = stored_files.keep(File(errors.finish())) if reading.invalid else ""
    with stored_files.exchange(new=kept, old=(upload.error_file.name or "",)):
        work.finish(
            Upload.State.REVIEW,
            read_at=now(),
            rows_read=reading.read,
            rows_ready=reading.ready,
            rows_invalid=reading.invalid,
            rows_duplicate=reading.duplicate,
            rows_blank=reading.blank,
            progress_bytes=upload.size_bytes,
            progress_rows=reading.read,
            findings={"header": rows.header, **reading.findings.to_json()},
            verdicts=zlib.compress(bytes(reading.verdicts)),
            error_file=kept,
        )


class _Reading:
    """Validates chunks of rows and collects the findings."""

    def __init__(
        self, upload: Upload, record_type: RecordType, writer: error_files.ErrorFile
    ) -> None:
        self.findings = Findings()
        self.verdicts = bytearray()
        self.ready = self.invalid = self.duplicate = self.blank = 0
        self._upload = upload
        self._kind = record_type
        self._writer = writer
        self._blank_since = 0
        self._seen: set[str] = set()

    @property
    def read(self) -> int:
        return self.ready + self.invalid + self.duplicate + self.blank

    def judge(self, chunk: list[FileRow]) -> None:
        filled = []
        for one in chunk:
            if one.row is None:
                self._blank_since += 1
                continue
            # Empty rows after the last filled one do not count: nobody typed them.
            self.blank += self._blank_since
            self._blank_since = 0
            filled.append((one, one.row))
        if not filled:
            return
        verdicts = validation.validate(self._kind, [row for _, row in filled])
        for (one, row), verdict in zip(filled, verdicts, strict=True):
            if isinstance(verdict, Rejection):
                self._refuse(one, row, verdict)
            elif verdict.id in self._seen:
                self.duplicate += 1
                self.verdicts.append(DUPLICATE)
                self.findings.add_duplicate(one)
            else:
                self._seen.add(verdict.id)
                self.ready += 1
                self.verdicts.append(READY)
                self.findings.add_good(one)
        if self.read > settings.MAX_UPLOAD_ROWS:
            raise TooManyRowsError

    def _refuse(self, one: FileRow, row: Row, verdict: Rejection) -> None:
        self.invalid += 1
        self.verdicts.append(INVALID)
        self._writer.add(one, error_files.problem_text(verdict.errors, self._upload.pk))
        self.findings.add_bad(
            BadRow(
                line=one.line,
                fields=packed(row.value, self._kind),
                found=row.value if isinstance(row.value, dict) else {},
                errors=verdict.errors,
            )
        )
