"""The last overview that was read well, for the time in which the store is away."""

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

# An older copy is as good: pages are looked at every few seconds, by several people.
_KEPT_FOR_SECONDS = 5


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of the queues at one moment."""

    at: datetime
    overview: Overview


def remember(overview: Overview) -> None:
    """Keep a copy of what was read just now.

    In a file of the data folder: it outlives this process and serves the others on this machine,
    and a page that is looked at every few seconds writes nothing to the database. It is a copy and
    no state: nothing but pages during an outage is made from it, and a folder that cannot be
    written costs only that.
    """
    path = _path()
    try:
        if path.exists() and time.time() - path.stat().st_mtime < _KEPT_FOR_SECONDS:
            return
        # Whoever reads meanwhile finds the old copy or the new one, never a part.
        part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        part.write_bytes(msgspec.json.encode(Known(at=datetime.now(UTC), overview=overview)))
        part.replace(path)
    except OSError as fault:
        logger.warning("overview_not_kept", fault=type(fault).__name__)


def last_known() -> Known | None:
    """What was read last; None where nothing ever was."""
    try:
        return msgspec.json.decode(_path().read_bytes(), type=Known)
    except (OSError, msgspec.DecodeError):  # never written, or by another version
        return None


def _path() -> Path:
    return Path(settings.DATA_DIR) / "last-overview.json"
