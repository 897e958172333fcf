"""How an uploaded file is read, as it is kept with the upload."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingestion.cells import DateOrder, Notation
from ingestion.file_rows import Layout
from ingestion.files.shape import CsvOptions, Encoding, FileFormat


def to_json(layout: Layout) -> dict[str, Any]:
    """The layout as it is kept with the upload."""
    csv = layout.csv
    return {
        "format": layout.file_format,
        "encoding": csv and csv.encoding,
        "delimiter": csv and csv.delimiter,
        "sheet": layout.sheet,
        "header_line": csv.header_line if csv else layout.header_line,
        "columns": None if layout.columns is None else list(layout.columns),
        "date_order": layout.notation.date_order,
        "decimal_comma": layout.notation.decimal_comma,
        "armed": layout.armed,
    }


def from_json(kept: Mapping[str, Any]) -> Layout | None:
    """The layout that `to_json` kept; None before the file was looked at."""
    if not kept:
        return None
    file_format = FileFormat(kept["format"])
    csv = None
    if file_format is FileFormat.CSV:
        csv = CsvOptions(
            encoding=Encoding(kept["encoding"]),
            delimiter=kept["delimiter"],
            header_line=kept["header_line"],
        )
    order = kept["date_order"]
    return Layout(
        file_format=file_format,
        csv=csv,
        sheet=kept["sheet"],
        header_line=kept["header_line"],
        columns=None if kept["columns"] is None else tuple(kept["columns"]),
        notation=Notation(
            date_order=DateOrder(order) if order else None, decimal_comma=kept["decimal_comma"]
        ),
        armed=kept["armed"],
    )
