"""The stored files of uploads. No file is left behind, even if a process is killed.

A file may have no upload that names it: not yet, or no longer. Such files are listed in a table. A
file is listed before it is written, and stays listed until it is deleted or until the row of an
upload names it.
"""

from __future__ import annotations

import io
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from tempfile import TemporaryFile
from typing import Any

from django.core.files.base import File
from django.db import transaction
from django.utils.timezone import now

from ingestion.models import LooseFile, upload_storage

# Much longer than it takes to write a file and to name it.
_LEFT_BEHIND_AFTER = timedelta(hours=1)


def keep(content: File[Any]) -> str:
    """Store a file; returns its random name. No upload names it yet: see `exchange`."""
    name = uuid.uuid4().hex
    LooseFile.objects.create(name=name)
    return upload_storage().save(name, content)


@contextmanager
def exchange(*, new: str = "", old: tuple[str, ...] = ()) -> Iterator[None]:
    """The block names `new` in the row of an upload and stops naming `old`: all or nothing.

    After that `old` is deleted; if the block raises, `new` is deleted. An empty name means no file.
    """
    gone = [name for name in old if name]
    try:
        with transaction.atomic():
            yield
            if new and not LooseFile.objects.filter(name=new).delete()[0]:
                raise FileNotFoundError(new)
            LooseFile.objects.bulk_create(LooseFile(name=name) for name in gone)
    except Exception:
        _delete([new] if new else [])
        raise
    _delete(gone)


@contextmanager
def opened(file: File[Any]) -> Iterator[int]:
    """A stored file, wherever it is, as an open descriptor on this machine."""
    with file.open("rb") as stored, ExitStack() as opened:
        try:
            descriptor = stored.fileno()
        except (AttributeError, io.UnsupportedOperation):
            copy = opened.enter_context(TemporaryFile())
            shutil.copyfileobj(stored, copy)
            copy.flush()
            descriptor = copy.fileno()
        yield descriptor


def delete_left_behind() -> None:
    """Delete files that a killed process wrote or stopped naming long ago."""
    before = now() - _LEFT_BEHIND_AFTER
    _delete(LooseFile.objects.filter(since__lt=before).values_list("name", flat=True))


def _delete(names: Iterable[str]) -> None:
    for name in names:
        upload_storage().delete(name)
        LooseFile.objects.filter(name=name).delete()
