"""The id that joins a request, its answer and its log lines."""

from __future__ import annotations

import re
import uuid

# What is taken over goes into headers and logs, so it is short, visible, free of quotes, and no
# API key in the wrong header.
_SANE = re.compile(r"(?!.*tmx_)[A-Za-z0-9._:-]{1,128}")


def request_id(header: str | None) -> str:
    """The sender's `X-Request-ID` where it is sane, else a new one (32 hex digits)."""
    return header if header and _SANE.fullmatch(header) else uuid.uuid4().hex
