"""The whole portal as a separate process, as `make run` starts it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import urllib3

ROOT = Path(__file__).parent.parent
_BOUND_SECONDS = 240  # ends a hanging test; a busy machine may take long to start a portal


def free_port() -> int:
    """A port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Portal:
    """A started `manage.py serve`: its address, its folder, and its output so far."""

    def __init__(self, data_dir: Path, *, root: Path | str = ROOT, **environment: str) -> None:
        self.data_dir = data_dir
        self.port = int(environment.setdefault("PORT", str(free_port())))
        self.address = f"http://127.0.0.1:{self.port}"
        handle, name = tempfile.mkstemp(prefix="portal-", suffix=".log")
        self._log = Path(name)
        with os.fdopen(handle, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "serve"],
                cwd=root,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "DJANGO_SETTINGS_MODULE": "tutormax.settings",
                    "DATA_DIR": str(data_dir),
                    **environment,
                },
            )

    @property
    def printed(self) -> str:
        """Everything that it has written to the terminal."""
        return self._log.read_text()

    @property
    def password(self) -> str:
        """The password of the staff account, printed at the first start."""
        found = re.search(r"Password\s+(\S+)", self.printed)
        assert found, self.printed
        return found[1]

    def wait_until_running(self) -> None:
        """Return once it prints its greeting; fails if it ends instead."""
        self.wait_for(lambda: "Ctrl-C stops it." in self.printed)

    def wait_for(self, condition) -> None:
        """Wait, while the process lives, for a condition that must become true."""
        deadline = time.monotonic() + _BOUND_SECONDS
        while not condition():
            assert self.process.poll() is None, self.printed
            assert time.monotonic() < deadline, self.printed
            time.sleep(0.05)

    def get(self, path: str) -> urllib3.BaseHTTPResponse:
        """GET one of its addresses, without retries."""
        return urllib3.request("GET", self.address + path, retries=False, timeout=120)

    def post(self, path: str, record: object) -> urllib3.BaseHTTPResponse:
        """POST a record, without retries."""
        return urllib3.request("POST", self.address + path, json=record, retries=False, timeout=120)

    def end(self, word: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal and wait for its end; gives the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(word)
        return self.process.wait(_BOUND_SECONDS)


@contextmanager
def running_portal(
    data_dir: Path, *, root: Path | str = ROOT, **environment: str
) -> Iterator[Portal]:
    """A portal that answers; it ends with the block. `root` is the project's folder."""
    portal = Portal(data_dir, root=root, **environment)
    try:
        portal.wait_until_running()
        yield portal
    finally:
        portal.end()
