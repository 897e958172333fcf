"""Files to start from: each format with the right columns and two sample rows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from django.http import Http404, HttpRequest, HttpResponse
from openpyxl import Workbook
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.datavalidation import DataValidation

from ingestion.cells import cell_text
from ingestion.portal.pages import portal_view
from ingestion.portal.record_fields import Kind, record_fields, sample_records
from ingestion.records import RecordType

# So many rows below the header offer their allowed words to choose from.
_ROWS_WITH_CHOICES = 10_000


@portal_view("view_portal")
def download(request: HttpRequest, record_type: RecordType, file_format: str) -> HttpResponse:
    """GET /admin/templates/<type>.<format>."""
    sample = FORMATS.get(file_format)
    if sample is None:
        raise Http404
    return HttpResponse(
        sample.make(record_type),
        content_type=sample.media_type,
        headers={"Content-Disposition": f'attachment; filename="{record_type.path}.{file_format}"'},
    )


def _csv(record_type: RecordType) -> bytes:
    names = [field.name for field in record_fields(record_type)]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(names)
    for record in sample_records(record_type):
        writer.writerow([cell_text(record.get(name)) for name in names])
    # With the mark, Excel takes the file for UTF-8 and keeps it so when it saves.
    return text.getvalue().encode("utf-8-sig")


def _ndjson(record_type: RecordType) -> bytes:
    lines = [json.dumps(record, ensure_ascii=False) for record in sample_records(record_type)]
    return "".join(f"{line}\n" for line in lines).encode()


def _xlsx(record_type: RecordType) -> bytes:
    book = Workbook()
    sheet = book.create_sheet(record_type.path, 0)
    book.remove(book.worksheets[1])
    sheet.freeze_panes = "A2"
    records = sample_records(record_type)
    for column, field in enumerate(record_fields(record_type), start=1):
        letter = get_column_letter(column)
        sheet.cell(1, column, field.name).font = Font(bold=True)
        sheet.column_dimensions[letter].width = max(14, min(40, len(field.example_text) + 4))
        words = field.choices or (("TRUE", "FALSE") if field.kind is Kind.BOOLEAN else ())
        if words:
            choice = DataValidation(
                type="list", formula1=f'"{",".join(words)}"', allow_blank=not field.required
            )
            choice.add(f"{letter}2:{letter}{_ROWS_WITH_CHOICES}")
            sheet.add_data_validation(choice)
        for row, record in enumerate(records, start=2):
            value = record.get(field.name)
            if field.kind is Kind.DATETIME and value is not None:
                sheet.cell(
                    row, column, datetime.fromisoformat(value)
                ).number_format = "yyyy-mm-dd hh:mm:ss"
            elif isinstance(value, bool | int | float):
                sheet.cell(row, column, value)
            else:
                sheet.cell(row, column, cell_text(value) or None)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleFormat:
    """A format to download: how people call it, and how a file of it is made."""

    name: str
    media_type: str
    make: Callable[[RecordType], bytes]


FORMATS = MappingProxyType(
    {
        "xlsx": SampleFormat(
            name="Excel",
            media_type="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            make=_xlsx,
        ),
        "csv": SampleFormat(name="CSV", media_type="text/csv; charset=utf-8", make=_csv),
        "ndjson": SampleFormat(name="NDJSON", media_type="application/x-ndjson", make=_ndjson),
    }
)
"""The formats by the ending of their files, the most usual first."""
