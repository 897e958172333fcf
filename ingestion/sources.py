"""Where records come in: the `source` of a message (contract, section 3).

No client may have one of the reserved names: its records would look like those of another sender.
"""

from __future__ import annotations

import re

import msgspec

_API = "api"
_UPLOAD = "upload"
_COMMAND = "command"

LOCAL = "local"
"""A program on the portal's own machine, without a key."""
ANONYMOUS = "anonymous"
"""Anybody who sends records without a key, if the site allows it."""
PORTAL = "portal"
"""A person who enters a record in the portal."""

RESERVED = frozenset({_API, _UPLOAD, _COMMAND, LOCAL, ANONYMOUS, PORTAL})
"""All words that a source can consist of."""

_NUMBER = "(0|[1-9][0-9]{0,17})"
_OF_UPLOAD = re.compile(f"{_UPLOAD}:{_NUMBER}(?:#{_NUMBER})?")


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A `client` of the API or one of the senders above; an `upload` and its `line`; or a command.

    `str()` returns the text for the message.
    """

    client: str | None = None
    upload: int | None = None
    line: int | None = None

    def __str__(self) -> str:
        if self.client is not None:
            return f"{_API}:{self.client}"
        if self.upload is None:
            return _COMMAND
        if self.line is None:
            return f"{_UPLOAD}:{self.upload}"
        return f"{before_line(self.upload)}{self.line}"


COMMAND = Source()


def before_line(upload: int) -> str:
    """The beginning of the source of every row of an upload; the line follows it."""
    return f"{_UPLOAD}:{upload}#"


def parse(text: str) -> Source | None:
    """The source of a message; None if the text is not a source of ours."""
    if text == _COMMAND:
        return COMMAND
    if text.startswith(f"{_API}:"):
        return Source(client=text.removeprefix(f"{_API}:"))
    if found := _OF_UPLOAD.fullmatch(text):
        upload, line = found.groups()
        return Source(upload=int(upload), line=None if line is None else int(line))
    return None
