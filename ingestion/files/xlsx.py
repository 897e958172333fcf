"""XLSX: the workbooks of Excel.

openpyxl is imported only for workbooks: importing it takes longer than reading most files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from itertools import islice
from typing import BinaryIO

from ingestion.files import error_columns
from ingestion.files.format import Column, Head, Option, Writer
from ingestion.files.look import HEAD_RECORDS, Look, Sheet, cut, look_at_table
from ingestion.files.raw_rows import RawRow
from ingestion.files.shape import Shape, UnreadableFileError, field_name

_ZIP = b"PK\x03\x04"
_OLD_EXCEL = b"\xd0\xcf\x11\xe0"


class Xlsx:
    """The format."""

    name = "xlsx"
    title = "Excel (.xlsx)"
    media_type = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    is_table = True
    has_lines = True
    is_text = False
    options: Sequence[Option] = ()

    def recognises(self, head: Head) -> bool:
        """Any zip archive; whether a workbook is in it is found when it is read."""
        if head.content.startswith(_OLD_EXCEL):
            raise UnreadableFileError(
                "This is an old Excel file (.xls), or one with a password. Save it as .xlsx "
                "without a password, or as CSV, and upload that."
            )
        return head.content.startswith(_ZIP)

    def look(
        self, file: BinaryIO, names: Set[str], shape: Shape | None, most_unpacked_bytes: int
    ) -> Look:
        """All sheets, sorted by how many of our columns they name, and the first rows of one."""
        from ingestion.files.workbook import opened
        from ingestion.files.xlsx_rows import sheet_rows

        with opened(file, most_unpacked_bytes) as book:
            heads: dict[str, tuple[int, int, list[str]]] = {}  # sheets may share a part
            found: list[tuple[int, Sheet]] = []
            for name, part in book.sheets.items():
                if part not in heads:
                    heads[part] = _find_header(sheet_rows(book, name, 1), names)
                named, line, header = heads[part]
                found.append((named, Sheet(name=name, header_line=line, header=cut(header))))
            sheets = [sheet for _, sheet in sorted(found, key=lambda one: -one[0])]
            if shape is None:
                best = sheets[0]
                shape = Shape(file_format=self.name, sheet=best.name, header_line=best.header_line)
            rows = sheet_rows(book, shape.sheet, shape.header_line)
            return look_at_table(rows, shape, sheets=sheets)

    def rows(self, file: BinaryIO, shape: Shape, most_unpacked_bytes: int) -> Iterator[RawRow]:
        """The rows of a sheet, parsed while it is unpacked."""
        from ingestion.files.workbook import opened
        from ingestion.files.xlsx_rows import sheet_rows

        with opened(file, most_unpacked_bytes) as book:
            yield from sheet_rows(book, shape.sheet, shape.header_line)

    def words(self, shape: Shape) -> list[str]:
        """The format has no options except the sheet."""
        return []

    def writer(self, file: BinaryIO, shape: Shape, columns: Sequence[Column]) -> Writer:
        """A workbook with one sheet; the shape gives its name."""
        from ingestion.files.xlsx_writer import XlsxWriter

        return XlsxWriter(file, shape.sheet, columns)


def _find_header(rows: Iterator[RawRow], names: Set[str]) -> tuple[int, int, list[str]]:
    """How many of `names` a sheet's header row has, its line, and its cells."""
    best: tuple[int, int, list[str]] | None = None
    for row in islice(rows, HEAD_RECORDS):
        named = len(names & set(map(field_name, row.cells)))
        if best is None and error_columns.added(row.cells):  # an error file's first row
            return named, row.line, row.cells
        if row.cells and (best is None or named > best[0]):
            best = named, row.line, row.cells
    return best or (0, 1, [])
