"""The connection between a client and the portal; it can be cut in the middle of an answer."""

from __future__ import annotations

import enum
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from typing import TypeVar

from tests.portal_process import Portal

_Server = TypeVar("_Server", bound=socketserver.BaseServer)


class Cut(enum.Enum):
    """When the client's side is cut: never, while the portal works, or after its answer."""

    NEVER = enum.auto()
    AT_ONCE = enum.auto()
    ANSWERED = enum.auto()


class ClientLine(socketserver.ThreadingTCPServer):
    """Each request reaches the portal whole, changed by `alter`; `cut` decides about each answer.

    `unheard` holds the answers that no client got.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        portal: Portal,
        cut: Callable[[], Cut],
        alter: Callable[[bytes], bytes] = lambda request: request,
    ) -> None:
        self.portal = portal
        self.cut = cut
        self.alter = alter
        self.unheard: list[bytes] = []
        super().__init__(("127.0.0.1", 0), _Relay)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


class _Relay(socketserver.StreamRequestHandler):
    server: ClientLine

    def handle(self) -> None:
        with (
            socket.create_connection(("127.0.0.1", self.server.portal.port)) as portal,
            portal.makefile("rb") as answers,
        ):
            while request := _message(self.rfile):
                cut = self.server.cut()
                portal.sendall(self.server.alter(request))
                if cut is Cut.AT_ONCE:
                    return
                answer = _message(answers)
                if cut is Cut.ANSWERED:
                    self.server.unheard.append(answer)
                    return
                self.wfile.write(answer)


def _message(stream: BufferedIOBase) -> bytes:
    """An HTTP message with its whole body; empty if the connection has ended."""
    head, length = b"", 0
    while line := stream.readline():
        head += line
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        if line == b"\r\n":
            return head + stream.read(length)
    return b""


@contextmanager
def served(server: _Server) -> Iterator[_Server]:
    """The server, running in a separate thread until the block ends."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
