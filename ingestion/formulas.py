"""Text that a spreadsheet would run as a formula, made harmless, and back.

A cell that begins with one of `= + - @`, be it full-width, may be taken for a formula by Excel,
LibreOffice or Google Sheets, whoever wrote it. A cell begins where the text does, and wherever a
spreadsheet may part it: which mark parts the cells of a CSV file is its own choice, and then the
quotes around a cell protect nothing. White space and quotes before the sign do not count.
"""

from __future__ import annotations

import re

_SIGNS = r"=+\-@＝＋－＠"  # noqa: RUF001 (full-width on purpose)
_PARTING = r",;|\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029"
# White space, quotes, and what nobody sees.
_PASSED_OVER = (
    r' "\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\xa0\xad\u1680\u2000-\u200f\u202f\u205f-\u2064'
    r"\u3000\ufeff"
)
# A run of such characters is looked at once, from its start: no text costs more than its length.
_BEGINNING = (
    rf"(\A[{_PARTING}{_PASSED_OVER}]*+"
    rf"|(?<![{_PARTING}{_PASSED_OVER}])[{_PASSED_OVER}]*+[{_PARTING}][{_PARTING}{_PASSED_OVER}]*+)"
)
_harmful = re.compile(rf"{_BEGINNING}(?='*+[{_SIGNS}])")
_guarded = re.compile(rf"{_BEGINNING}'(?='*+[{_SIGNS}])")


def guarded(text: str) -> str:
    """The same text for a cell, with an apostrophe before each sign that would start a formula.

    One more if there are some already, so that taking one away is always right. A negative number
    gets one too: a spreadsheet that parts cells at another mark joins it with what follows.
    """
    return _harmful.sub(r"\1'", text)


def unguarded(text: str) -> str:
    """What `guarded` made this text of; any other text with one apostrophe less in such places."""
    return _guarded.sub(r"\1", text)
