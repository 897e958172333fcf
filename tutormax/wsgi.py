"""The WSGI application, for any WSGI server behind a proxy that buffers bodies."""

import os
from io import BytesIO
from typing import Any

import django
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.utils.http import parse_header_parameters

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tutormax.settings")


class Request(WSGIRequest):
    """A request whose query is always read as UTF-8, not in the charset of its Content-Type.

    Django decodes the query with that charset while it creates the request, when no code can answer
    yet. So a charset like `hex`, or a malformed header, would break the request. Here such a header
    counts as missing, and the views refuse the body.
    """

    def close(self) -> None:
        """Let go of the body too: Django's requests are in cycles and live on until these are
        collected."""
        super().close()
        self._body, self._stream = b"", BytesIO()

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            found = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
        except ValueError:
            found = "", {}
        self.content_type, self.content_params = found


class Handler(WSGIHandler):
    """Django's own, over our requests."""

    request_class = Request


django.setup(set_prefix=False)
application = Handler()
