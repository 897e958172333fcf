"""The message of the contract, as each peer makes it."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

QUEUES = {
    "tutors": "tutormax:queue:tutors",
    "sessions": "tutormax:queue:sessions",
    "feedback": "tutormax:queue:feedbacks",
}
SESSIONS = QUEUES["sessions"]


def utc_now() -> str:
    """This moment, as answers and messages say it."""
    return f"{datetime.now(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def envelope(record: dict[str, Any], queued_at: str, queue: str = SESSIONS) -> str:
    """The message of one record."""
    return json.dumps(
        {
            "data": record,
            "queued_at": queued_at,
            "queue": queue,
            "id": str(uuid.uuid4()),
            "source": "api:local",
        }
    )


def receipt(record_id: str) -> dict[str, Any]:
    """The answer to a single record."""
    return {
        "success": True,
        "message": "The record is queued.",
        "id": record_id,
        "queued": True,
        "timestamp": utc_now(),
    }


def batch_receipt(count: int) -> dict[str, Any]:
    """The answer to a batch that is all good."""
    return {
        "success": True,
        "message": f"Records queued: {count}. Records refused: 0.",
        "count": count,
        "rejected": 0,
        "queued": True,
        "timestamp": utc_now(),
        "errors": [],
    }
