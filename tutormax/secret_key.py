"""The key that signs sessions if SECRET_KEY is not set: created once and kept with the data."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from django.core.management.utils import get_random_secret_key


def stored_secret_key(data_dir: Path) -> str:
    """The key in `data_dir`; the first call creates it.

    If it cannot be kept (in a read-only folder), the key is only for this process: after a restart
    everybody must sign in again.
    """
    path = data_dir / "secret_key"
    try:
        if not path.exists() or not path.read_text():
            # The file is complete or does not exist: a full disk or a second process that starts at
            # the same time must not leave half a key. Other users can never read it.
            with NamedTemporaryFile("w", dir=data_dir, prefix="secret_key.") as file:
                file.write(get_random_secret_key())
                file.flush()
                if path.exists() and not path.stat().st_size:  # left by an older version
                    path.unlink(missing_ok=True)
                with suppress(FileExistsError):
                    os.link(file.name, path)
        return path.read_text()
    except OSError:
        return get_random_secret_key()
