"""The folder of everything that the portal writes, and its files: for the portal's user alone."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

# What the portal and its store write into DATA_DIR, with what they write it by.
_OURS = re.compile(
    r"(secret_key|last-overview\.json|uploads|appendonlydir|dump\.rdb)(\..*)?"
    r"|(store|temp|portal\.sqlite3)([-.].*)?"
)


def write_privately() -> None:
    """Whatever this process and its children write from now on is for their own user alone."""
    os.umask(os.umask(0o077) | 0o077)


def make_private(folder: Path) -> None:
    """Make the folder; take away the rights that others have in it, if it is ours.

    A folder that also holds other things may be in use by others, and one of another user is that
    user's business: both stay as they are. What could not be done is found by `is_open`.
    """
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        entries = list(folder.iterdir())
        if all(_OURS.fullmatch(entry.name) for entry in entries):
            _close(folder)
            # The folder may have been closed already, over files of former versions.
            for entry in entries:
                _close(entry)


def is_open(path: Path) -> bool:
    """Whether other users can do anything with it; its group too, unless another user owns it."""
    try:
        status = path.stat()
    except OSError:
        return False
    return bool(status.st_mode & (0o077 if status.st_uid == os.geteuid() else 0o007))


def _close(path: Path) -> None:
    """Take away the rights of others on the path, and on all below it."""
    with suppress(OSError):
        if path.is_symlink() or path.stat().st_uid != os.geteuid() or not is_open(path):
            return
        path.chmod(path.stat().st_mode & 0o700)
        if path.is_dir():
            for entry in path.iterdir():
                _close(entry)
