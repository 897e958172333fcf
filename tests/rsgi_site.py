"""A small site served by the real edge, so that the edge's tests do not need the application.

Settings and URLs are in one module. The limits come from the environment of the server's process.
A view that waits or reports takes the path of a file from the query.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from django.core.handlers.wsgi import WSGIRequest
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from tutormax.logs import logging_config

SECRET_KEY = "for the tests alone"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.rsgi_site"
STATIC_URL = "/static/"
LOGGING = logging_config(level="INFO", as_json=True)
DATA_UPLOAD_MAX_MEMORY_SIZE = None

MAX_BODY_BYTES = int(os.environ.get("MAX_BODY_BYTES", 2**20))
MAX_UPLOAD_BYTES = 4 * MAX_BODY_BYTES
MAX_BUFFERED_BYTES = int(os.environ.get("MAX_BUFFERED_BYTES", 2**28))
HOST = "127.0.0.1"
PORT = int(os.environ.get("PORT", 0))
API_PREFIX = "/api"
TRUSTED_PROXIES = 0
FAST_LANE = False
WEB_WORKERS = 1
SHUTDOWN_SECONDS = 20
WEB_SILENCE_SECONDS = int(os.environ.get("WEB_SILENCE_SECONDS", 60))
READ_TIMEOUT_SECONDS = int(os.environ.get("READ_TIMEOUT_SECONDS", 60))
MAX_CONNECTIONS_PER_PEER = int(os.environ.get("MAX_CONNECTIONS_PER_PEER", 0))
# A session exists if this site has signed it: no database is needed.
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "ingestion"]
STORAGES = {"uploads": {"BACKEND": "django.core.files.storage.InMemoryStorage"}}
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
BODY_TIMEOUT_SECONDS = int(os.environ.get("BODY_TIMEOUT_SECONDS", 20))
WEB_THREADS = int(os.environ.get("WEB_THREADS", 4))
MAX_WAITING_REQUESTS = int(os.environ.get("MAX_WAITING_REQUESTS", 256))


def _wait_for(file: str) -> None:
    deadline = time.monotonic() + 120
    while not Path(file).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(file)
        time.sleep(0.01)


def echo(request: WSGIRequest) -> HttpResponse:
    """What arrived: the body's length and hash, and the plain values of the environ."""
    answer = {
        "bytes": len(request.body),
        "sha256": hashlib.sha256(request.body).hexdigest(),
        "environ": {k: v for k, v in request.environ.items() if isinstance(v, str | bool)},
    }
    response = JsonResponse(answer)
    response.set_cookie("first", "1")
    response.set_cookie("second", "2")
    return response


def gate(request: HttpRequest) -> HttpResponse:
    """Write the time into the file `entered`, then hold the thread until `open` exists."""
    Path(request.GET["entered"]).write_text(str(time.monotonic_ns()))
    _wait_for(request.GET["open"])
    return HttpResponse(b"through")


def hang(request: HttpRequest) -> HttpResponse:
    """Never end, and never release the interpreter."""
    Path(request.GET["entered"]).touch()
    return HttpResponse(str(re.match(r"^(([0-9a-f])+)+x$", "0" * 64)))


def large(request: HttpRequest) -> HttpResponse:
    """The requested number of bytes."""
    return HttpResponse(b"x" * int(request.GET["bytes"]), content_type="text/plain")


class _Chunks:
    """Two chunks, the second when the file `open` exists."""

    def __init__(self, query: dict[str, str]) -> None:
        self._query = query

    def __iter__(self) -> Iterator[bytes]:
        yield b"first"
        _wait_for(self._query["open"])
        if "break" in self._query:
            raise RuntimeError("a stream that breaks")
        yield b"second"

    def close(self) -> None:
        Path(self._query["closed"]).touch()


def stream(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    return StreamingHttpResponse(_Chunks(request.GET.dict()))


def file(request: HttpRequest) -> FileResponse:
    return FileResponse(Path(request.GET["name"]).open("rb"))


class _Broken(HttpResponse):
    def __iter__(self) -> Iterator[bytes]:
        raise RuntimeError("past Django's own handlers")


def crash(request: HttpRequest) -> HttpResponse:
    return _Broken()


urlpatterns = [
    path(view.__name__, view, name=view.__name__)
    for view in (echo, gate, hang, large, stream, file, crash)
] + [
    path("api/echo", echo),
    path("api/gate", gate),
    path("echo/<path:rest>", lambda request, rest: echo(request)),
    path("admin/upload/", echo),
]
