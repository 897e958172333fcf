"""django-ninja: Pydantic on Django."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.peers import django_site

django_site.configure(__name__)

from django.urls import path  # noqa: E402
from ninja import NinjaAPI  # noqa: E402

from tests.benchmarks.peers.envelopes import (  # noqa: E402
    SESSIONS,
    batch_receipt,
    envelope,
    receipt,
    utc_now,
)
from tests.benchmarks.peers.models import Session  # noqa: E402

store = django_site.store()
ninja = NinjaAPI()


@ninja.post("/sessions", response={201: dict})
def one(request: Any, session: Session) -> tuple[int, dict[str, Any]]:
    """One record."""
    store.lpush(SESSIONS, envelope(session.model_dump(mode="json"), utc_now()))
    return 201, receipt(session.session_id)


@ninja.post("/sessions/batch", response={201: dict})
def batch(request: Any, sessions: list[Session]) -> tuple[int, dict[str, Any]]:
    """Many records, one push."""
    at = utc_now()
    store.lpush(SESSIONS, *(envelope(one.model_dump(mode="json"), at) for one in sessions))
    return 201, batch_receipt(len(sessions))


urlpatterns = [path("api/", ninja.urls)]
app = django_site.application()
