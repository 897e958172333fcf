"""Limits the connections of a web worker: none stays open for ever, no peer holds them all.

Granian has no deadline for a client to read its answer, and no limit for one peer. The kernel knows
how much of each connection was sent and received. So a thread looks at all of them once a second
and closes those whose client does not read. It works only on Linux; elsewhere nothing is closed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import structlog

_LOOK_SECONDS = 1.0
# A client that takes less than this does not read; even a slow line takes more.
_LEAST_BYTES_A_SECOND = 1024
# What the kernel may buffer for a client that does not read; the kernel doubles this.
_SEND_BUFFER_BYTES = 128 * 1024
# Their formats and offsets in struct tcp_info (linux/tcp.h).
_ON_THE_WAY_PACKETS = struct.Struct("I"), 24
_TAKEN_BYTES = struct.Struct("Q"), 120
_NOT_SENT_BYTES = struct.Struct("I"), 144
_TCP_INFO_BYTES = 148

_Peer = tuple[Any, ...]

logger = structlog.get_logger(__name__)


@dataclass(kw_only=True, slots=True)
class _Connection:
    """A connection: when it was first seen, and since when its peer has had something to read.

    `taken_bytes` is what the peer had taken in total at the time `waits_since`.
    """

    since: float
    waits_since: float | None = None
    taken_bytes: int = 0


class Connections:
    """The connections that this process has accepted on `port`.

    A connection is closed if its peer reads too slowly for `read_seconds`. If an address has more
    than `most_of_peer` connections, the newest ones are closed; 0 means no limit.
    """

    def __init__(self, *, port: int, read_seconds: int, most_of_peer: int) -> None:
        self._port = port
        self._read_seconds = read_seconds
        self._most_of_peer = most_of_peer
        self._known: dict[tuple[int, _Peer], _Connection] = {}

    def watch(self) -> None:
        """Start a thread that watches the connections; returns at once."""
        if sys.platform == "linux":
            threading.Thread(target=self._watch, name="connections", daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            self._look()

    def _look(self) -> None:
        known, self._known = self._known, {}
        not_reading: list[tuple[int, _Peer]] = []
        of_address: dict[str, list[tuple[float, tuple[int, _Peer]]]] = {}
        for name in os.listdir("/proc/self/fd"):
            # It may be something else, or be closed at this moment.
            with contextlib.suppress(OSError), _looked_at(int(name)) as sock:
                if not _is_tcp_on(sock, self._port):
                    continue
                if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    # The connections that it accepts inherit this.
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
                    continue
                key = int(name), sock.getpeername()
                one = self._known[key] = known.get(key) or _Connection(since=time.monotonic())
                if self._reads_too_slowly(sock, one):
                    not_reading.append(key)
                else:
                    of_address.setdefault(key[1][0], []).append((one.since, key))
        too_many = [
            key
            for held in of_address.values()
            if 0 < self._most_of_peer < len(held)
            for _, key in sorted(held)[self._most_of_peer :]
        ]
        for fd, peer in (*not_reading, *too_many):
            with contextlib.suppress(OSError):
                _cut(fd, peer)
        if not_reading:
            logger.warning("connections_not_reading_cut", count=len(not_reading))
        if too_many:
            logger.warning("connections_of_one_peer_cut", count=len(too_many))

    def _reads_too_slowly(self, sock: socket.socket, one: _Connection) -> bool:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        on_the_way, taken_bytes, not_sent_bytes = (
            value.unpack_from(info, offset)[0]
            for value, offset in (_ON_THE_WAY_PACKETS, _TAKEN_BYTES, _NOT_SENT_BYTES)
        )
        now = time.monotonic()
        if not on_the_way and not not_sent_bytes:
            one.waits_since = None
            return False
        if one.waits_since is None:
            one.waits_since, one.taken_bytes = now, taken_bytes
        seconds = now - one.waits_since
        if seconds < self._read_seconds:
            return False
        enough = taken_bytes - one.taken_bytes >= _LEAST_BYTES_A_SECOND * seconds
        one.waits_since, one.taken_bytes = now, taken_bytes
        return not enough


@contextlib.contextmanager
def _looked_at(fd: int) -> Iterator[socket.socket]:
    """The socket behind a descriptor that other code owns; it stays open."""
    sock = socket.socket(fileno=fd)  # raises OSError if it is not a socket
    try:
        yield sock
    finally:
        sock.detach()


def _is_tcp_on(sock: socket.socket, port: int) -> bool:
    return (
        sock.family in (socket.AF_INET, socket.AF_INET6)
        and sock.type == socket.SOCK_STREAM
        and sock.getsockname()[1] == port
    )


def _cut(fd: int, peer: _Peer) -> None:
    """Close the connection to this peer, unless the descriptor now belongs to another peer."""
    with socket.socket(fileno=os.dup(fd)) as sock:  # a copy, because the descriptor may change
        if sock.getpeername() == peer:
            # When the server closes it, the kernel drops the unread bytes.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.shutdown(socket.SHUT_RDWR)
