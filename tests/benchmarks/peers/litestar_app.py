"""Litestar with msgspec: the fastest of the frameworks that validate."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import Litestar, post
from msgspec import Meta
from redis.asyncio import Redis

from tests.benchmarks.peers.envelopes import SESSIONS, batch_receipt, envelope, receipt, utc_now

store = Redis.from_url(os.environ["REDIS_URL"])

Id = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^\S+$")]


class Session(msgspec.Struct, kw_only=True):
    """One tutoring session."""

    session_id: Id
    tutor_id: Id
    student_id: Id
    session_number: Annotated[int, Meta(ge=1, le=2_147_483_647)]
    is_first_session: bool
    scheduled_start: datetime
    actual_start: datetime | None = None
    duration_minutes: Annotated[int, Meta(ge=0, le=300)]
    subject: Annotated[str, Meta(min_length=1, max_length=100)]
    session_type: Literal["1-on-1", "group", "workshop"] = "1-on-1"
    tutor_initiated_reschedule: bool
    no_show: bool
    late_start_minutes: Annotated[int, Meta(ge=0, le=60)]
    engagement_score: Annotated[float, Meta(ge=0, le=1)]
    learning_objectives_met: bool
    technical_issues: bool
    created_at: datetime | None = None
    updated_at: datetime | None = None

    def __post_init__(self) -> None:
        """Hold the rules between fields."""
        if self.is_first_session != (self.session_number == 1):
            raise ValueError("is_first_session must be true exactly when session_number is 1")
        if self.no_show and self.actual_start is not None:
            raise ValueError("actual_start must be null when no_show is true")


@post("/api/sessions")
async def one(data: Session) -> dict[str, Any]:
    """One record."""
    await store.lpush(SESSIONS, envelope(msgspec.to_builtins(data), utc_now()))
    return receipt(data.session_id)


@post("/api/sessions/batch")
async def batch(data: list[Session]) -> dict[str, Any]:
    """Many records, one push."""
    at = utc_now()
    await store.lpush(SESSIONS, *(envelope(msgspec.to_builtins(one), at) for one in data))
    return batch_receipt(len(data))


app = Litestar([one, batch])
