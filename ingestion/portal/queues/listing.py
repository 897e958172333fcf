"""What the lists of messages and of dead letters share: their pages, and one opened message."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.http import HttpRequest

from ingestion import sources
from ingestion.models import Activity
from ingestion.portal import activity
from ingestion.queues import REACH, Message
from ingestion.records import RecordType
from ingestion.sources import Source

WINDOW = 50
"""How many messages a page shows."""

_SHOWN_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One message in the list, without its payload."""

    message: Message
    record_id: str | None
    age_seconds: float | None
    source: Source | None


def rows(record_type: RecordType, listed: Sequence[Message]) -> Iterator[Row]:
    """The messages, in the form that lists show."""
    now = datetime.now(UTC)
    for message in listed:
        record_id = None if message.problem else message.data.get(record_type.id_field)
        yield Row(
            message=message,
            record_id=record_id if isinstance(record_id, str) else None,
            age_seconds=max(0.0, (now - message.queued_at).total_seconds())
            if message.queued_at
            else None,
            source=sources.parse(message.source or ""),
        )


def page_number(request: HttpRequest) -> int:
    """The requested page of a list, from 1; never one that cannot be reached."""
    asked = request.GET.get("page", "")
    number = int(asked) if re.fullmatch(r"[0-9]{1,9}", asked) else 1
    return min(max(number, 1), REACH // WINDOW)


def pager(total: int, listed: int, number: int) -> Mapping[str, Any]:
    """The foot of page `number` of a list that shows `listed` of `total` messages."""
    first = (number - 1) * WINDOW
    return {
        "first": first + 1,
        "last": first + listed,
        "beyond_reach": total > REACH,
        "previous": number - 1 if number > 1 else None,
        "next": number + 1 if first + WINDOW < min(total, REACH) else None,
    }


def opened(request: HttpRequest, record_type: RecordType, row: Row) -> dict[str, Any]:
    """The content of a message that was opened; the activity log notes who opened it."""
    message = row.message
    facts = {"message": message.id or message.name, "record": row.record_id}
    activity.record(
        request,
        Activity.Action.PAYLOAD_SHOWN,
        record_type=record_type,
        facts={key: value for key, value in facts.items() if value},
    )
    return {
        "record_type": record_type,
        "row": row,
        "payload": payload_text(message.raw),
        "cut": message.size_bytes > _SHOWN_BYTES,
    }


def payload_text(raw: bytes) -> str:
    """Bytes for people: JSON with line breaks, other bytes as text if possible; long ones cut."""
    try:
        shown = msgspec.json.format(raw, indent=2) if len(raw) <= _SHOWN_BYTES else raw
    except (msgspec.DecodeError, RecursionError):
        shown = raw
    return shown[: 2 * _SHOWN_BYTES].decode(errors="backslashreplace")
