"""A request's body: its media type, its compression, its limits."""

from __future__ import annotations

import zlib
from email.message import Message

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, UnreadablePostError

from ingestion.decoding import Framing, Payload
from ingestion.outcomes import Code, PayloadError

_JSON = "application/json"
_NDJSON = "application/x-ndjson"
_GZIP = b"\x1f\x8b"
_LOOKS_PACKED = "It begins like gzip: pack it once, and say so with Content-Encoding: gzip."
# As many as in a batch of records that were compressed one by one.
_MOST_MEMBERS = 10_000
_PIECE_BYTES = 2**14


def read_payload(request: HttpRequest, *, batch: bool) -> Payload:
    """The unpacked body as a payload. Raises `PayloadError` if it cannot be one.

    The limit `settings.MAX_BODY_BYTES` holds for the body as sent and as unpacked.
    """
    framing = _framing(request, batch=batch)
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise PayloadError(Code.UNSUPPORTED_ENCODING)
    length = request.META.get("CONTENT_LENGTH") or "0"
    # A server that cannot read a chunked body passes an empty one on. Do not accept it as empty.
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
    # The sender stopped early: the first lines of a batch must not look like all of it.
    if len(content) < int(length):
        raise PayloadError(
            Code.MALFORMED_REQUEST, detail="Its body is shorter than Content-Length says."
        )
    if encoding == "gzip" and content:
        content = _unpack(content, settings.MAX_BODY_BYTES)
    if content.startswith(_GZIP):
        raise PayloadError(Code.MALFORMED_ENCODING, detail=_LOOKS_PACKED)
    return Payload(content=content, framing=framing)


def _framing(request: HttpRequest, *, batch: bool) -> Framing:
    # The standard library's own reader of such headers: it handles quotes, case and spaces.
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
    """The content of all members of the gzip stream. Never inflates more than `most` bytes.

    Python's `gzip` module does not limit the number of members, and an empty one is 20 bytes.
    """
    at, unpacked_bytes, parts = 0, 0, list[bytes]()
    for _ in range(_MOST_MEMBERS):
        member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        while not member.eof:
            piece = content[at : at + _PIECE_BYTES]
            at += len(piece)
            if not piece:  # cut off
                raise PayloadError(Code.MALFORMED_COMPRESSION)
            try:
                parts.append(member.decompress(piece, most + 1 - unpacked_bytes))
            except zlib.error:  # not gzip at all, or damaged
                raise PayloadError(Code.MALFORMED_COMPRESSION) from None
            unpacked_bytes += len(parts[-1])
            if unpacked_bytes > most:
                raise PayloadError(Code.BODY_TOO_LARGE)
        at -= len(member.unused_data)
        # A stream may be padded with zeros.
        if at == len(content) or not (content[at] or content[at:].strip(b"\0")):
            return b"".join(parts)
    raise PayloadError(
        Code.MALFORMED_COMPRESSION, detail=f"It has more than {_MOST_MEMBERS:,} members."
    )
