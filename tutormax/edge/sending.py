"""Sends Django's response so that a client that does not read it costs almost no memory.

Granian keeps unsent bytes in memory without a limit. But it reads a file piece by piece while the
client takes it. So a large response is sent as a file: the response's own file if it has one,
otherwise a temporary one.
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

# A larger response is kept on the disk. Until the client reads, about this much is in memory.
_IN_MEMORY_BYTES = 256 * 1024
# How long a temporary file is kept. The server opens it at once.
_OPEN_SECONDS = 30

Headers = list[tuple[str, str]]


def send(
    proto: HTTPProtocol,
    loop: asyncio.AbstractEventLoop,
    status: int,
    headers: Headers,
    response: HttpResponseBase,
) -> None:
    """Send the whole response. It is called in a thread, and does not wait for the client.

    A stream is first read to its end. If it fails, nothing was sent and the exception is raised: a
    client never gets half a response that looks complete.
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
        # The server opens the file again by this name and then has its own descriptor.
        proto.response_file(status, headers, f"/dev/fd/{body.fileno()}")
        kept = stack.pop_all()
    loop.call_soon_threadsafe(loop.call_later, _OPEN_SECONDS, kept.close)


def _file_of(response: HttpResponseBase) -> str | None:
    """The path of the file if the response is exactly one whole file, otherwise None."""
    stream: IO[Any] | None = getattr(response, "file_to_stream", None)
    if not isinstance(response, FileResponse) or stream is None or response.status_code != 200:
        return None
    name = getattr(stream, "name", None)
    if isinstance(name, str) and os.path.isabs(name) and stream.tell() == 0:
        return name
    return None
