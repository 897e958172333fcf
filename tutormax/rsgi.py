"""The web server's entry (RSGI): bodies are read on the event loop, Django runs in threads.

A WSGI server reads a body inside the thread that runs the view. So a few clients that promise a
body and then send nothing stop it for everybody. Here such a client costs only a socket. The body
is read first, within a size limit, a deadline and a memory budget. Only a complete request gets a
thread, when it is its client's turn. Django is called through WSGI, because it serves several times
as many requests as under ASGI.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import sys
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from typing import cast

import structlog
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.core.handlers.wsgi import WSGIHandler
from django.db import Error as AnyDatabaseError
from django.db import close_old_connections
from granian.rsgi import HTTPProtocol, ProtocolClosed, Scope  # type: ignore[attr-defined]

from ingestion.api_keys import known_keys
from ingestion.outcomes import Code
from ingestion.processes import end_with
from tutormax.edge.connections import Connections
from tutormax.edge.deadlines import Deadlines
from tutormax.edge.fast_lane import FastLane
from tutormax.edge.process import pass_on_one_stop
from tutormax.edge.request import SMALL_BODY_BYTES, Request
from tutormax.edge.sending import send
from tutormax.edge.threads import FairThreads, Lane
from tutormax.edge.watchdog import watchdog
from tutormax.middleware import logged_path
from tutormax.wsgi import application as django_application

# The longest time that a busy thread may keep the interpreter. A request needs it again
# some ten times: after each answer of the store and of a socket. With Python's default of 5 ms, a
# single post beside three large batches took two to four times as long; the batches gained nothing.
_SWITCH_SECONDS = 0.0005

logger = structlog.get_logger(__name__)


class Edge:
    """An RSGI application: read the body, then run Django with the whole request.

    Its limits are settings: MAX_BODY_BYTES for one body as sent (less for a portal form,
    MAX_UPLOAD_BYTES for a file from signed-in staff), BODY_TIMEOUT_SECONDS for receiving it,
    MAX_BUFFERED_BYTES for the large bodies of all requests together, WEB_THREADS requests in Django
    and MAX_WAITING_REQUESTS in line for it. Above a limit it answers itself (413, 408, 503), and
    Django does not see the request.
    """

    def __init__(self, django: WSGIHandler) -> None:
        self._django = django
        self._buffered_bytes = 0

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called by Granian in each worker process, before the first request."""
        if (parent := multiprocessing.parent_process()) is not None:
            # Otherwise, after a SIGKILL of Granian's main process, workers would keep serving.
            end_with(cast(int, parent.pid))
        sys.setswitchinterval(_SWITCH_SECONDS)
        if sys.platform != "win32":
            self._signals = pass_on_one_stop(loop)
        self._loop = loop
        self._threads = FairThreads(
            loop, threads=settings.WEB_THREADS, line=settings.MAX_WAITING_REQUESTS
        )
        self._deadlines = Deadlines(loop, seconds=settings.BODY_TIMEOUT_SECONDS)
        self._fast_lane = FastLane(loop) if settings.FAST_LANE else None
        Connections(
            port=settings.PORT,
            read_seconds=settings.READ_TIMEOUT_SECONDS,
            most_of_peer=settings.MAX_CONNECTIONS_PER_PEER,
        ).watch()
        watchdog.beat(loop)

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called by Granian after the last request; a thread may still need the loop to send."""
        if self._fast_lane:
            loop.run_until_complete(self._fast_lane.finish())
        loop.run_until_complete(self._threads.finish())

    async def __rsgi__(self, scope: Scope, proto: HTTPProtocol) -> None:
        """Answer one request."""
        request = Request(scope=scope, proto=proto)
        try:
            if request.names_its_site:
                await self._read_body(request)
            else:
                request.refuse(Code.MALFORMED_REQUEST)
            if not request.refused:
                await self._answer(request)
        except Exception:
            logger.exception("request_failed", path=logged_path(scope.path))
            request.refuse(Code.INTERNAL_ERROR)
        finally:
            self._drop_body(request)

    async def _answer(self, request: Request) -> None:
        """Answer a complete request: a plain one in the fast lane, all others by Django."""
        lane = self._fast_lane
        if not (lane and lane.takes(request) and await lane.answer(request)):
            await self._in_turn(request, lambda: self._call_django(request))

    async def _read_body(self, request: Request) -> None:
        """Read the body within the deadline, or refuse the request.

        A refusal is sent at once. The rest of the body is then read and dropped until the deadline:
        if the connection were closed, the sender would see a broken connection and no answer.
        """
        try:
            with self._deadlines:
                headers = request.headers
                length = int(headers.get("content-length", -1))  # Granian refuses all but digits
                if not 0 <= length <= request.most_bytes and request.may_be_of_staff:
                    await self._in_turn(request, lambda: _let_staff_send_more(request))
                if request.refused:
                    return
                if length > request.most_bytes:
                    request.refuse(Code.BODY_TOO_LARGE)
                    if "expect" in headers:  # the client has not started to send
                        return
                elif 0 <= length <= SMALL_BODY_BYTES:  # one step is cheaper
                    request.content = await request.proto()
                    request.size_bytes = len(request.content)
                    return
                # A complete body ends with one empty chunk. If the body broke off, Granian gives a
                # second empty chunk and raises nothing: half a batch would look complete.
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

    def _keep(self, request: Request, chunk: bytes) -> None:
        size_bytes = request.size_bytes + len(chunk)
        if size_bytes > request.most_bytes:
            code = Code.BODY_TOO_LARGE
        elif (
            size_bytes > SMALL_BODY_BYTES
            and self._buffered_bytes + len(chunk) > settings.MAX_BUFFERED_BYTES
        ):
            code = Code.SERVER_BUSY
        else:
            request.keep(chunk)
            self._buffered_bytes += len(chunk)
            return
        self._drop_body(request)
        request.refuse(code)

    def _drop_body(self, request: Request) -> None:
        if request.body:
            self._buffered_bytes -= request.size_bytes
            request.size_bytes = 0
            request.body.close()

    async def _in_turn(self, request: Request, call: Callable[[], None]) -> None:
        """Run the call in a thread when it is the client's turn, or refuse the request."""
        is_intake = request.scope.path.startswith(f"{settings.API_PREFIX}/")
        lane = Lane.INTAKE if is_intake else Lane.PAGES
        if not await self._threads.run(lane, _client_of(request), call):
            request.refuse(Code.SERVER_BUSY)

    def _call_django(self, request: Request) -> None:
        """Run Django and send its response; called in a thread of the pool."""
        status, headers = 0, list[tuple[str, str]]()

        def start_response(
            status_line: str, header_list: list[tuple[str, str]], exc_info: object = None, /
        ) -> Callable[[bytes], object]:
            nonlocal status, headers
            status, headers = int(status_line[:3]), header_list
            return list[bytes]().append  # Django never calls it

        with contextlib.closing(self._django(request.environ(), start_response)) as response:
            if self._fast_lane and request.is_plain:
                self._fast_lane.learn(status, headers)
            send(request.proto, self._loop, status, headers, response)


def _client_of(request: Request) -> str:
    """The owner of the share of threads that a request uses: the key's client, or the address.

    An unknown key is ignored here: a sender with invented keys still has only one share.
    """
    scheme, _, key = request.headers.get("authorization", "").strip().partition(" ")
    name = known_keys.client(key.strip()) if scheme.lower() == "api-key" else None
    return f"key {name}" if name else f"address {request.address}"


def _let_staff_send_more(request: Request) -> None:
    """Raise the limit of the body if its cookie has a signed-in session; called in a thread.

    The cookie alone proves nothing: anybody can send one.
    """
    cookies = SimpleCookie()
    with contextlib.suppress(CookieError):
        cookies.load(request.headers.get("cookie", ""))
    session = cookies.get(settings.SESSION_COOKIE_NAME)
    if session is None:
        return
    try:
        is_somebodys = SESSION_KEY in import_module(settings.SESSION_ENGINE).SessionStore(
            session.value
        )
    except AnyDatabaseError:
        request.refuse(Code.SERVER_BUSY)
        return
    finally:
        close_old_connections()
    if is_somebodys:
        request.most_bytes = request.most_bytes_of_staff


application = Edge(django_application)
