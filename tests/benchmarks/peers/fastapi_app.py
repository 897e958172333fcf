"""FastAPI, Pydantic and redis.asyncio: the stack that this portal's users know.

`/api/sessions/batch` awaits one LPUSH a record, as the original did; `/tuned/sessions/batch` sends
one LPUSH for all of them, so that nobody can say that we beat a straw man.
"""

from __future__ import annotations

import os

from fastapi import FastAPI
from redis.asyncio import Redis

from tests.benchmarks.peers.envelopes import QUEUE, batch_receipt, envelope, receipt, utc_now
from tests.benchmarks.peers.models import Session

app = FastAPI()
store = Redis.from_url(os.environ["REDIS_URL"])


@app.post("/api/sessions", status_code=201)
async def one(session: Session) -> dict[str, object]:
    """One record."""
    await store.lpush(QUEUE, envelope(session.model_dump(mode="json"), utc_now()))
    return receipt(session.session_id)


@app.post("/api/sessions/batch", status_code=201)
async def batch(sessions: list[Session]) -> dict[str, object]:
    """Many records, one push each."""
    for session in sessions:
        await store.lpush(QUEUE, envelope(session.model_dump(mode="json"), utc_now()))
    return batch_receipt(len(sessions))


@app.post("/tuned/sessions/batch", status_code=201)
async def tuned(sessions: list[Session]) -> dict[str, object]:
    """Many records, one push."""
    at = utc_now()
    await store.lpush(QUEUE, *(envelope(one.model_dump(mode="json"), at) for one in sessions))
    return batch_receipt(len(sessions))
