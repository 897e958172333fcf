"""The latest records that the API refused: view them, fix them, send them again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse

from ingestion import queues, sources
from ingestion.models import Activity
from ingestion.outcomes import StoreError
from ingestion.portal import activity, rejected
from ingestion.portal.pages import RightMissing, page, portal_view
from ingestion.queues import KeptRejection
from ingestion.records import RECORD_TYPES, RecordType

_SHOWN = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A refused record and its type."""

    rejection: KeptRejection
    record_type: RecordType

    @property
    def client(self) -> str:
        """Who sent it."""
        source = sources.parse(self.rejection.source)
        return (source and source.client) or self.rejection.source


@portal_view("view_portal")
def rejections(request: HttpRequest) -> HttpResponse:
    """GET /admin/rejections/: the newest first, filtered by `type` and `code`; one round trip."""
    record_type, code = request.GET.get("type", ""), request.GET.get("code", "")
    reason = ""
    rows: list[Row] = []
    try:
        rows = list(_rows())
    except StoreError as fault:
        reason = fault.for_staff
    fitting = [
        row
        for row in rows
        if record_type in ("", row.record_type.path)
        and (not code or any(found == code for _, found, _ in row.rejection.errors))
    ]
    return page(
        request,
        "portal/rejections/list.html",
        title="Rejections",
        context={
            "reason": reason,
            "any": bool(rows),
            "count": len(fitting),
            "rows": Paginator(fitting, _SHOWN).get_page(request.GET.get("page")),
            "record_types": RECORD_TYPES.values(),
            "record_type": record_type,
            "codes": sorted(
                {found for row in rows for _, found, _ in row.rejection.errors} | {code}
            ),
            "code": code,
        },
    )


@portal_view("view_portal")
def rejection(request: HttpRequest, record_type: RecordType, rejection_id: str) -> HttpResponse:
    """GET /admin/rejections/<type>/<id>/: why it was refused, without the record itself."""
    return _one(request, record_type, rejection_id)


@portal_view("view_portal", methods=["POST"])
def show_rejection(
    request: HttpRequest, record_type: RecordType, rejection_id: str
) -> HttpResponse:
    """The same with the record itself. A POST, because the log notes who looked at what."""
    return _one(request, record_type, rejection_id, show=True)


def may_see(request: HttpRequest) -> bool:
    """Whether the signed-in person may see the content of refused records."""
    return request.user.has_perm("ingestion.see_payloads") or request.user.has_perm(
        "ingestion.enter_records"
    )


def _one(
    request: HttpRequest, record_type: RecordType, rejection_id: str, *, show: bool = False
) -> HttpResponse:
    reason, rejection = "", None
    try:
        rejection = rejected.find(record_type, rejection_id)
    except StoreError as fault:
        reason = fault.for_staff
    if rejection is None and not reason:
        raise Http404
    if rejection and show:
        if not may_see(request):
            raise RightMissing("see_payloads")
        activity.record(
            request,
            Activity.Action.PAYLOAD_SHOWN,
            record_type=record_type,
            facts={"refused": rejection_id},
        )
    return page(
        request,
        "portal/rejections/rejection.html",
        title=f"Refused {record_type.title}",
        context={
            "record_type": record_type,
            "reason": reason,
            "row": Row(rejection=rejection, record_type=record_type) if rejection else None,
            "may_see": may_see(request),
            "payload": json.dumps(rejection.record, indent=2, ensure_ascii=False)
            if rejection and show
            else None,
        },
    )


def _rows() -> Iterator[Row]:
    by_queue = {record_type.queue: record_type for record_type in RECORD_TYPES.values()}
    for rejection in queues.rejections(by_queue):
        yield Row(rejection=rejection, record_type=by_queue[rejection.queue])
