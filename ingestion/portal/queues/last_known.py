"""The last overview that was read successfully, for outages of the store."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog
from django.conf import settings

from ingestion.queues import Overview

logger = structlog.get_logger(__name__)

# A copy this old is good enough: several people open pages every few seconds.
_KEPT_FOR_SECONDS = 5


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of the queues at one moment."""

    at: datetime
    overview: Overview


def remember(overview: Overview) -> None:
    """Keep a copy of the present overview.

    It is a file in the data folder. So it outlives this process, other processes on this machine
    can read it, and a page that is opened every few seconds writes nothing to the database. Only
    pages during an outage use this copy. If the folder cannot be written, only they suffer.
    """
    path = _path()
    try:
        if path.exists() and time.time() - path.stat().st_mtime < _KEPT_FOR_SECONDS:
            return
        # A reader finds the old copy or the new one, never a part of one.
        part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        part.write_bytes(msgspec.json.encode(Known(at=datetime.now(UTC), overview=overview)))
        part.replace(path)
    except OSError as fault:
        logger.warning("overview_not_kept", fault=type(fault).__name__)


def last_known() -> Known | None:
    """The last copy; None if there is none."""
    try:
        return msgspec.json.decode(_path().read_bytes(), type=Known)
    except (OSError, msgspec.DecodeError):  # never written, or written by another version
        return None


def _path() -> Path:
    return Path(settings.DATA_DIR) / "last-overview.json"
