"""The portal's first page: the state of every queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse

from ingestion.models import Upload
from ingestion.portal.pages import page, portal_view
from ingestion.portal.queues import figures
from ingestion.portal.queues.figures import Reading
from ingestion.queues import Durability
from ingestion.records import RECORD_TYPES, RecordType

_UPLOADS_SHOWN = 5
_CAUSES_SHOWN = 4

_DURABILITY = {
    Durability.REPLICATED: "On the disks of the store and a replica before it is acknowledged",
    Durability.FSYNC: "Every record is on the disk before it is acknowledged",
    Durability.EVERY_SECOND: "On the disk every second: a power cut may lose the last one",
    Durability.MEMORY: "In memory: a power cut may lose acknowledged records",
    Durability.UNKNOWN: "unknown: the store does not say",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """The errors in the refused records of one type, the most frequent causes first."""

    record_type: RecordType
    problems: int
    causes: tuple[tuple[str, int], ...]
    rest: int


@portal_view("view_portal")
def overview(request: HttpRequest) -> HttpResponse:
    """GET /admin/. One round trip to the store, however many messages the queues hold."""
    reading = figures.read()
    store = reading.overview.store if reading.overview else None
    rows = figures.of_queues(reading)
    rejected = _rejected(reading)
    return page(
        request,
        "portal/queues/overview.html",
        title="Overview",
        context={
            "reading": reading,
            "rows": rows,
            "behind": [row for row in rows if row.over_seconds],
            "rejected": rejected,
            "most_rejected": max((n for one in rejected for _, n in one.causes), default=0),
            "store": store,
            "store_reasons": [reason.for_staff for reason in store.reasons] if store else [],
            "durability": _DURABILITY[store.durability if store else Durability.UNKNOWN],
            "uploads": Upload.objects.filter(uploaded_by=request.user.pk)[:_UPLOADS_SHOWN],
        },
    )


def _rejected(reading: Reading) -> list[Rejected]:
    if reading.overview is None:
        return []
    histories = reading.overview.histories
    causes = {
        summary.queue: history.causes
        for summary, history in zip(reading.overview.summaries, histories, strict=True)
    }
    return [
        _rejected_of(record_type, causes[record_type.queue])
        for record_type in RECORD_TYPES.values()
        if causes.get(record_type.queue)
    ]


def _rejected_of(record_type: RecordType, causes: Mapping[str, int]) -> Rejected:
    shown = tuple(causes.items())[:_CAUSES_SHOWN]
    problems = sum(causes.values())
    return Rejected(
        record_type=record_type,
        problems=problems,
        causes=shown,
        rest=problems - sum(count for _, count in shown),
    )
