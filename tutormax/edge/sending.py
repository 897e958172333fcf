"""Sends Django's response, so that a client that does not read it costs next to no memory.

Granian puts no bound on what it is handed as bytes and has yet to send. A file it reads piece by
piece as the client takes it. So what is large goes as a file: the file itself if the response is
one, else a temporary one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable
from tempfile import SpooledTemporaryFile
from typing import IO, Any, cast

from django.http import FileResponse, HttpResponseBase
from granian.rsgi import HTTPProtocol  # type: ignore[attr-defined]

# A larger response lies on the disk. About as much is in memory until a client reads.
_IN_MEMORY_BYTES = 256 * 1024
# So long a temporary file is kept for the server to open it, which it does at once.
_OPEN_SECONDS = 30

Headers = list[tuple[str, str]]


def send(
    proto: HTTPProtocol,
    loop: asyncio.AbstractEventLoop,
    status: int,
    headers: Headers,
    response: HttpResponseBase,
) -> None:
    """Send the whole response; called in a thread, which need not wait for the client.

    A stream is taken to its end first: if it breaks, nothing of it has been sent and the error
    is raised, so that half of it never passes for all of it.
    """
    if name := _file_of(response):
        proto.response_file(status, headers, name)
        return
    with contextlib.ExitStack() as stack:
        body = stack.enter_context(SpooledTemporaryFile(_IN_MEMORY_BYTES))
        for part in cast(Iterable[bytes], response):
            body.write(part)
        size_bytes = body.tell()
        if not any(name.lower() == "content-length" for name, _ in headers):
            headers = [*headers, ("Content-Length", str(size_bytes))]
        body.seek(0)
        if size_bytes <= _IN_MEMORY_BYTES:
            proto.response_bytes(status, headers, body.read())
            return
        body.rollover()
        # The server opens it anew by this name, and has it for itself from then on.
        proto.response_file(status, headers, f"/dev/fd/{body.fileno()}")
        kept = stack.pop_all()
    loop.call_soon_threadsafe(loop.call_later, _OPEN_SECONDS, kept.close)


def _file_of(response: HttpResponseBase) -> str | None:
    """The name of the file that this response is from its first byte to its last, if it is one."""
    stream: IO[Any] | None = getattr(response, "file_to_stream", None)
    if not isinstance(response, FileResponse) or stream is None or response.status_code != 200:
        return None
    name = getattr(stream, "name", None)
    if isinstance(name, str) and os.path.isabs(name) and stream.tell() == 0:
        return name
    return None
