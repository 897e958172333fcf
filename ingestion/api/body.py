"""A request's body: its media type, its compression, its limits."""

from __future__ import annotations

import gzip
import io
import zlib
from email.message import Message

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, UnreadablePostError

from ingestion.decoding import Framing, Payload
from ingestion.outcomes import Code, PayloadError

_JSON = "application/json"
_NDJSON = "application/x-ndjson"


def read_payload(request: HttpRequest, *, batch: bool) -> Payload:
    """The body as a payload, unpacked. Raises `PayloadError` where it can not be one.

    The limit `settings.MAX_BODY_BYTES` holds for the body as it was sent and as it unpacks.
    """
    framing = _framing(request, batch=batch)
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise PayloadError(Code.UNSUPPORTED_ENCODING)
    length = request.META.get("CONTENT_LENGTH") or "0"
    # A server that can not read a chunked body hands over an empty one; it must not pass for that.
    if length == "0" and "Transfer-Encoding" in request.headers:
        raise PayloadError(Code.LENGTH_REQUIRED)
    if not (length.isascii() and length.isdigit()):
        raise PayloadError(Code.MALFORMED_REQUEST, detail="Its Content-Length is no number.")
    try:
        content = request.body
    except RequestDataTooBig:
        raise PayloadError(Code.BODY_TOO_LARGE) from None
    except UnreadablePostError:
        raise PayloadError(Code.REQUEST_TIMEOUT) from None
    # A sender who broke off: the first lines of a batch must not pass for all of it.
    if len(content) < int(length):
        raise PayloadError(
            Code.MALFORMED_REQUEST, detail="Its body is shorter than Content-Length says."
        )
    if encoding == "gzip":
        content = _unpack(content, settings.MAX_BODY_BYTES)
    return Payload(content=content, framing=framing)


def _framing(request: HttpRequest, *, batch: bool) -> Framing:
    # The standard library's own reader of such headers: quotes, case and spaces are its business.
    header = Message()
    header["Content-Type"] = request.headers.get("Content-Type", "")
    charset = header.get_content_charset("utf-8")
    media_type = header.get_content_type()
    if charset in ("utf-8", "utf8"):
        if media_type == _JSON:
            return Framing.ARRAY if batch else Framing.RECORD
        if media_type == _NDJSON and batch:
            return Framing.LINES
    raise PayloadError(Code.UNSUPPORTED_MEDIA_TYPE)


def _unpack(content: bytes, most: int) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
            # One byte more than allowed is enough to know; nothing beyond is ever inflated.
            unpacked = packed.read(most + 1)
    except (EOFError, OSError, zlib.error):  # cut off, no gzip at all, damaged
        raise PayloadError(Code.MALFORMED_COMPRESSION) from None
    if len(unpacked) > most:
        raise PayloadError(Code.BODY_TOO_LARGE)
    return unpacked
