"""Requests to the site's WSGI application, unchanged, as a web server makes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from django.core.signals import request_finished, request_started
from django.db import close_old_connections

from tutormax.wsgi import application


@dataclass(frozen=True, kw_only=True, slots=True)
class RawAnswer:
    """What the application answered."""

    status: int
    headers: dict[str, str]
    content: bytes

    def json(self) -> Any:
        """The body, which must be JSON."""
        assert self.headers["Content-Type"] == "application/json"
        return json.loads(self.content)


@contextmanager
def without_database() -> Iterator[None]:
    """Keep the test's database connection open, as Django's own test client does."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@without_database()
def send(
    method: str, path: str, body: bytes = b"", /, *, query: str = "", **environ: str
) -> RawAnswer:
    """Send a request from this machine; `environ` replaces values of the web server."""
    started: list[tuple[int, dict[str, str]]] = []

    def start(status, headers, exc_info=None):
        started.append((int(status[:3]), dict(headers)))

    sent = BytesIO(body)
    chunks = application(
        {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)),
            "REMOTE_ADDR": "127.0.0.1",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "8000",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.url_scheme": "http",
            "wsgi.input": sent,
            **environ,
        },
        start,
    )
    content = b"".join(chunks)
    chunks.close()
    sent.close()
    ((status, headers),) = started
    return RawAnswer(status=status, headers=headers, content=content)
