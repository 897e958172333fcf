"""FastAPI, Pydantic and redis.asyncio: the stack that this portal's users know.

`/api/sessions/batch` awaits one LPUSH a record, as the original did; `/tuned/sessions/batch` sends
one LPUSH for all of them, so that nobody can say that we beat a straw man.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from redis.asyncio import Redis

from tests.benchmarks.peers.envelopes import QUEUES, batch_receipt, envelope, receipt, utc_now
from tests.benchmarks.peers.models import Feedback, Session, Tutor

app = FastAPI()
store = Redis.from_url(os.environ["REDIS_URL"])


async def push(path: str, record: BaseModel) -> None:
    """Queue one record."""
    queue = QUEUES[path]
    await store.lpush(queue, envelope(record.model_dump(mode="json"), utc_now(), queue))


async def push_each(path: str, records: Sequence[BaseModel]) -> dict[str, Any]:
    """Queue many records, one push each."""
    for record in records:
        await push(path, record)
    return batch_receipt(len(records))


async def push_all(path: str, records: Sequence[BaseModel]) -> dict[str, Any]:
    """Queue many records, one push."""
    at, queue = utc_now(), QUEUES[path]
    messages = (envelope(record.model_dump(mode="json"), at, queue) for record in records)
    await store.lpush(queue, *messages)
    return batch_receipt(len(records))


@app.post("/api/sessions", status_code=201)
async def session(record: Session) -> dict[str, Any]:
    """One session."""
    await push("sessions", record)
    return receipt(record.session_id)


@app.post("/api/sessions/batch", status_code=201)
async def sessions(records: list[Session]) -> dict[str, Any]:
    """Many sessions."""
    return await push_each("sessions", records)


@app.post("/tuned/sessions/batch", status_code=201)
async def sessions_at_once(records: list[Session]) -> dict[str, Any]:
    """Many sessions, one push."""
    return await push_all("sessions", records)


@app.post("/api/tutors", status_code=201)
async def tutor(record: Tutor) -> dict[str, Any]:
    """One tutor profile."""
    await push("tutors", record)
    return receipt(record.tutor_id)


@app.post("/api/tutors/batch", status_code=201)
async def tutors(records: list[Tutor]) -> dict[str, Any]:
    """Many tutor profiles."""
    return await push_each("tutors", records)


@app.post("/api/feedback", status_code=201)
async def feedback(record: Feedback) -> dict[str, Any]:
    """One item of feedback."""
    await push("feedback", record)
    return receipt(record.feedback_id)


@app.post("/api/feedback/batch", status_code=201)
async def feedbacks(records: list[Feedback]) -> dict[str, Any]:
    """Many items of feedback."""
    return await push_each("feedback", records)
