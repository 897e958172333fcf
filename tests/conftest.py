"""What all tests share: the embedded store, empty at the start of each test."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from redis import Redis
from structlog.stdlib import ProcessorFormatter

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


@pytest.fixture
def no_store(settings: Any, tmp_path: Path) -> None:
    """The portal with a store that is not there."""
    nowhere = f"unix://{tmp_path}/no.sock"
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": nowhere}}


@pytest.fixture
def log() -> Iterator[Callable[[], list[str]]]:
    """Gives the lines that the test has written to the log so far, as an operator reads them."""
    root = logging.getLogger()
    (console,) = (h for h in root.handlers if isinstance(h.formatter, ProcessorFormatter))
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(console.formatter)
    root.addHandler(handler)
    yield lambda: written.getvalue().splitlines()
    root.removeHandler(handler)


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
        # `client.post` would encode the text anew, in the charset that the content type names.
        return client.generic("POST", path, payload, content_type=content_type, headers=headers)

    return send
