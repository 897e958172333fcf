"""Files to start from: each format with the right columns and two sample rows."""

from __future__ import annotations

import io

from django.http import Http404, HttpRequest, HttpResponse

from ingestion.cells import cell_text
from ingestion.files.format import Column, Format
from ingestion.files.registry import FORMATS
from ingestion.files.shape import Shape
from ingestion.portal.pages import portal_view
from ingestion.portal.record_fields import Kind, record_fields, sample_records
from ingestion.records import RecordType


@portal_view("view_portal")
def download(request: HttpRequest, record_type: RecordType, file_format: str) -> HttpResponse:
    """GET /admin/templates/<type>.<format>."""
    found = FORMATS.get(file_format)
    if found is None:
        raise Http404
    return HttpResponse(
        _sample(record_type, found),
        content_type=found.media_type,
        headers={"Content-Disposition": f'attachment; filename="{record_type.path}.{file_format}"'},
    )


def _sample(record_type: RecordType, file_format: Format) -> bytes:
    fields = record_fields(record_type)
    file = io.BytesIO()
    writer = file_format.writer(
        file,
        Shape(file_format=file_format.name, sheet=record_type.path),
        [
            Column(
                name=field.name,
                words=field.choices or (("TRUE", "FALSE") if field.kind is Kind.BOOLEAN else ()),
                is_required=field.required,
                width=max(14, min(40, len(field.example_text) + 4)),
            )
            for field in fields
        ],
    )
    for record in sample_records(record_type):
        if file_format.is_table:
            writer.add([cell_text(record.get(field.name)) for field in fields])
        else:
            writer.add(record)
    writer.finish()
    return file.getvalue()
