"""Who works on an upload: one worker at a time, seen to live, able to be stopped or replaced."""

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
# So many looks at a beat that stands still, and the work is taken over.
_SILENT_LOOKS = 2
# A first look reads the head of a file, and may take so small a share of the time.
_LOOK_SHARE = 5
_stopping = threading.Event()


DATABASE_AWAY = (OperationalError, InterfaceError)
"""What the database driver raises if the database is gone, locked, full or frozen."""


class StoppedError(Exception):
    """This process is to end; the work goes on elsewhere, or later."""


class LostError(Exception):
    """The upload was cancelled, or somebody else works on it."""


class WaitError(Exception):
    """Nothing can be done at present. The text is a sentence for people: what is waited for."""


def rest(seconds: float) -> bool:
    """Wait so long, or until all work is to end; gives whether it is."""
    return _stopping.wait(seconds)


def stop() -> None:
    """Let all work of this process end at the next chance."""
    _stopping.set()


class Work:
    """The right to work on an upload in its present step, kept by beats.

    Every write says on whose behalf it is made, so a worker that was taken for dead cannot
    disturb its successor.
    """

    def __init__(self, upload: Upload) -> None:
        self.upload = upload
        self._claim = upload.claim
        self._mine = Upload.objects.filter(pk=upload.pk, claim=upload.claim)
        self._told_at = time.monotonic()

    @contextmanager
    def beating(self) -> Iterator[None]:
        """While the block runs others see that the upload is worked on, whatever takes how long."""
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
        # An update of no field would say that there is no row.
        if not (self._mine.update(**fields) if fields else self._mine.exists()):
            raise LostError
        for name, value in fields.items():
            setattr(self.upload, name, value)

    def finish(self, to: Upload.State, **fields: Any) -> None:
        """End the step: the upload moves on to `to`. Raises `LostError`."""
        if not move(self.upload, to, only=Q(claim=self._claim), **fields):
            raise LostError

    def is_cancelled(self) -> bool:
        """Whether somebody asked meanwhile that no more rows be queued. Raises `LostError`."""
        state = self._mine.values_list("state", flat=True).first()
        if state is None:
            raise LostError
        self.upload.state = state
        return state == Upload.State.CANCELLING

    def tell(self, **fields: Any) -> None:
        """`save` how far the step is, once a second.

        Raises `LostError`, and `StoppedError` if this process is to end.
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
        """Let somebody else go on, at once or when what is waited for has come."""
        self._mine.update(claim="", waiting=waiting)

    def release_when_possible(self) -> None:
        """Let somebody else go on as soon as the database takes it.

        If it does so at once, it was not away: then something of the upload is what it refuses,
        and that was a try.
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
    """The work on an upload whose step is to be done; None if somebody else is at it."""
    token = uuid.uuid4().hex
    waiting = Upload.objects.filter(pk=upload_id, claim="", state__in=Upload.RUNNING)
    waiting.update(claim=token, beat_at=now())
    # It may have been cancelled since.
    upload = Upload.objects.filter(pk=upload_id, claim=token).first()
    return Work(upload) if upload else None


class Watch:
    """Notices workers that have fallen silent: their beat stands still from look to look.

    It reads no clock. Those of two machines differ, and each may be set back.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[str, datetime | None, int]] = {}

    def look(self) -> None:
        """Free the uploads of silent workers for others, and count that they were given up.

        To be called at an even pace, slower than the beat.
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
