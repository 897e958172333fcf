"""The id that a request, its answer and its log lines share."""

from __future__ import annotations

import os
import re

# The sender's id goes into headers and logs. So it must be short and visible, without quotes, and
# not an API key in the wrong header.
_SANE = re.compile(r"(?!.*tmx_)[A-Za-z0-9._:-]{1,128}")


def request_id(header: str | None) -> str:
    """The sender's `X-Request-ID` if it is safe, otherwise a new id (32 hex digits)."""
    return header if header and _SANE.fullmatch(header) else os.urandom(16).hex()
