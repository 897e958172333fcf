"""One request at the edge: its limits, its refusal, and its WSGI environment for Django."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from io import BytesIO
from tempfile import SpooledTemporaryFile
from typing import IO, Any

import msgspec
import structlog
from django.conf import settings
from granian.rsgi import Headers, HTTPProtocol, Scope  # type: ignore[attr-defined]

from ingestion.addresses import client_address
from ingestion.api.errors import error
from ingestion.outcomes import Code
from tutormax.middleware import logged_path
from tutormax.request_id import request_id

# A body of this size is always accepted, even if large bodies have used up the shared budget. So
# clients with large bodies cannot keep single records out.
SMALL_BODY_BYTES = 64 * 1024

# A larger body is kept in a temporary file until the request ends.
_IN_MEMORY_BYTES = 2**20
_PORTAL_PATH = "/admin/"
_UPLOAD_PATH = "/admin/upload"
# Enough for every form that staff fill in. Django parses a form before it knows who sent it, and
# that costs much more than an API body: while Django decodes %xx, no other thread runs.
_FORM_BYTES = 2**20

logger = structlog.get_logger(__name__)


@dataclass(kw_only=True, slots=True)
class Request:
    """A request; `most_bytes` is the limit of its body.

    A small body of a known length is `content`. Any other is in `body`, as far as it was received.
    """

    scope: Scope
    proto: HTTPProtocol
    content: bytes = b""
    body: IO[bytes] | None = None
    headers: Headers = field(init=False)  # each look at the scope's would copy them
    most_bytes: int = field(init=False)
    size_bytes: int = 0
    began: float = field(default_factory=time.perf_counter)
    refused: bool = False
    is_plain: bool = False  # as the fast lane understands it

    def __post_init__(self) -> None:
        self.headers = self.scope.headers
        self.most_bytes = SMALL_BODY_BYTES if self._is_of_portal else settings.MAX_BODY_BYTES

    def keep(self, chunk: bytes) -> None:
        """Take in the next part of the body."""
        if self.body is None:
            self.body = SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 (closed by the edge)
        self.body.write(chunk)
        self.size_bytes += len(chunk)

    @property
    def peer(self) -> str:
        """The address of the other end of the connection."""
        return str(self.scope.client.rpartition(":")[0].strip("[]"))

    @property
    def address(self) -> str:
        """The client's address, also behind proxies: the request counts for it."""
        forwarded = self.headers.get("x-forwarded-for", "")
        return client_address(self.peer, forwarded, proxies=settings.TRUSTED_PROXIES) or ""

    @property
    def names_its_site(self) -> bool:
        """Whether it has a Host; only HTTP/1.0 may omit it (RFC 9112, 3.2)."""
        scope = self.scope
        return bool("host" in self.headers or scope.authority or scope.http_version == "1")

    @property
    def may_be_of_staff(self) -> bool:
        """Whether this is a portal form with a session cookie, so the sender may be signed in."""
        cookies = self.headers.get("cookie", "")
        return self._is_of_portal and settings.SESSION_COOKIE_NAME in cookies

    @property
    def most_bytes_of_staff(self) -> int:
        """The limit for a portal form of a signed-in user; it is highest for a file."""
        is_file = self.scope.path.startswith(_UPLOAD_PATH) and self.headers.get(
            "content-type", ""
        ).startswith("multipart/form-data")
        # The file and the form around it.
        return settings.MAX_UPLOAD_BYTES + SMALL_BODY_BYTES if is_file else _FORM_BYTES

    @property
    def _is_of_portal(self) -> bool:
        return bool(self.scope.path.startswith(_PORTAL_PATH))

    def refuse(self, code: Code) -> None:
        """Answer in the contract's error shape and log it; only the first refusal counts."""
        if self.refused:
            return
        self.refused = True
        scope, status = self.scope, code.status
        name = request_id(self.headers.get("x-request-id"))
        headers = [("content-type", "application/json"), ("x-request-id", name)]
        if code is Code.SERVER_BUSY:
            headers.append(("retry-after", "1"))
        self.proto.response_bytes(
            status, headers, msgspec.json.encode(error(code, request_id=name))
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
        """The request as PEP 3333 defines it, with the whole body and its real length."""
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
            "REMOTE_ADDR": self.peer,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": scope.scheme,
            "wsgi.input": self.body or BytesIO(self.content),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        # `items` omits a value that is not ASCII, but `keys` has its name: it stays present.
        values: dict[str, list[str]] = {name: [] for name in self.headers.keys()}  # noqa: SIM118
        for name, value in self.headers.items():
            values[name].append(value)
        # HTTP/2 has no Host, and in HTTP/1.1 a full address overrides it (RFC 9112, 3.2.2).
        if scope.authority:
            values["host"] = [scope.authority]
        for name, given in values.items():
            if "_" not in name:  # it would look like the same name with a dash
                joined = ("; " if name == "cookie" else ",").join(given)
                environ[f"HTTP_{name.upper().replace('-', '_')}"] = joined
        environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE", "")
        environ["CONTENT_LENGTH"] = str(self.size_bytes)
        if self.body:
            self.body.seek(0)
        # Both describe the body as it was sent; here it is already decoded and complete.
        environ.pop("HTTP_CONTENT_LENGTH", None)
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        return environ
