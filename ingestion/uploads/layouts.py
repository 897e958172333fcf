"""How an uploaded file is read, in the form that is stored with the upload."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingestion.cells import DateOrder, Notation
from ingestion.file_rows import Layout
from ingestion.files.registry import FORMATS
from ingestion.files.shape import Shape


def to_json(layout: Layout) -> dict[str, Any]:
    """The form of the layout that is stored with the upload."""
    shape = layout.shape
    return {
        **shape.options,
        "format": shape.file_format,
        "sheet": shape.sheet,
        "header_line": shape.header_line,
        "columns": None if layout.columns is None else list(layout.columns),
        "date_order": layout.notation.date_order,
        "decimal_comma": layout.notation.decimal_comma,
        "armed": layout.armed,
    }


def from_json(kept: Mapping[str, Any]) -> Layout | None:
    """The layout that `to_json` stored; None before the first look at the file."""
    if not kept:
        return None
    names = [option.name for option in FORMATS[kept["format"]].options]
    order = kept["date_order"]
    return Layout(
        shape=Shape(
            file_format=kept["format"],
            sheet=kept["sheet"],
            header_line=kept["header_line"],
            options={name: kept[name] for name in names},
        ),
        columns=None if kept["columns"] is None else tuple(kept["columns"]),
        notation=Notation(
            date_order=DateOrder(order) if order else None, decimal_comma=kept["decimal_comma"]
        ),
        armed=kept["armed"],
    )
