"""The page of one queue: its figures and its messages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.contrib import messages as notices
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from ingestion import queues
from ingestion.models import Activity
from ingestion.outcomes import StoreError
from ingestion.portal.pages import page, portal_view
from ingestion.portal.queues import figures
from ingestion.portal.queues.asking import failed
from ingestion.portal.queues.listing import WINDOW, opened, page_number, pager, rows
from ingestion.queues import COPIES_TTL_SECONDS, REACH, Search, Window
from ingestion.records import RecordType

_DISCARDS_SHOWN = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Discard:
    """Messages that staff took off: who, why, when, and how many copies can be put back."""

    entry: Activity
    copies: int

    @property
    def name(self) -> str:
        """The name of the copies."""
        name: str = self.entry.facts["copies"]
        return name


@portal_view("view_portal")
def queue(request: HttpRequest, record_type: RecordType) -> HttpResponse:
    """GET /admin/queues/<type>/: one round trip to the store, however many messages there are.

    `order` is `newest` or `oldest`, `page` counts from 1, `id` searches for a record instead.
    """
    wanted = request.GET.get("id", "").strip()
    newest_first = request.GET.get("order") == "newest"
    number = page_number(request)
    listing = (
        Search(id_field=record_type.id_field, record_id=wanted)
        if wanted
        else Window(first=(number - 1) * WINDOW, count=WINDOW, newest_first=newest_first)
    )
    discards = _discards(record_type)
    try:
        detail = queues.detail(
            record_type.queue,
            hours=24,
            listing=listing,
            copies=[entry.facts["copies"] for entry in discards],
        )
    except StoreError as fault:
        return _away(request, record_type, fault)
    return page(
        request,
        "portal/queues/queue.html",
        title=record_type.path.capitalize(),
        context={
            "record_type": record_type,
            "figures": figures.of_queue(
                record_type, detail.summary, detail.history.minutes, detail.consumption
            ),
            "day": figures.chart_of_day(detail.history.minutes),
            "rejected_today": sum(minute.rejected for minute in detail.history.minutes),
            "rows": list(rows(record_type, detail.messages)),
            "wanted": wanted,
            "newest_first": newest_first,
            "reach": REACH,
            "discards": [
                Discard(entry=entry, copies=detail.copies[entry.facts["copies"]])
                for entry in discards
            ],
            **pager(detail.summary.depth, len(detail.messages), number),
        },
    )


@portal_view("see_payloads", methods=["POST"])
def show_message(request: HttpRequest, record_type: RecordType) -> HttpResponse:
    """The content of one message. A POST, because the activity log notes who looked at what."""
    newest_first = request.POST.get("order") == "newest"
    name = request.POST.get("message", "")
    try:
        message = queues.named(record_type.queue, [name], newest_first=newest_first).get(name)
    except StoreError as fault:
        return failed(request, record_type, fault)
    if message is None:
        notices.warning(request, "This message is no longer here: a consumer has taken it.")
        return redirect("admin:queue", record_type)
    (row,) = rows(record_type, [message])
    return page(
        request,
        "portal/queues/message.html",
        title="Message",
        context=opened(request, record_type, row),
    )


def _away(request: HttpRequest, record_type: RecordType, fault: StoreError) -> HttpResponse:
    reading = figures.away(fault)
    (own,) = (one for one in figures.of_queues(reading) if one.record_type is record_type)
    return page(
        request,
        "portal/queues/queue.html",
        title=record_type.path.capitalize(),
        context={"record_type": record_type, "figures": own, "reading": reading},
    )


def _discards(record_type: RecordType) -> list[Activity]:
    kept = Activity.objects.filter(
        action=Activity.Action.DISCARDED,
        record_type=record_type,
        facts__has_key="copies",  # discarded dead letters have no copies
        at__gte=datetime.now(UTC) - timedelta(seconds=COPIES_TTL_SECONDS),
    )
    return list(kept[:_DISCARDS_SHOWN])
