"""The activity log: who did what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest

from ingestion.models import Activity, Upload
from ingestion.records import RecordType


def record(
    request: HttpRequest,
    what: Activity.Action,
    *,
    record_type: RecordType | None = None,
    upload: Upload | None = None,
    reason: str = "",
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Note that the signed-in person did `what`. Call this after it is done.

    `facts` are counts and ids, never the content of a record.
    """
    person = request.user
    if not isinstance(person, User):
        raise TypeError("Only somebody who is signed in does things in the portal.")
    Activity.objects.create(
        user=person,
        user_name=person.get_username(),
        action=what,
        record_type=record_type,
        upload=upload,
        reason=_storable(reason),
        facts={name: _storable(value) for name, value in (facts or {}).items()},
    )


def _storable(value: Any) -> Any:
    # PostgreSQL stores no NUL. A stranger may put a message whose id holds one on a queue.
    return value.replace("\x00", "\ufffd") if isinstance(value, str) else value
