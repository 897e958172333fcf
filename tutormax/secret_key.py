"""The key that signs sessions, where none is set: made once and kept with the data."""

from __future__ import annotations

import os
from pathlib import Path

from django.core.management.utils import get_random_secret_key


def stored_secret_key(data_dir: Path) -> str:
    """The key kept in `data_dir`, made at the first call.

    Where it can not be kept (a read-only folder), a key for this process alone: everybody who was
    signed in must do so again after a restart.
    """
    path = data_dir / "secret_key"
    try:
        try:
            # Made by one process alone, and never readable by others, not even for a moment.
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return path.read_text()
        with os.fdopen(handle, "w") as file:
            file.write(get_random_secret_key())
        return path.read_text()
    except OSError:
        return get_random_secret_key()
