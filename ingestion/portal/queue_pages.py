"""The page of one queue: its figures, and what lies on it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from django.contrib import messages as notices
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from ingestion import queues
from ingestion.models import Activity
from ingestion.outcomes import StoreError
from ingestion.portal import activity, figures
from ingestion.portal.pages import page, portal_view
from ingestion.queues import COPIES_TTL_SECONDS, REACH, Message, Search, Window
from ingestion.records import RecordType

WINDOW = 50
"""So many messages stand on a page."""

_DISCARDS_SHOWN = 10
_SHOWN_BYTES = 64 * 1024
_OF_UPLOAD = re.compile(r"upload:([0-9]{1,18})#([0-9]{1,18})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One message in the list, without its payload; `upload` and `line` where it came by file."""

    message: Message
    record_id: str | None
    age_seconds: float | None
    upload: int | None
    line: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Discard:
    """Messages that staff took off: who, why, when, and how many of them can be put back."""

    entry: Activity
    copies: int

    @property
    def name(self) -> str:
        """What the copies are kept under."""
        name: str = self.entry.facts["copies"]
        return name


@portal_view("view_portal")
def queue(request: HttpRequest, kind: RecordType) -> HttpResponse:
    """GET /admin/queues/<type>/: one round trip to the store, whatever lies on the queue.

    `order` is `newest` or `oldest`, `page` counts from 1, `id` looks for a record instead.
    """
    wanted = request.GET.get("id", "").strip()
    newest_first = request.GET.get("order") == "newest"
    number = page_number(request)
    listing = (
        Search(id_field=kind.id_field, record_id=wanted)
        if wanted
        else Window(first=(number - 1) * WINDOW, count=WINDOW, newest_first=newest_first)
    )
    discards = _discards(kind)
    try:
        detail = queues.detail(
            kind.queue,
            hours=24,
            listing=listing,
            copies=[entry.facts["copies"] for entry in discards],
        )
    except StoreError as fault:
        return _away(request, kind, fault)
    return page(
        request,
        "portal/queue.html",
        title=kind.path.capitalize(),
        context={
            "kind": kind,
            "figures": figures.of_queue(
                kind, detail.summary, detail.history.minutes, detail.consumption
            ),
            "day": figures.chart_of_day(detail.history.minutes),
            "rejected_today": sum(minute.rejected for minute in detail.history.minutes),
            "rows": list(rows(kind, detail.messages)),
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
def show_message(request: HttpRequest, kind: RecordType) -> HttpResponse:
    """What one message holds. A POST, since it is noted who looked at what."""
    newest_first = request.POST.get("order") == "newest"
    name = request.POST.get("message", "")
    try:
        message = queues.named(kind.queue, [name], newest_first=newest_first).get(name)
    except StoreError as fault:
        return failed(request, kind, fault)
    if message is None:
        notices.warning(request, "This message is no longer here: a consumer has taken it.")
        return redirect("admin:queue", kind)
    (row,) = rows(kind, [message])
    return page(
        request, "portal/queue_message.html", title="Message", context=opened(request, kind, row)
    )


def failed(
    request: HttpRequest, kind: RecordType, fault: StoreError, to: str = "admin:queue"
) -> HttpResponse:
    """Back to a page of the queue: a change, or a look, that the store did not answer to."""
    notices.error(
        request,
        f"{figures.why_away(fault.code)} Not done, as far as the portal knows: see what the queue "
        "says before you try again.",
    )
    return redirect(to, kind)


def opened(request: HttpRequest, kind: RecordType, row: Row) -> dict[str, Any]:
    """What the page of a message shows that is no longer hidden; who looks is noted."""
    message = row.message
    facts = {"message": message.id or message.name, "record": row.record_id}
    activity.record(
        request,
        Activity.Action.PAYLOAD_SHOWN,
        record_type=kind,
        facts={key: value for key, value in facts.items() if value},
    )
    return {
        "kind": kind,
        "row": row,
        "payload": payload_text(message.raw),
        "cut": message.size_bytes > _SHOWN_BYTES,
    }


def payload_text(raw: bytes) -> str:
    """Bytes for people: JSON laid out, everything else as far as it is text; cut where long."""
    try:
        shown = msgspec.json.format(raw, indent=2) if len(raw) <= _SHOWN_BYTES else raw
    except (msgspec.DecodeError, RecursionError):
        shown = raw
    return shown[: 2 * _SHOWN_BYTES].decode(errors="backslashreplace")


def _away(request: HttpRequest, kind: RecordType, fault: StoreError) -> HttpResponse:
    reading = figures.away(fault)
    (own,) = (one for one in figures.of_queues(reading) if one.kind is kind)
    return page(
        request,
        "portal/queue.html",
        title=kind.path.capitalize(),
        context={"kind": kind, "figures": own, "reading": reading},
    )


def rows(kind: RecordType, listed: Sequence[Message]) -> Iterator[Row]:
    """The messages as lists show them."""
    now = datetime.now(UTC)
    for message in listed:
        by_file = _OF_UPLOAD.fullmatch(message.source or "")
        record_id = None if message.problem else message.data.get(kind.id_field)
        yield Row(
            message=message,
            record_id=record_id if isinstance(record_id, str) else None,
            age_seconds=max(0.0, (now - message.queued_at).total_seconds())
            if message.queued_at
            else None,
            upload=int(by_file[1]) if by_file else None,
            line=int(by_file[2]) if by_file else None,
        )


def _discards(kind: RecordType) -> list[Activity]:
    kept = Activity.objects.filter(
        action=Activity.Action.DISCARDED,
        record_type=kind.path,
        facts__has_key="copies",  # of dead letters that are discarded there are none
        at__gte=datetime.now(UTC) - timedelta(seconds=COPIES_TTL_SECONDS),
    )
    return list(kept[:_DISCARDS_SHOWN])


def page_number(request: HttpRequest) -> int:
    """Which page of a list is asked for, from 1; never one that is out of reach."""
    asked = request.GET.get("page", "")
    number = int(asked) if re.fullmatch(r"[0-9]{1,9}", asked) else 1
    return min(max(number, 1), REACH // WINDOW)


def pager(total: int, listed: int, number: int) -> Mapping[str, Any]:
    """What the foot of page `number` of a list says; `listed` of `total` stand on it."""
    first = (number - 1) * WINDOW
    return {
        "first": first + 1,
        "last": first + listed,
        "beyond_reach": total > REACH,
        "previous": number - 1 if number > 1 else None,
        "next": number + 1 if first + WINDOW < min(total, REACH) else None,
    }
