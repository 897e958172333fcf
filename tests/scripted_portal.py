"""A portal that answers as a test says, on a real port."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from threading import Event, Thread
from typing import Any

Answer = tuple[int, Mapping[str, str], bytes]

ACCEPTED: Answer = (201, {}, b'{"success": true}')
CUT: Answer = (0, {}, b"")
"""The connection ends instead of an answer."""
BROKEN_OFF: Answer = (201, {"Content-Length": "1000"}, b'{"success": ')
"""The connection ends in the middle of an answer."""
SILENCE: Answer = (1, {}, b"")
"""No answer ever comes."""
GONE: Answer = (2, {}, b"")
"""After the answer before this one, the port is closed."""


def refused(status: int, retry_after: str | None = None, **document: str) -> Answer:
    """An error as the portal words it."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return status, headers, json.dumps({"success": False, **document}).encode()


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One request that came."""

    path: str
    key: str
    body: bytes


class ScriptedPortal(ThreadingHTTPServer):
    """Gives one answer after another, and the last one again and again.

    It listens inside its block; with `listening=False`, only after `listen()`.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, *answers: Answer, listening: bool = True) -> None:
        self.answers = chain(answers, repeat(answers[-1]))
        self.ends_after = answers.index(GONE) if GONE in answers else None
        self.requests: list[Request] = []
        self.ended = Event()
        super().__init__(("127.0.0.1", 0), _Answers, bind_and_activate=False)
        self.server_bind()
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.thread: Thread | None = None
        if listening:
            self.listen()

    def listen(self) -> None:
        """Accept connections from now on."""
        if self.thread is None:
            self.server_activate()
            self.thread = Thread(target=self.serve_forever, args=(0.01,))
            self.thread.start()

    def __exit__(self, *fault: Any) -> None:
        self.ended.set()
        if self.thread is not None:
            self.shutdown()
            self.thread.join()
        super().__exit__(*fault)


class _Answers(BaseHTTPRequestHandler):
    server: ScriptedPortal

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        key = self.headers.get("Idempotency-Key", "")
        self.server.requests.append(Request(path=self.path, key=key, body=body))
        status, headers, content = answer = next(self.server.answers)
        if len(self.server.requests) == self.server.ends_after:
            self.server.shutdown()
            self.server.socket.close()
        if answer is SILENCE:
            self.server.ended.wait()
        elif answer is not CUT:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        """Print nothing to the terminal."""
