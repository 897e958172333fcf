"""Debian's PostgreSQL for tests: a separate server on a Unix socket, deleted afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

_BOUND_SECONDS = 240
# Nothing here must survive its server.
_NEW_CLUSTER = ("-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C.UTF-8")
_QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB")


def programs() -> Path | None:
    """Where PostgreSQL is installed; None if it is not."""
    found = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    newest = Path(found).resolve() if found else folders[-1] if folders else None
    return newest.parent if newest else None


@contextmanager
def running(bin_dir: Path) -> Iterator[str]:
    """A server; returns its address in the form of `DATABASE_URL`."""
    with tempfile.TemporaryDirectory(prefix="tutormax-pg-") as folder:
        data = Path(folder) / "data"
        as_owner = _as_owner(Path(folder))
        create: list[str | Path] = [*as_owner, bin_dir / "initdb", "-D", data, *_NEW_CLUSTER]
        subprocess.run(create, check=True, capture_output=True, cwd=folder)
        settings = ["listen_addresses=", f"unix_socket_directories={folder}", *_QUICK]
        with (Path(folder) / "log").open("wb") as log:
            options = [word for one in settings for word in ("-c", one)]
            server = subprocess.Popen(
                [*as_owner, bin_dir / "postgres", "-D", data, *options],
                stdout=log,
                stderr=log,
                cwd=folder,
            )
        try:
            _wait(folder, server)
            yield f"postgres://postgres@/postgres?host={folder}"
        finally:
            server.send_signal(signal.SIGINT)  # without waiting for clients
            server.wait(_BOUND_SECONDS)


def _as_owner(folder: Path) -> list[str]:
    """How to run a program that ends with this process; not as root, which PostgreSQL refuses."""
    bound = ["setpriv", "--pdeathsig", "INT"]
    if os.geteuid() != 0:
        return bound
    names = {one.pw_name for one in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return [*bound, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _wait(folder: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _BOUND_SECONDS
    while True:
        try:
            psycopg.connect(host=folder, user="postgres", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            log = (Path(folder) / "log").read_text()
            assert server.poll() is None and time.monotonic() < deadline, log
            time.sleep(0.05)
