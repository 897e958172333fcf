"""The life of an upload: which state may follow which. Only this module writes a state.

```
INSPECTING <── look again ── CHECK, REVIEW, FAILED
  │   │
  │   └─────────┐
  v             v
CHECK ─ answer ─> READING ──────> REVIEW ── confirm ──> QUEUEING ──> DONE
                   │  ^            │                     │   │
                   │  └─── fix ────┘                 cancel  └────> FAILED
                   │                                     v
                   └──> FAILED ── retry                CANCELLING ──> CANCELLED
```

An upload that is not confirmed can be cancelled at once. An inspection can fail, as reading can. A
retry starts again with the step that failed.

A state is written by one conditional update only. If two people act on one upload at the same time,
one succeeds and the other is told that the upload has changed.
"""

from __future__ import annotations

from typing import Any

from django.db.models import Q
from django.utils.timezone import now

from ingestion.models import Upload

State = Upload.State

_FROM: dict[State, tuple[State, ...]] = {
    State.INSPECTING: (State.CHECK, State.REVIEW, State.FAILED),
    State.CHECK: (State.INSPECTING,),
    State.READING: (State.INSPECTING, State.CHECK, State.REVIEW, State.FAILED),
    State.REVIEW: (State.READING,),
    State.QUEUEING: (State.REVIEW, State.FAILED),
    State.DONE: (State.QUEUEING,),
    State.CANCELLING: (State.QUEUEING,),
    State.CANCELLED: (State.INSPECTING, State.CHECK, State.READING, State.REVIEW, State.CANCELLING),
    State.FAILED: (State.INSPECTING, State.READING, State.QUEUEING),
}
_FINAL = (State.DONE, State.CANCELLED, State.FAILED)


def move(upload: Upload, to: State, *, only: Q | None = None, **fields: Any) -> bool:
    """Bring the upload into state `to` and write `fields` with it; `upload` then has all values.

    Returns False and does nothing if its present state does not allow this, if its file has
    expired, or if `only` does not match it. Otherwise the worker of the upload loses its claim. A
    request to cancel is an exception: the worker that queues the rows notices it.
    """
    written: dict[str, Any] = {
        "state": to,
        "waiting": "",
        "failure": "",
        "tries": 0,
        "finished_at": now() if to in _FINAL else None,
    }
    if to is not State.CANCELLING:
        written |= {"claim": "", "beat_at": None}
    if to in (State.INSPECTING, State.READING):
        written |= {"progress_bytes": 0, "progress_rows": 0}
    if to in (State.INSPECTING, State.READING, State.QUEUEING):
        written["step_at"] = None
    found = Upload.objects.filter(only or Q(), pk=upload.pk, state__in=_FROM[to], expired_at=None)
    if not found.update(**{**written, **fields}):
        return False
    upload.refresh_from_db()
    return True
