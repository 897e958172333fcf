"""The field guide: the fields of a record, and a form to try a record without queueing it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse

from ingestion import decoding, validation
from ingestion.decoding import Framing, Payload, Row
from ingestion.files.registry import FORMATS
from ingestion.outcomes import FieldError, PayloadError, Rejection
from ingestion.portal.pages import page, portal_view
from ingestion.portal.record_fields import record_fields
from ingestion.portal.records.entry_form import EntryForm
from ingestion.records import RECORD_TYPES, RecordType


@dataclass(frozen=True, kw_only=True, slots=True)
class _Trial:
    """The result of a trial: what would be queued, or why the record would be refused."""

    queued: str = ""
    dropped: tuple[str, ...] = ()
    errors: tuple[FieldError, ...] = ()
    unreadable: str = ""


@portal_view("view_portal", methods=["GET", "HEAD", "POST"])
def guide(request: HttpRequest, record_type: RecordType) -> HttpResponse:
    """Every field; a posted record, as JSON or from the form, is validated and never queued."""
    form = EntryForm(record_type, request.POST if "fill" in request.POST else None)
    example = json.dumps(record_type.serializer_class.example, ensure_ascii=False, indent=2)
    trial = None
    if "fill" in request.POST:
        trial = _judge(record_type, form.record())
        form.refuse(trial.errors)
    elif request.method == "POST":
        trial = _try_json(record_type, request.POST.get("json", ""))
    return page(
        request,
        "portal/records/guide.html",
        title="Field guide",
        context={
            "record_type": record_type,
            "record_types": RECORD_TYPES.values(),
            "fields": record_fields(record_type),
            "formats": FORMATS,
            "form": form,
            "json": request.POST.get("json", example),
            "trial": trial,
        },
    )


def _try_json(record_type: RecordType, text: str) -> _Trial:
    payload = Payload(content=text.encode(errors="replace"), framing=Framing.RECORD)
    try:
        (row,) = decoding.rows(payload, most=1)
    except PayloadError as fault:
        return _Trial(unreadable=fault.code.sentence)
    return _judge(record_type, row.value)


def _judge(record_type: RecordType, record: dict[str, Any]) -> _Trial:
    (verdict,) = validation.validate(record_type, [Row(value=record)])
    known = record_type.fields
    dropped = tuple(name for name in record if name not in known)
    if isinstance(verdict, Rejection):
        return _Trial(errors=verdict.errors, dropped=dropped)
    queued = json.dumps(json.loads(verdict.content), ensure_ascii=False, indent=2)
    return _Trial(queued=queued, dropped=dropped)
