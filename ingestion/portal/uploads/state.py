"""What the pages of an upload show: its progress, its history, and what was found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.utils.timezone import now

from ingestion import queues
from ingestion.models import Activity, Upload
from ingestion.outcomes import StoreError
from ingestion.times import duration
from ingestion.uploads import actions
from ingestion.uploads.findings import field_root

State = Upload.State
# An estimate that is made earlier would be too unsteady.
_ESTIMATE_AFTER_SECONDS = 2.0
_TIMED = (State.READING, State.QUEUEING, State.CANCELLING)


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far an upload is, in numbers and words.

    `read`, `waiting_rows` and `recalled` are None if nobody knows; `is_exact` is False if they are
    estimates.
    """

    state: str
    running: bool
    percent: int
    done: str
    left: str
    waiting: str
    queued: int
    read: int | None
    waiting_rows: int | None
    recalled: int | None
    is_exact: bool

    def as_json(self) -> dict[str, Any]:
        """For the script of the page; numbers are formatted as the page shows them."""
        found = asdict(self)
        found["queued"] = intcomma(self.queued)
        for name in ("read", "waiting_rows", "recalled"):
            found[name] = self._in_words(found[name])
        return {**found, "moving": self.running or bool(self.waiting_rows)}

    @property
    def read_words(self) -> str:
        """How many rows consumers have read."""
        return self._in_words(self.read)

    @property
    def waiting_words(self) -> str:
        """How many rows nobody has read yet."""
        return self._in_words(self.waiting_rows)

    def _in_words(self, count: int | None) -> str:
        if count is None:
            return "unknown"
        return intcomma(count) if self.is_exact or not count else f"about {intcomma(count)}"


def progress(upload: Upload) -> Progress:
    """How far the upload is at this moment."""
    queueing = upload.state in (State.QUEUEING, State.CANCELLING)
    done, total = (
        (upload.progress_rows, upload.rows_ready)
        if queueing
        else (upload.progress_bytes, upload.size_bytes)
    )
    share = min(1.0, done / total) if total else 0.0
    rows = f"{intcomma(upload.progress_rows)}"
    words = f"{rows} of {intcomma(upload.rows_ready)} rows queued" if queueing else f"{rows} rows"
    if upload.state == State.INSPECTING:
        words = "Format and columns"
    if upload.step_at is None and upload.state in Upload.RUNNING and not upload.waiting:
        words = "Waiting for its turn"
    where = None
    if upload.confirmed_at is not None:
        with suppress(StoreError):
            where = actions.whereabouts(upload)
    return Progress(
        state=upload.state,
        running=upload.state in Upload.RUNNING,
        percent=int(share * 100),
        done=words,
        left=_left(upload, share),
        waiting=_waiting(upload) if upload.state in Upload.RUNNING else "",
        queued=upload.rows_queued,
        read=None if where is None else where.read,
        waiting_rows=None if where is None else where.waiting,
        recalled=None if where is None else where.recalled,
        is_exact=where is None or where.is_exact,
    )


def _waiting(upload: Upload) -> str:
    """Why the upload waits, and that it continues by itself; empty if it does not wait."""
    if not upload.waiting:
        return ""
    try:
        pause = (
            queues.summaries([upload.record_type.queue])[0].pause if upload.record_type else None
        )
    except StoreError:
        pause = None
    why = upload.waiting[0].lower() + upload.waiting[1:].rstrip(".")
    if upload.record_type and pause:
        why = f"the queue {upload.record_type.path} is paused by {pause.by} (“{pause.reason}”)"
    return f"Waiting: {why}. It continues by itself."


def _left(upload: Upload, share: float) -> str:
    if upload.step_at is None or upload.waiting or upload.state not in _TIMED:
        return ""
    took = (now() - upload.step_at).total_seconds()
    if took < _ESTIMATE_AFTER_SECONDS or share < 0.01:
        return ""
    return f"about {duration(max(1, took / share - took))} left"


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that happened to the upload."""

    at: datetime
    words: str
    who: str = ""


def timeline(upload: Upload) -> list[Event]:
    """The history of the upload, the oldest event first."""
    return sorted(_events(upload), key=lambda event: event.at)


def _events(upload: Upload) -> Iterator[Event]:
    noted = upload.activities.order_by("at")
    for entry in noted:
        facts = ", ".join(f"{name} {value}" for name, value in entry.facts.items())
        details = f" ({facts})" if facts and entry.action != Activity.Action.UPLOADED else ""
        yield Event(
            at=entry.at, words=f"{entry.get_action_display()}{details}", who=entry.user_name
        )
    if not any(entry.action == Activity.Action.UPLOADED for entry in noted):
        yield Event(at=upload.uploaded_at, words="Uploaded")
    if upload.read_at is not None:
        yield Event(at=upload.read_at, words=f"Read: {intcomma(upload.rows_read)} rows")
    if upload.finished_at is not None and upload.state == State.DONE:
        yield Event(at=upload.finished_at, words=f"All queued: {intcomma(upload.rows_queued)} rows")
    if upload.finished_at is not None and upload.state == State.CANCELLED:
        queued = intcomma(upload.rows_queued) if upload.rows_queued else "no"
        yield Event(at=upload.finished_at, words=f"Ended: {queued} rows are queued")
    if upload.finished_at is not None and upload.state == State.FAILED:
        yield Event(at=upload.finished_at, words="Reading stopped")
    if upload.expired_at is not None:
        yield Event(at=upload.expired_at, words="File and rows deleted after their storage time")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Why one field of a bad row was refused, and its text."""

    field: str
    cell: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BadRow:
    """A row that needs fixing."""

    line: int
    faults: tuple[Fault, ...]


def causes(upload: Upload) -> list[dict[str, Any]]:
    """The causes of rejection; each share is relative to the most frequent cause."""
    found = upload.findings.get("causes", [])
    return [{**cause, "most": found[0]["count"]} for cause in found]


def bad_rows(upload: Upload) -> list[BadRow]:
    """The first rows that need fixing, with the reason beside the cell."""
    return [
        BadRow(
            line=row["line"],
            faults=tuple(
                Fault(
                    field=field,
                    cell=row.get("found", {}).get(field_root(field), ""),
                    message=message,
                )
                for field, _, message in row["errors"]
            ),
        )
        for row in upload.findings.get("bad", [])
    ]
