"""Makes text harmless that a spreadsheet would run as a formula, and restores it.

Excel, LibreOffice and Google Sheets may take a cell for a formula if it begins with one of
`= + - @` or its full-width form. It does not matter who wrote the cell. A new cell can begin at the
start of the text and after every separator: the spreadsheet itself chooses the separator of a CSV
file, and after a different choice the quotes around a cell protect nothing. White space and quotes
before the sign are ignored.
"""

from __future__ import annotations

import re

_SIGNS = r"=+\-@＝＋－＠"  # noqa: RUF001 (full-width on purpose)
_PARTING = r",;|\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029"
# White space, quotes and invisible characters.
_PASSED_OVER = (
    r' "\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\xa0\xad\u1680\u2000-\u200f\u202f\u205f-\u2064'
    r"\u3000\ufeff"
)
# A run of these characters is read only once, from its start, so the time grows only with the
# length.
_BEGINNING = (
    rf"(\A[{_PARTING}{_PASSED_OVER}]*+"
    rf"|(?<![{_PARTING}{_PASSED_OVER}])[{_PASSED_OVER}]*+[{_PARTING}][{_PARTING}{_PASSED_OVER}]*+)"
)
_harmful = re.compile(rf"{_BEGINNING}(?='*+[{_SIGNS}])")
_escaped = re.compile(rf"{_BEGINNING}'(?='*+[{_SIGNS}])")


def escape_formulas(text: str) -> str:
    """The same text for a cell, with an apostrophe before each sign that would start a formula.

    If there are apostrophes already, one more is added, so that removing one is always right. A
    negative number gets one too: with another separator, it would be joined with what follows.
    """
    return _harmful.sub(r"\1'", text)


def unescape_formulas(text: str) -> str:
    """The text before `escape_formulas`; any other text loses an apostrophe in the same places."""
    return _escaped.sub(r"\1", text)
