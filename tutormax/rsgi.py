"""The web server's entry (RSGI): bodies are read on the event loop, Django runs in threads.

A WSGI server reads a body inside the thread that runs the view, so a few clients that promise a
body and stall stop it for everybody. Here such a client costs a socket and nothing else: the body
is read first, within a cap, a deadline and a budget of memory, and only a whole request gets a
thread. Django is called through WSGI, where it serves several times as many requests as under ASGI.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile
from typing import IO, Any, cast

import structlog
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from granian.rsgi import HTTPProtocol, ProtocolClosed, Scope  # type: ignore[attr-defined]

from ingestion.api.errors import error_document
from ingestion.outcomes import ANSWERS, Code
from tutormax.middleware import logged_path
from tutormax.request_id import request_id
from tutormax.wsgi import application as django_application

# So much of a body always has room, whatever the other bodies hold: those who fill the budget
# with large bodies do not keep single records out.
SMALL_BODY_BYTES = 64 * 1024

# Beyond this a body lies in a temporary file until the request ends.
_IN_MEMORY_BYTES = 2**20
_UPLOAD_PATH = "/admin/upload"

logger = structlog.get_logger(__name__)


@dataclass(kw_only=True, slots=True)
class _Request:
    """One request as far as the edge knows it; `body` holds what has arrived."""

    scope: Scope
    proto: HTTPProtocol
    body: IO[bytes] = field(
        default_factory=lambda: SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 (closed in _drop_body)
    )
    size_bytes: int = 0
    began: float = field(default_factory=time.perf_counter)
    refused: bool = False

    @property
    def most_bytes(self) -> int:
        """The cap on the body. Files from staff may be larger, where they are signed in."""
        headers = self.scope.headers
        if (
            self.scope.path.startswith(_UPLOAD_PATH)
            and headers.get("content-type", "").startswith("multipart/form-data")
            and settings.SESSION_COOKIE_NAME in headers.get("cookie", "")
        ):
            return settings.MAX_UPLOAD_BYTES + SMALL_BODY_BYTES  # and the form around the file
        return settings.MAX_BODY_BYTES

    def refuse(self, code: Code) -> None:
        """Answer in the contract's error shape and log it; only the first refusal counts."""
        if self.refused:
            return
        self.refused = True
        scope, status = self.scope, ANSWERS[code].status
        name = request_id(scope.headers.get("x-request-id"))
        headers = [("content-type", "application/json"), ("x-request-id", name)]
        if code is Code.SERVER_BUSY:
            headers.append(("retry-after", "1"))
        self.proto.response_bytes(
            status, headers, json.dumps(error_document(code, request_id=name)).encode()
        )
        logger.info(
            "request",
            method=scope.method,
            path=logged_path(scope.path),
            status=int(status),
            duration_ms=round((time.perf_counter() - self.began) * 1000, 2),
            request_id=name,
            code=code.value,
        )

    def environ(self) -> dict[str, Any]:
        """The request as PEP 3333 wants it, the body whole and its length true."""
        scope = self.scope
        server, _, port = scope.server.rpartition(":")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": scope.method,
            "SCRIPT_NAME": "",
            # Decoded by the server; PEP 3333 carries its bytes as Latin-1.
            "PATH_INFO": scope.path.encode().decode("latin-1"),
            "QUERY_STRING": scope.query_string,
            "SERVER_NAME": server.strip("[]"),
            "SERVER_PORT": port,
            "SERVER_PROTOCOL": f"HTTP/{'1.0' if scope.http_version == '1' else scope.http_version}",
            "REMOTE_ADDR": scope.client.rpartition(":")[0].strip("[]"),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": scope.scheme,
            "wsgi.input": self.body,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        # `items` leaves out a value that is not ASCII; it must not look as if it was never sent.
        values: dict[str, list[str]] = {name: [] for name in scope.headers.keys()}  # noqa: SIM118
        for name, value in scope.headers.items():
            values[name].append(value)
        # HTTP/2 has no Host, and in HTTP/1.1 a full address overrules it (RFC 9112, 3.2.2).
        if scope.authority:
            values["host"] = [scope.authority]
        for name, given in values.items():
            if "_" not in name:  # it would pass for the same name with a dash
                joined = ("; " if name == "cookie" else ",").join(given)
                environ[f"HTTP_{name.upper().replace('-', '_')}"] = joined
        environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE", "")
        environ["CONTENT_LENGTH"] = str(self.size_bytes)
        self.body.seek(0)
        # Both spoke of the body as it was sent, and it is here now.
        environ.pop("HTTP_CONTENT_LENGTH", None)
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        return environ


class Edge:
    """An RSGI application: read the body, then run Django with the whole request.

    Bounded by settings: MAX_BODY_BYTES for one body (as sent, before unpacking; MAX_UPLOAD_BYTES
    for a file from staff who are signed in),
    BODY_TIMEOUT_SECONDS for all of it to arrive, MAX_BUFFERED_BYTES for the large bodies of all
    requests together, WEB_THREADS requests in Django and MAX_WAITING_REQUESTS in line for it.
    Past a bound it answers by itself (413, 408, 503) and Django hears nothing of the request.
    """

    def __init__(self, django: WSGIHandler) -> None:
        self._django = django
        self._admitted = 0  # requests in Django or in line for a thread
        self._buffered_bytes = 0

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called by Granian in each worker process, before the first request."""
        _end_with_parent()
        if sys.platform != "win32":
            self._signals = _pass_on_one_stop(loop)
        self._loop = loop
        self._threads = ThreadPoolExecutor(settings.WEB_THREADS, thread_name_prefix="web")

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called by Granian after the last request; a thread may still need the loop to send."""
        loop.run_until_complete(asyncio.to_thread(self._threads.shutdown))

    async def __rsgi__(self, scope: Scope, proto: HTTPProtocol) -> None:
        """Answer one request."""
        request = _Request(scope=scope, proto=proto)
        try:
            await self._read_body(request)
            if not request.refused:
                await self._run_django(request)
        except Exception:
            logger.exception("request_failed", path=logged_path(scope.path))
            request.refuse(Code.INTERNAL_ERROR)
        finally:
            self._drop_body(request)

    async def _read_body(self, request: _Request) -> None:
        """Read the body within the deadline, or refuse the request.

        A refusal is sent at once. What still comes of the body is then read and thrown away until
        the deadline: a sender that is cut off sees a broken connection instead of the answer.
        """
        try:
            async with asyncio.timeout(settings.BODY_TIMEOUT_SECONDS):
                headers = request.scope.headers
                length = int(headers.get("content-length", -1))  # Granian refuses all but digits
                if length > request.most_bytes:
                    request.refuse(Code.BODY_TOO_LARGE)
                    if "expect" in headers:  # it has not begun to send
                        return
                elif 0 <= length <= SMALL_BODY_BYTES:  # in one step, which costs less
                    self._keep(request, await request.proto())
                    return
                # A whole body ends with one empty chunk. Granian hands out a second one where it
                # broke off, and raises nothing: half a batch would pass for a whole one.
                empty_chunks = 0
                async for chunk in request.proto:
                    empty_chunks += not chunk
                    if not request.refused:
                        self._keep(request, chunk)
                if empty_chunks > 1:
                    request.refuse(Code.MALFORMED_REQUEST)
        except TimeoutError:
            request.refuse(Code.REQUEST_TIMEOUT)
        except ProtocolClosed:
            request.refuse(Code.MALFORMED_REQUEST)

    def _keep(self, request: _Request, chunk: bytes) -> None:
        size_bytes = request.size_bytes + len(chunk)
        if size_bytes > request.most_bytes:
            code = Code.BODY_TOO_LARGE
        elif (
            size_bytes > SMALL_BODY_BYTES
            and self._buffered_bytes + len(chunk) > settings.MAX_BUFFERED_BYTES
        ):
            code = Code.SERVER_BUSY
        else:
            request.body.write(chunk)
            request.size_bytes = size_bytes
            self._buffered_bytes += len(chunk)
            return
        self._drop_body(request)
        request.refuse(code)

    def _drop_body(self, request: _Request) -> None:
        self._buffered_bytes -= request.size_bytes
        request.size_bytes = 0
        request.body.close()

    async def _run_django(self, request: _Request) -> None:
        if self._admitted >= settings.WEB_THREADS + settings.MAX_WAITING_REQUESTS:
            request.refuse(Code.SERVER_BUSY)
            return
        self._admitted += 1
        try:
            await self._loop.run_in_executor(self._threads, self._call_django, request)
        finally:
            self._admitted -= 1

    def _call_django(self, request: _Request) -> None:
        """Run Django and send its response; called in a thread of the pool.

        A stream goes out piece by piece. Granian puts no bound on what it has yet to send, so
        what a slow reader has not taken waits in memory.
        """
        proto = request.proto
        status, headers, parts = 0, list[tuple[str, str]](), list[bytes]()

        def start_response(
            status_line: str, header_list: list[tuple[str, str]], exc_info: object = None, /
        ) -> Callable[[bytes], object]:
            nonlocal status, headers
            status, headers = int(status_line[:3]), header_list
            return parts.append

        with contextlib.closing(self._django(request.environ(), start_response)) as response:
            chunks = cast(Iterable[bytes], response)
            if not response.streaming:
                parts.extend(chunks)
                proto.response_bytes(status, headers, b"".join(parts))
            else:
                transport = proto.response_stream(status, headers)

                async def send(chunk: bytes) -> None:
                    await transport.send_bytes(chunk)

                with contextlib.suppress(ProtocolClosed):  # the client left, or sent a HEAD
                    for chunk in chunks:
                        asyncio.run_coroutine_threadsafe(send(chunk), self._loop).result()


def _pass_on_one_stop(loop: asyncio.AbstractEventLoop) -> tuple[socket.socket, socket.socket]:
    """Let the first SIGTERM or SIGINT reach Granian's handler for certain, and no other.

    asyncio reads signals from the socket that also wakes its loop; in a burst of requests that is
    full, and a signal is lost. Granian's handler blocks the whole process when it runs a third
    time, as when Ctrl-C is pressed twice. So signals arrive at sockets of their own, returned here
    to be kept open, and one is handed to the loop.
    """
    receiver, sender = socket.socketpair()
    receiver.setblocking(False)
    sender.setblocking(False)
    loop_fd = signal.set_wakeup_fd(sender.fileno())

    def hand_on() -> None:
        number = receiver.recv(1)
        if number[0] not in (signal.SIGTERM, signal.SIGINT):
            return
        try:
            os.write(loop_fd, number)
        except BlockingIOError:
            sender.send(number)  # full at this moment: again in the loop's next turn
        else:
            loop.remove_reader(receiver)

    loop.add_reader(receiver, hand_on)
    return receiver, sender


def _end_with_parent() -> None:
    """Ask Linux to end this worker, gracefully, when Granian's main process dies.

    Without it a SIGKILL of the main process leaves workers behind that go on serving the port.
    """
    parent = multiprocessing.parent_process()
    if sys.platform != "linux" or parent is None:
        return
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG, linux/prctl.h
    if ctypes.CDLL(None, use_errno=True).prctl(set_parent_death_signal, signal.SIGTERM):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent.pid:  # it died before the request was made
        os.kill(os.getpid(), signal.SIGTERM)


application = Edge(django_application)
