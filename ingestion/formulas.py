"""Text that a spreadsheet would run as a formula, made harmless, and back.

A cell that begins with one of `= + - @`, a tab or a carriage return may be taken for a formula by
Excel, LibreOffice or Google Sheets, whoever wrote it.
"""

from __future__ import annotations

_STARTS = ("=", "+", "-", "@", "\t", "\r")


def disarmed(text: str) -> str:
    """The same text for a cell, with an apostrophe before what would run as a formula."""
    return f"'{text}" if text.startswith(_STARTS) else text


def rearmed(text: str) -> str:
    """What `disarmed` made this text of."""
    return text[1:] if text[:1] == "'" and text[1:].startswith(_STARTS) else text
