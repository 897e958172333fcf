"""GET of health: how the portal is, whether it runs, whether it can take records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django_redis import get_redis_connection
from redis import Redis

from ingestion import embedded

HEALTH = ["status", "timestamp", "redis_connected", "version"]


@pytest.fixture
def own_store(settings: Any, tmp_path: Path) -> Iterator[tuple[Redis, Callable[[], None]]]:
    """A store of this test alone, which the portal uses, and how to stop it."""
    with ExitStack() as stack:
        url = stack.enter_context(embedded.running(tmp_path)).url
        settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": url}}
        stack.callback(lambda: get_redis_connection("default").connection_pool.disconnect())
        yield stack.enter_context(Redis.from_url(url)), stack.close


def test_it_works(client, store, settings):
    answer = client.get("/health")
    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == HEALTH
    assert body.pop("timestamp").endswith("Z")
    assert body == {"status": "healthy", "redis_connected": True, "version": settings.VERSION}


def test_it_is_ready_with_a_store_that_takes_records(client, store):
    answer = client.get("/health/ready")
    assert answer.status_code == 200
    body = answer.json()
    assert body.pop("timestamp").endswith("Z")
    assert body == {"ready": True, "reasons": []}
    assert "Retry-After" not in answer


def test_it_is_live_whatever_the_store_does(no_store, client):
    answer = client.get("/health/live")
    assert answer.status_code == 200
    assert answer.json()["live"] is True


def test_a_store_that_stops_makes_it_degraded_and_not_ready_with_the_reason(client, own_store):
    _, stop = own_store
    assert client.get("/health").json()["status"] == "healthy"
    assert client.get("/health/ready").status_code == 200
    stop()

    answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    assert answer.json()["redis_connected"] is False
    answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert int(answer["Retry-After"]) > 0
    assert answer.json()["ready"] is False
    assert answer.json()["reasons"] == ["store_unreachable"]


def test_a_store_that_comes_back_makes_it_healthy_again(client, own_store, tmp_path):
    _, stop = own_store
    stop()
    assert client.get("/health").json()["status"] == "degraded"
    with embedded.running(tmp_path):
        assert client.get("/health").json()["status"] == "healthy"
        assert client.get("/health/ready").status_code == 200


def test_a_store_that_became_a_replica_is_there_but_can_take_nothing(client, own_store):
    store, _ = own_store
    store.replicaof("127.0.0.1", 1)
    body = client.get("/health").json()
    assert (body["status"], body["redis_connected"]) == ("degraded", True)
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["store_read_only"])
