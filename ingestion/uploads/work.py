"""Who works on an upload: one worker at a time, seen to live, able to be stopped or replaced."""

from __future__ import annotations

import io
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db.models import Q
from django.utils.timezone import now

from ingestion.models import Upload
from ingestion.uploads.transitions import move

STALE_SECONDS = 15.0
"""After so long without a beat the work on an upload is taken over."""

_BEAT_SECONDS = 1.0
_BUFFER_BYTES = 2**16
_stopping = threading.Event()


class StoppedError(Exception):
    """This process is to end; the work goes on elsewhere, or later."""


class LostError(Exception):
    """The upload was cancelled, or somebody else works on it."""


class WaitError(Exception):
    """Nothing can be done at present. The text is a sentence for people: what is waited for."""


def stop() -> None:
    """Let all work of this process end at the next chance."""
    _stopping.set()


def silent() -> Q:
    """Uploads on which nobody is seen to work."""
    return Q(beat_at=None) | Q(beat_at__lt=now() - timedelta(seconds=STALE_SECONDS))


class Work:
    """The right to work on an upload in its present step, kept by beats.

    Every write says on whose behalf it is made, so a worker that was taken for dead can not
    disturb its successor.
    """

    def __init__(self, upload: Upload) -> None:
        self.upload = upload
        self._claim = upload.claim
        self._mine = Upload.objects.filter(pk=upload.pk, claim=upload.claim)
        self._beat_at = time.monotonic()

    def save(self, **fields: Any) -> None:
        """Write `fields` and beat. Raises `LostError`."""
        self._beat_at = time.monotonic()
        if not self._mine.update(**{"beat_at": now(), **fields}):
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

    def beat(self, **fields: Any) -> None:
        """`save`, once a second. Raises `StoppedError` where this process is to end."""
        if _stopping.is_set():
            raise StoppedError
        if time.monotonic() - self._beat_at >= _BEAT_SECONDS:
            self.save(**fields)

    def pause(self, seconds: float, waiting: str) -> None:
        """Wait, and say what for."""
        self.save(waiting=waiting)
        if _stopping.wait(seconds):
            raise StoppedError

    @contextmanager
    def file(self, beat: Callable[[int], None]) -> Iterator[io.BufferedReader]:
        """The uploaded file; `beat` is called with the bytes read so far, each time it is read."""
        with stored_file(self.upload, beat) as file:
            yield file

    def release(self, *, waiting: str = "") -> None:
        """Let somebody else go on, at once or when what is waited for has come."""
        self._mine.update(claim="", waiting=waiting)


def claim(upload_id: int) -> Work | None:
    """The work on an upload whose step is to be done; None where somebody else is at it."""
    token = uuid.uuid4().hex
    waiting = Upload.objects.filter(Q(claim="") | silent(), pk=upload_id, state__in=Upload.RUNNING)
    waiting.update(claim=token, beat_at=now())
    # It may have been cancelled since.
    upload = Upload.objects.filter(pk=upload_id, claim=token).first()
    return Work(upload) if upload else None


@contextmanager
def stored_file(
    upload: Upload, beat: Callable[[int], None] = lambda _: None
) -> Iterator[io.BufferedReader]:
    """The uploaded file, wherever it is stored, as the readers take it."""
    with upload.file.open("rb") as stored:
        yield binary(stored, beat)


def binary(file: Any, beat: Callable[[int], None] = lambda _: None) -> io.BufferedReader:
    """Whatever can be read and sought in, as a binary file."""
    return io.BufferedReader(_Watched(file, beat), _BUFFER_BYTES)


class _Watched(io.RawIOBase):
    """A file that tells how much of it is read: no part of reading it goes unseen."""

    def __init__(self, stored: Any, beat: Callable[[int], None]) -> None:
        self._stored = stored
        self._beat = beat
        self._read = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._stored.seek(offset, whence))

    def readinto(self, buffer: Any) -> int:
        content = self._stored.read(len(buffer))
        buffer[: len(content)] = content
        self._read += len(content)
        self._beat(self._read)
        return len(content)
