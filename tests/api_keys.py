"""Keys of API clients, for tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ingestion import api_keys
from ingestion.api_keys import SCOPES, known_keys


@pytest.fixture
def fresh_keys(db: None) -> Iterator[None]:
    """Keys as a new process knows them: none yet."""
    known_keys.__init__()  # type: ignore[misc]
    yield
    known_keys.__init__()  # type: ignore[misc]


def key_of(name: str = "scheduler", scopes: tuple[str, ...] = tuple(SCOPES), days: int = 90) -> str:
    """The text of the key of a new client."""
    _, text = api_keys.create(name, scopes, days=days)
    return text


def header(key: str) -> dict[str, str]:
    """The header as an entry of the WSGI environment."""
    return {"HTTP_AUTHORIZATION": f"Api-Key {key}"}
