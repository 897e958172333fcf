"""Faults of a store and of the connection to it: it hangs, or an answer never arrives."""

from __future__ import annotations

import os
import select
import signal
import socket
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ingestion import embedded


@contextmanager
def hung(store: embedded.Store) -> Iterator[None]:
    """The store answers nobody inside the block."""
    os.kill(store.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(store.pid, signal.SIGCONT)


class Proxy(socketserver.ThreadingUnixStreamServer):
    """Between a client and the store: notes who sent something, and cuts the connection on request.

    While `cuts` lasts, data with a push reaches the store, but the client never gets the answer.
    With `deaf`, the client still hears the store, and can send nothing more. With `patient`, a
    client's data is read completely before it is passed on. So clients that take turns look
    different from a client that sends in pieces.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, path: Path, store: str) -> None:
        self.store = store
        self.cuts = 0
        self.deaf = False
        self.patient = False
        self.heard: list[tuple[str, int]] = []
        super().__init__(str(path), _Relay)


_DOOMED = (b"EVALSHA", b"LPUSH", b":pause")


class _Relay(socketserver.BaseRequestHandler):
    server: Proxy

    def handle(self) -> None:
        doomed = False
        with socket.socket(socket.AF_UNIX) as store:
            store.connect(self.server.store)
            while True:
                for speaker in select.select([self.request, store], [], [])[0]:
                    data = speaker.recv(2**20)
                    if not data:
                        return
                    if speaker is self.request:
                        while self.server.patient and select.select([speaker], [], [], 0.1)[0]:
                            if not (more := speaker.recv(2**20)):
                                break
                            data += more
                        self.server.heard.append(("client", len(data)))
                        doomed = self.server.cuts > 0 and any(word in data for word in _DOOMED)
                        store.sendall(data)
                    elif doomed:
                        self.server.cuts -= 1
                        return
                    else:
                        self.server.heard.append(("store", len(data)))
                        if self.server.deaf:
                            self.request.shutdown(socket.SHUT_RD)
                        self.request.sendall(data)
