"""What all tests share: the embedded store, empty at the start of each test."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from redis import Redis

from ingestion import embedded
from ingestion.records import RECORD_TYPES, RecordType


@pytest.fixture(scope="session")
def _running_store() -> Iterator[str]:
    with embedded.running(settings.DATA_DIR) as running:
        yield running.url


@pytest.fixture
def store(_running_store: str) -> Iterator[Redis]:
    """The real store that the portal uses, emptied, as a plain client."""
    with Redis.from_url(_running_store) as client:
        client.flushall()
        yield client


@pytest.fixture(params=RECORD_TYPES.values(), ids=RECORD_TYPES)
def record_type(request: pytest.FixtureRequest) -> RecordType:
    """Each record type in turn."""
    kind: RecordType = request.param
    return kind


@pytest.fixture
def post(store: Redis, client: Client) -> Callable[..., Any]:
    """Post to the API: a value becomes JSON, bytes go as they are."""

    def send(path: str, body: Any, content_type: str = "application/json", **headers: str) -> Any:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        return client.post(path, payload, content_type=content_type, headers=headers)

    return send
