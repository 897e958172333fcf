"""A real web server for the small site of `rsgi_site.py`, used over real sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
CAP = 2**20
LARGE = 600_000  # a body of this size needs a share of the budget
CHUNKED = "Transfer-Encoding: chunked"


def wait_until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return result


class Server:
    """A running web server with one worker."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process, self.port, self._log = process, port, log
        self._children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        self.worker = int(wait_until(self.workers)[0])

    def workers(self) -> list[str]:
        """The pids of the processes that serve."""
        return self._children.read_text().split()

    def connect(self, peer: str = "") -> socket.socket:
        """A connection, from the address `peer` if one is given."""
        return socket.create_connection(
            ("127.0.0.1", self.port), timeout=120, source_address=(peer, 0) if peer else None
        )

    def send(self, *lines: str, body: bytes = b"", peer: str = "") -> socket.socket:
        """A connection on which this request was sent; the Host is added."""
        connection = self.connect(peer)
        head = "\r\n".join((f"{lines[0]} HTTP/1.1", "Host: edge", *lines[1:]))
        connection.sendall(head.encode("latin-1") + b"\r\n\r\n" + body)
        return connection

    def ask(self, *lines: str, body: bytes = b"") -> Answer:
        with self.send(*lines, body=body) as connection:
            return Answer(connection, lines[0].split()[0])

    def echo(self, *lines: str, path: str = "/echo", body: bytes = b"") -> dict[str, Any]:
        answer = self.ask(f"POST {path}", f"Content-Length: {len(body)}", *lines, body=body)
        assert answer.status == 200
        return answer.json()

    def events(self) -> list[dict[str, Any]]:
        """The JSON lines of the log so far."""
        lines = self._log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def is_deaf(self) -> bool:
        """Whether nobody listens on the port now."""
        try:
            self.connect().close()
        except ConnectionRefusedError:
            return True
        return False

    def connections(self) -> int:
        """How many connections the server holds open (proc(5), /proc/net/tcp)."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        ours = [row for row in rows if row[1].endswith(f":{self.port:04X}")]
        return sum(row[3] != "0A" and row[9] != "0" for row in ours)  # neither listening nor gone

    def peak_memory_bytes(self) -> int:
        status = Path(f"/proc/{self.worker}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024


class Answer:
    """One response, read off a connection."""

    def __init__(self, connection: socket.socket, method: str = "GET") -> None:
        response = http.client.HTTPResponse(connection, method=method)
        response.begin()
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    def json(self) -> Any:
        return json.loads(self.body)

    def is_refusal(self, status: int, code: str) -> bool:
        document = self.json()
        assert document["success"] is False and document["error"] and document["timestamp"]
        assert document["request_id"] == self.headers["X-Request-ID"]
        assert self.headers["Content-Type"] == "application/json"
        return (self.status, document["code"]) == (status, code)


@contextlib.contextmanager
def serving(folder: Path, **bounds: int) -> Iterator[Server]:
    with socket.socket() as reserved:  # held without listening, so that the port stays ours
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        log = folder / "server.log"
        environment = {name: str(value) for name, value in (bounds | {"PORT": port}).items()}
        environment["DJANGO_SETTINGS_MODULE"] = "tests.rsgi_site"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tutormax.web"],
                cwd=ROOT,
                env=os.environ | environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            server = Server(process, port, log)
            wait_until(lambda: not server.is_deaf())
            yield server
        finally:
            process.terminate()
            process.wait(timeout=120)
            with contextlib.suppress(ProcessLookupError):  # a worker that was left behind
                os.killpg(process.pid, signal.SIGKILL)


def read_until(connection: socket.socket, end: bytes) -> bytes:
    received = b""
    while end not in received:
        received += connection.recv(1000) or pytest.fail("the connection ended")
    return received


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)
