"""An RSGI handler that does nothing: the ceiling of the web server that we use."""

from __future__ import annotations

from typing import Any


async def app(scope: Any, proto: Any) -> None:
    """Read the body and answer 201."""
    await proto()
    proto.response_bytes(201, [("content-type", "application/json")], b"{}")
