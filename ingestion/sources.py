"""Where records come in, as the `source` of a message tells it (contract, section 3).

No client may have one of these names: its records would pass for those of the sender meant.
"""

from __future__ import annotations

API = "api"
UPLOAD = "upload"
COMMAND = "command"

LOCAL = "local"
"""A program on the portal's own machine, without a key."""
ANONYMOUS = "anonymous"
"""Whoever reaches a site that takes records without a key."""
PORTAL = "portal"
"""A person who enters a record in the portal."""

RESERVED = frozenset({API, UPLOAD, COMMAND, LOCAL, ANONYMOUS, PORTAL})
"""Every word that a source is made of."""


def of_client(name: str) -> str:
    """What comes in through the API, from a client or one of the senders above."""
    return f"{API}:{name}"


def of_upload(number: int) -> str:
    """What comes from a file; the intake adds the line."""
    return f"{UPLOAD}:{number}"
