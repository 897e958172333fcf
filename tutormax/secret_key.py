"""The key that signs sessions, where none is set: made once and kept with the data."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from django.core.management.utils import get_random_secret_key


def stored_secret_key(data_dir: Path) -> str:
    """The key kept in `data_dir`, made at the first call.

    Where it can not be kept (a read-only folder), a key for this process alone: everybody who was
    signed in must do so again after a restart.
    """
    path = data_dir / "secret_key"
    try:
        if not path.exists() or not path.read_text():
            # Whole or not at all: a full disk, or another process that starts at the same time,
            # must not leave half a key. Never readable by others, not even for a moment.
            with NamedTemporaryFile("w", dir=data_dir, prefix="secret_key.") as file:
                file.write(get_random_secret_key())
                file.flush()
                if path.exists() and not path.stat().st_size:  # of a former version
                    path.unlink(missing_ok=True)
                with suppress(FileExistsError):
                    os.link(file.name, path)
        return path.read_text()
    except OSError:
        return get_random_secret_key()
