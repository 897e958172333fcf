"""One record, entered by hand."""

from __future__ import annotations

import hashlib
import json
import shlex
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html

from ingestion import intake
from ingestion.decoding import Row
from ingestion.intake import Received
from ingestion.models import Activity
from ingestion.outcomes import QueuePausedError, StoreError
from ingestion.portal import rejected
from ingestion.portal.pages import page, portal_view
from ingestion.portal.records.entry_form import EntryForm
from ingestion.portal.store_changes import store_change
from ingestion.queues import KeptRejection, Once
from ingestion.records import RECORD_TYPES, RecordType
from ingestion.sources import PORTAL, Source

SOURCE = Source(client=PORTAL)


@portal_view("enter_records", methods=["GET", "HEAD", "POST"])
def enter(request: HttpRequest, record_type: RecordType) -> HttpResponse:
    """The form. Posted, it queues the record; with `check`, it only says whether it is valid.

    Every answer except success holds what was typed, so nothing is lost. If the same form is sent
    again, by a double click or because no answer came, nothing is queued twice. With `rejection`
    in the address, the form begins with that refused record, and sending it fixes the record.
    """
    rejection_id = request.GET.get("rejection", "")
    to_fix = rejected.to_fix(record_type, rejection_id) if rejection_id else None
    if to_fix and to_fix.fixed_by:
        messages.warning(request, "This record was already fixed. Nothing was queued.")
        return redirect("admin:rejection", record_type, rejection_id)
    if request.method != "POST":
        form = EntryForm(record_type, record=to_fix.record if to_fix else None)
        return _form_page(request, record_type, form, rejection=to_fix)
    form = EntryForm(record_type, request.POST)
    record = form.record()
    received = intake.receive(record_type, [Row(value=record)])
    if received.receipt.rejections:
        (rejection,) = received.receipt.rejections
        form.refuse(rejection.errors)
        return _form_page(
            request, record_type, form, record, status=HTTPStatus.UNPROCESSABLE_ENTITY
        )
    if "check" in request.POST:
        return _form_page(request, record_type, form, record, valid=True)
    try:
        _queue(request, received, record)
    except StoreError as fault:
        return _form_page(
            request, record_type, form, record, fault=fault, status=HTTPStatus.SERVICE_UNAVAILABLE
        )
    messages.success(
        request,
        format_html(
            'Queued: {} <strong>{}</strong> is on <a href="{}">{}</a>.',
            record_type.title,
            received.receipt.ids[0],
            reverse("admin:queue", args=[record_type]),
            record_type.queue,
        ),
    )
    if rejection_id and rejected.mark_fixed(record_type, rejection_id, received.receipt.ids[0]):
        return redirect("admin:rejection", record_type, rejection_id)
    return redirect("admin:enter", record_type)


def _queue(request: HttpRequest, received: Received, record: Mapping[str, Any]) -> None:
    """Give the record to the intake, and note who did it. Raises `StoreError`."""
    content = hashlib.sha256(json.dumps(record).encode()).hexdigest()
    once = Once(
        request=f"portal:{request.user.pk}:{_form_id(request)}:{content}",
        fingerprint=content,
        ttl_seconds=settings.IDEMPOTENCY_SECONDS,
        answer=b"queued",
    )
    (record_id,) = received.receipt.ids
    facts = {"id": record_id}
    what = Activity.Action.ENTERED
    if rejection_id := request.GET.get("rejection", ""):
        facts["refused"] = rejection_id[:36]
        what = Activity.Action.FIXED
    with store_change(request, what, record_type=received.record_type, facts=facts) as change:
        receipt = intake.queue(received, source=SOURCE, once=once)
        if receipt.replayed:
            change.facts["sent"] = "again"


def _form_id(request: HttpRequest) -> str:
    """The id of a form, from its first display until it is sent for the last time."""
    return request.POST.get("form", "")[:32] or uuid.uuid4().hex


def _form_page(
    request: HttpRequest,
    record_type: RecordType,
    form: EntryForm,
    record: Mapping[str, Any] | None = None,
    *,
    valid: bool = False,
    fault: StoreError | None = None,
    rejection: KeptRejection | None = None,
    status: int = HTTPStatus.OK,
) -> HttpResponse:
    shown = record_type.serializer_class.example if record is None else record
    document = json.dumps(shown, ensure_ascii=False)
    address = request.build_absolute_uri(reverse(f"record-{record_type.path}"))
    return page(
        request,
        "portal/records/enter.html",
        title="Enter one record",
        context={
            "record_type": record_type,
            "record_types": RECORD_TYPES.values(),
            "form": form,
            "valid": valid,
            "fault": fault,
            "rejection": rejection,
            "sentence": fault and fault.code.sentence,
            "pause_reason": fault.reason if isinstance(fault, QueuePausedError) else "",
            "form_id": _form_id(request),
            "is_example": record is None,
            "json": json.dumps(shown, ensure_ascii=False, indent=2),
            "curl": (
                f"curl -X POST {shlex.quote(address)} \\\n"
                "  -H 'Content-Type: application/json' \\\n"
                f"  --data {shlex.quote(document)}"
            ),
        },
        status=status,
    )
