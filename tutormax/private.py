"""Makes DATA_DIR and its files private: only the portal's user can open them."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

# The files of the portal and its store in DATA_DIR, with their temporary files.
_OURS = re.compile(
    r"(secret_key|last-overview\.json|uploads|appendonlydir|dump\.rdb)(\..*)?"
    r"|(store|temp|portal\.sqlite3)([-.].*)?"
)


def write_privately() -> None:
    """From now on, only the user of this process can read what it and its children write."""
    os.umask(os.umask(0o077) | 0o077)


def make_private(folder: Path) -> None:
    """Create the folder; remove the permissions of other users if the folder is ours.

    Other people may use a folder that also holds other things, or that belongs to another user.
    Such a folder does not change. If something could not be done, `is_open` finds it.
    """
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        entries = list(folder.iterdir())
        if all(_OURS.fullmatch(entry.name) for entry in entries):
            _close(folder)
            # The folder may be private already while files of older versions in it are not.
            for entry in entries:
                _close(entry)


def is_open(path: Path) -> bool:
    """Whether other users have permissions; the group counts only if we own the path."""
    try:
        status = path.stat()
    except OSError:
        return False
    return bool(status.st_mode & (0o077 if status.st_uid == os.geteuid() else 0o007))


def _close(path: Path) -> None:
    """Remove the permissions of other users on the path and on everything below it."""
    with suppress(OSError):
        if path.is_symlink() or path.stat().st_uid != os.geteuid() or not is_open(path):
            return
        path.chmod(path.stat().st_mode & 0o700)
        if path.is_dir():
            for entry in path.iterdir():
                _close(entry)
