"""The rows of a file of any format, before their meaning is decided.

A file is a binary file that can seek. It is read from its beginning and left open. A record that
cannot be read becomes a row with a problem, and the other rows are not affected. If the rest of the
file cannot be read (incomplete JSON, a damaged workbook), a `PayloadError` ends the rows.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, BinaryIO, TextIO

import msgspec

from ingestion.files.shape import MOST_COLUMNS, MOST_SIGNS
from ingestion.outcomes import Code, PayloadError

# Half a surrogate pair replaces bytes that are not text: correctly decoded text never has one.
BAD_BYTES = "\udcff"


class Problem(StrEnum):
    """Why a row or a cell cannot be read."""

    TOO_LONG = "too_long"
    TOO_MANY_VALUES = "too_many_values"
    BROKEN = "broken"
    TOO_WIDE = "too_wide"
    # of a cell
    NO_TEXT = "no_text"
    EXCEL_ERROR = "excel_error"
    DIGITS_LOST = "digits_lost"


class RawRow(msgspec.Struct, frozen=True, array_like=True):
    """One row as the file has it: the cells of a table, or JSON text.

    `line` is the 1-based line where it starts; in JSON it is the record's number. A blank row has
    no cells, no JSON and no problem. `faults` are the cells that cannot be read, by place. `odd`
    has those cells with half a surrogate pair, as bytes, because no encoding has such characters.
    """

    line: int
    cells: list[str] = []
    json: bytes | None = None
    problem: Problem | None = None
    faults: dict[int, Problem] = {}
    odd: dict[int, bytes] = {}

    @property
    def texts(self) -> list[str]:
        """The cells as the file has them."""
        if not self.odd:
            return self.cells
        texts = list(self.cells)
        for at, content in self.odd.items():
            texts[at] = content.decode(errors="surrogatepass")
        return texts

    @property
    def size(self) -> int:
        """About how many bytes it takes: the memory for rows is limited by this."""
        return 64 + len(self.json or b"") + sum(map(len, self.cells)) + 8 * len(self.cells)


def table_row(line: int, cells: list[str], faults: dict[int, Problem] | None = None) -> RawRow:
    """A row of a table, without the columns that are not read, as text that can be encoded."""
    problem = None
    if len(cells) > MOST_COLUMNS:
        # Spreadsheets often end all rows with the same number of empty cells.
        problem = Problem.TOO_WIDE if any(map(str.strip, cells[MOST_COLUMNS:])) else None
        cells = cells[:MOST_COLUMNS]
    faults, odd = faults or {}, {}
    if _no_text.search("".join(cells)):
        cells = list(cells)
        for at, cell in enumerate(cells):
            if _no_text.search(cell):
                faults = {**faults, at: Problem.NO_TEXT}
                odd[at] = cell.encode(errors="surrogatepass")
                cells[at] = cell.encode(errors="replace").decode()
    return RawRow(line, cells, problem=problem, faults=faults, odd=odd)


def json_row(line: int, content: bytes) -> RawRow:
    """A record of JSON, unless it has more values than a record can have."""
    # An empty list takes two bytes in the file and about fifty in memory.
    if sum(map(content.count, (b",", b"[", b"{"))) > MOST_SIGNS:
        return RawRow(line, problem=Problem.TOO_MANY_VALUES)
    return RawRow(line, json=content)


@contextmanager
def text_of(file: BinaryIO, encoding: str, errors: str = "strict") -> Iterator[TextIO]:
    """`file` from its beginning as text with its own line ends; `file` itself stays open."""
    file.seek(0)
    text = io.TextIOWrapper(file, encoding, errors, newline="")
    try:
        yield text
    except UnicodeDecodeError:
        raise PayloadError(Code.MALFORMED_ENCODING) from None
    finally:
        if not file.closed:  # the caller may stop early and close the file first
            text.detach()


def _mark_bad_bytes(fault: Any) -> tuple[str, int]:
    return BAD_BYTES, fault.end


MARK = "ingestion.mark_bad_bytes"
# Python's own handler, surrogateescape, cannot mark invalid UTF-16.
codecs.register_error(MARK, _mark_bad_bytes)

_no_text = re.compile(r"[\x00\ud800-\udfff]")
