"""Work on an upload: by one worker at a time, with signs of life, and it can be stopped."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings
from django.db import Error, InterfaceError, OperationalError, close_old_connections, connection
from django.db.models import F, Q
from django.utils.timezone import now

from ingestion.columns import our_names
from ingestion.files import limited
from ingestion.files.limited import Limits
from ingestion.files.look import Look
from ingestion.files.raw_rows import RawRow
from ingestion.files.shape import Shape
from ingestion.models import Upload
from ingestion.uploads import stored_files
from ingestion.uploads.transitions import move

logger = structlog.get_logger(__name__)

_BEAT_SECONDS = 2.0
_TELL_EVERY_SECONDS = 1.0
# If a beat is unchanged for this many looks, another worker takes the work over.
_SILENT_LOOKS = 2
# A first look reads only the head of a file, so it gets only this share of the time.
_LOOK_SHARE = 5
_stopping = threading.Event()


DATABASE_AWAY = (OperationalError, InterfaceError)
"""The errors of the database driver if the database is gone, locked, full or frozen."""


class StoppedError(Exception):
    """This process must end; the work continues elsewhere, or later."""


class LostError(Exception):
    """The upload was cancelled, or somebody else works on it."""


class WaitError(Exception):
    """Nothing can be done at present. The text tells people what the upload waits for."""


def rest(seconds: float) -> bool:
    """Wait this long, or until all work must end; returns whether it must."""
    return _stopping.wait(seconds)


def stop() -> None:
    """End all work of this process at the next opportunity."""
    _stopping.set()


class Work:
    """The right to work on the present step of an upload; regular beats keep it.

    Every write names its claim, so a worker that was treated as dead by mistake cannot disturb its
    successor.
    """

    def __init__(self, upload: Upload) -> None:
        self.upload = upload
        self._claim = upload.claim
        self._mine = Upload.objects.filter(pk=upload.pk, claim=upload.claim)
        self._told_at = time.monotonic()

    @contextmanager
    def beating(self) -> Iterator[None]:
        """While the block runs, show others that somebody works on the upload."""
        ended = threading.Event()
        heart = threading.Thread(target=self._beat_until, args=(ended,), daemon=True)
        heart.start()
        try:
            yield
        finally:
            ended.set()
            heart.join()

    def _beat_until(self, ended: threading.Event) -> None:
        try:
            while not ended.wait(_BEAT_SECONDS):
                try:
                    self._mine.update(beat_at=now())
                except Error as fault:
                    logger.warning("beat_failed", upload=self.upload.pk, fault=type(fault).__name__)
                    connection.close()
        finally:
            connection.close()

    def save(self, **fields: Any) -> None:
        """Write `fields`. Raises `LostError`."""
        self._told_at = time.monotonic()
        # An update without fields would report that no row exists.
        if not (self._mine.update(**fields) if fields else self._mine.exists()):
            raise LostError
        for name, value in fields.items():
            setattr(self.upload, name, value)

    def finish(self, to: Upload.State, **fields: Any) -> None:
        """End the step: the upload goes on to `to`. Raises `LostError`."""
        if not move(self.upload, to, only=Q(claim=self._claim), **fields):
            raise LostError

    def is_cancelled(self) -> bool:
        """Whether somebody has asked to queue no more rows. Raises `LostError`."""
        state = self._mine.values_list("state", flat=True).first()
        if state is None:
            raise LostError
        self.upload.state = state
        return state == Upload.State.CANCELLING

    def tell(self, **fields: Any) -> None:
        """`save` the progress of the step, once a second.

        Raises `LostError`, and `StoppedError` if this process must end.
        """
        if _stopping.is_set():
            raise StoppedError
        if time.monotonic() - self._told_at >= _TELL_EVERY_SECONDS:
            self.save(**fields)

    def pause(self, seconds: float, waiting: str) -> None:
        """Wait, and say what for."""
        self.save(waiting=waiting)
        if rest(seconds):
            raise StoppedError

    def look(self, shape: Shape | None) -> Look:
        """A first look at the uploaded file. Raises `PayloadError`."""

        def tell(read_bytes: int) -> None:
            self.tell(progress_bytes=min(read_bytes, self.upload.size_bytes))

        with stored_files.opened(self.upload.file) as file:
            return limited.look(file, our_names(), _limits(look=True), tell, shape)

    @contextmanager
    def rows(self, shape: Shape, tell: Callable[[int], None]) -> Iterator[Iterator[RawRow]]:
        """The rows of the uploaded file; `tell` is called with the bytes read so far.

        Raises `PayloadError`.
        """
        with (
            stored_files.opened(self.upload.file) as file,
            limited.rows(file, shape, _limits(), tell) as rows,
        ):
            yield rows

    def release(self, *, waiting: str = "") -> None:
        """Let another worker continue, at once or when the reason for waiting is gone."""
        self._mine.update(claim="", waiting=waiting)

    def release_when_possible(self) -> None:
        """Let another worker continue as soon as the database accepts this.

        If the database accepts it at once, it was not away: then it refused something of this
        upload, and this counts as a try.
        """
        tries = 1
        while True:
            close_old_connections()
            try:
                self._mine.update(claim="", tries=F("tries") + tries)
            except DATABASE_AWAY:
                tries = 0
                if rest(_TELL_EVERY_SECONDS):
                    return
            else:
                return


def claim(upload_id: int) -> Work | None:
    """The right to work on an upload with a waiting step; None if another worker has it."""
    token = uuid.uuid4().hex
    waiting = Upload.objects.filter(pk=upload_id, claim="", state__in=Upload.RUNNING)
    waiting.update(claim=token, beat_at=now())
    # It may have been cancelled meanwhile.
    upload = Upload.objects.filter(pk=upload_id, claim=token).first()
    return Work(upload) if upload else None


class Watch:
    """Notices silent workers: their beat has not changed since the last looks.

    It does not compare clocks: two machines have different clocks, and each may be set back.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[str, datetime | None, int]] = {}

    def look(self) -> None:
        """Free the uploads of silent workers for others, and count this as a try.

        Call it regularly, and less often than the beat.
        """
        claimed = Upload.objects.exclude(claim="").filter(state__in=Upload.RUNNING)
        seen = {}
        for number, claim, beat_at in claimed.values_list("pk", "claim", "beat_at"):
            before = self._seen.get(number, ("", None, 0))
            looks = before[2] + 1 if before[:2] == (claim, beat_at) else 0
            seen[number] = claim, beat_at, looks
            if looks >= _SILENT_LOOKS:
                silent = Upload.objects.filter(pk=number, claim=claim, beat_at=beat_at)
                silent.update(claim="", tries=F("tries") + 1)
        self._seen = seen


def _limits(*, look: bool = False) -> Limits:
    share = _LOOK_SHARE if look else 1
    return Limits(
        memory_bytes=settings.UPLOAD_MEMORY_BYTES,
        cpu_seconds=max(1, settings.UPLOAD_CPU_SECONDS // share),
        unpacked_bytes=settings.MAX_UNPACKED_BYTES,
    )
