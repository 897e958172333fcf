"""Writes workbooks. Excel shows exactly the given text, and we read back exactly that text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, BinaryIO

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ERROR_CODES
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter
from openpyxl.utils.datetime import from_excel, to_excel
from openpyxl.worksheet.datavalidation import DataValidation

from ingestion.files.format import Column
from ingestion.files.workbook import number_text

# Numbers that Excel shows as they are written; others, also ids with leading zeros, stay text.
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,10})?")
_DATETIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")
# Characters that XML cannot hold or would change, and text that looks like an escape; to Excel
# these are UTF-16 code units.
_ESCAPED = re.compile(r"[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
_NO_SHEET_NAME = re.compile(r"[\\*?:/\[\]]")
_LONGEST_SHEET_NAME = 31
# In this many rows below the header, a cell offers its allowed words to choose from.
_ROWS_WITH_WORDS = 10_000


class XlsxWriter:
    """Writes a workbook, with the numbers, dates and booleans of Excel."""

    def __init__(self, file: BinaryIO, sheet: str, columns: Sequence[Column]) -> None:
        self._file = file
        self._book = Workbook(write_only=True)
        name = _NO_SHEET_NAME.sub("_", sheet)[:_LONGEST_SHEET_NAME].strip("'")
        self._sheet: Any = self._book.create_sheet(name or None)
        self._sheet.freeze_panes = "A2"
        names = []
        for number, column in enumerate(columns, start=1):
            letter = get_column_letter(number)
            if column.width is not None:
                self._sheet.column_dimensions[letter].width = column.width
            if column.words:
                choice = DataValidation(
                    type="list",
                    formula1=f'"{",".join(column.words)}"',
                    allow_blank=not column.is_required,
                )
                choice.add(f"{letter}2:{letter}{_ROWS_WITH_WORDS}")
                self._sheet.data_validations.append(choice)
            cell = self._text(column.name)
            cell.font = Font(bold=True)
            names.append(cell)
        self._sheet.append(names)

    def add(self, row: Any, *, is_unread: bool = False) -> None:
        """Write a row."""
        self._sheet.append([self._cell(text, is_unread=is_unread) for text in row])

    def finish(self) -> None:
        """Write the workbook into the file."""
        self._book.save(self._file)

    def _cell(self, text: str, *, is_unread: bool) -> Any:
        """A number, a date, true or false, if Excel returns exactly this text; otherwise text."""
        if not text:
            return None
        if _NUMBER.fullmatch(text):
            number = float(text) if "." in text else int(text)
            if number_text(str(number)) == text:
                return number
        if text in ("true", "false"):
            return text == "true"
        cell = self._text(text)
        if _DATETIME.fullmatch(text) and (moment := _moment(text)) is not None:
            cell.value = moment
            cell.number_format = "yyyy-mm-dd hh:mm:ss"
        elif is_unread and text in ERROR_CODES:
            # An Excel error that made the row unreadable must do so again.
            cell.data_type = "e"
        return cell

    def _text(self, text: str) -> Any:
        cell: Any = WriteOnlyCell(self._sheet)
        # This skips the checks of `value`, which cut long texts and take some texts for formulas.
        cell._value = _ESCAPED.sub(lambda sign: f"_x{ord(sign[0]):04X}_", text)
        cell.data_type = "s"
        return cell


def _moment(text: str) -> datetime | None:
    """The date and time, if Excel can hold it exactly."""
    try:
        moment = datetime.fromisoformat(text)
        number = to_excel(moment)  # type: ignore[no-untyped-call]
        same = number >= 0 and from_excel(number) == moment
    except (ValueError, OverflowError):
        return None
    return moment if same else None
