"""GET of health: how the portal is, whether it runs, and whether it can take records."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django_redis import get_redis_connection
from redis import Redis

from ingestion import embedded
from ingestion.queues import Durability
from ingestion.queues.health import read_store
from ingestion.records import RECORD_TYPES
from tests import store_address

HEALTH = ["status", "timestamp", "redis_connected", "version", "reasons"]


@pytest.fixture
def own_store(settings: Any, tmp_path: Path) -> Iterator[tuple[Redis, Callable[[], None]]]:
    """A store for this test only, which the portal uses, and a function that stops it."""
    with ExitStack() as stack:
        url = stack.enter_context(embedded.running(tmp_path)).url
        store_address.use(settings, url)
        stack.callback(lambda: get_redis_connection("store").connection_pool.disconnect())
        yield stack.enter_context(Redis.from_url(url)), stack.close


def test_it_works(client, store, settings):
    answer = client.get("/health")
    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == HEALTH
    assert body.pop("timestamp").endswith("Z")
    assert body == {
        "status": "healthy",
        "redis_connected": True,
        "version": settings.VERSION,
        "reasons": [],
    }


def test_it_is_ready_with_a_store_that_takes_records(client, store):
    answer = client.get("/health/ready")
    assert answer.status_code == 200
    body = answer.json()
    assert body.pop("timestamp").endswith("Z")
    assert body == {"ready": True, "reasons": [], "durability": "fsync"}
    assert "Retry-After" not in answer


def test_it_is_live_whatever_the_store_does(no_store, client):
    answer = client.get("/health/live")
    assert answer.status_code == 200
    assert answer.json()["live"] is True


@pytest.mark.processes
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


@pytest.mark.processes
def test_a_store_that_comes_back_makes_it_healthy_again(client, own_store, tmp_path):
    _, stop = own_store
    stop()
    assert client.get("/health").json()["status"] == "degraded"
    with embedded.running(tmp_path):
        assert client.get("/health").json()["status"] == "healthy"
        assert client.get("/health/ready").status_code == 200


@pytest.mark.processes
def test_a_store_that_became_a_replica_is_there_but_can_take_nothing(client, own_store):
    store, _ = own_store
    store.replicaof("127.0.0.1", 1)
    body = client.get("/health").json()
    assert (body["status"], body["redis_connected"]) == ("degraded", True)
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["store_read_only"])


# --- The promise -------------------------------------------------------------------------------

DOCUMENT = Path(__file__).parent.parent / "docs" / "durability.md"
TUTOR = dict(RECORD_TYPES["tutors"].serializer_class.example)
# The durability that a configuration of the store gives, and why it is not enough.
TOO_WEAK = [
    ({"appendfsync": "everysec"}, "everysec", "durability_everysec"),
    ({"appendfsync": "no"}, "memory", "durability_memory"),
    ({"appendonly": "no"}, "memory", "durability_memory"),
    ({"no-appendfsync-on-rewrite": "yes"}, "fsync", "no_fsync_on_rewrite"),
    ({"maxmemory-policy": "allkeys-lru"}, "fsync", "evicts_keys"),
    ({"maxmemory-policy": "volatile-ttl"}, "fsync", "evicts_keys"),
]


@contextmanager
def configured(store: Redis, config: dict[str, str]) -> Iterator[None]:
    """The store with this configuration; afterwards it has its own again."""
    before = {name: store.config_get(name)[name] for name in config}
    for name, value in config.items():
        store.config_set(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            store.config_set(name, value)
        _wait_until_idle(store)  # a store that begins its append-only file does not end


def words(answer: Any) -> list[str]:
    """The words with which the reasons of an answer begin."""
    return [reason.partition(":")[0] for reason in answer.json()["reasons"]]


@pytest.mark.parametrize(("config", "durability", "word"), TOO_WEAK)
def test_a_store_that_would_break_the_promise_is_not_ready_and_says_what_to_do(
    client, store, post, config, durability, word
):
    with configured(store, config):
        answer = client.get("/health/ready")
        assert answer.status_code == 503
        assert int(answer["Retry-After"]) > 0
        assert answer.json()["durability"] == durability
        assert words(answer) == [word]
        assert re.search(r": The store .+\. Set .+\.$", answer.json()["reasons"][0])
        body = client.get("/health").json()
        assert (body["status"], body["redis_connected"]) == ("degraded", True)
        # It is only a warning to the operator: records are still accepted.
        assert post("/api/tutors", TUTOR).status_code == 201
    assert client.get("/health/ready").status_code == 200


@pytest.mark.parametrize(
    ("config", "promise"),
    [
        ({}, "everysec"),
        ({"appendfsync": "everysec"}, "everysec"),
        ({"appendfsync": "everysec"}, "unknown"),
        ({"appendfsync": "no"}, "memory"),
        ({"appendonly": "no", "no-appendfsync-on-rewrite": "yes"}, "memory"),
    ],
)
def test_a_lower_promise_is_ready_with_a_weaker_store(client, store, settings, config, promise):
    settings.INGESTION_DURABILITY = promise
    with configured(store, config):
        assert client.get("/health/ready").status_code == 200


@pytest.mark.parametrize("promise", ["memory", "unknown", "everysec", "fsync"])
def test_no_promise_allows_a_store_that_drops_records(client, store, settings, promise):
    settings.INGESTION_DURABILITY = promise
    with configured(store, {"maxmemory-policy": "allkeys-random"}):
        assert words(client.get("/health/ready")) == ["evicts_keys"]


def test_a_store_that_hides_its_configuration_is_ready_only_if_that_is_accepted(
    client, store, settings
):
    store.execute_command("ACL", "SETUSER", "default", "-config")
    try:
        refused = client.get("/health/ready")
        settings.INGESTION_DURABILITY = "unknown"
        accepted = client.get("/health/ready")
    finally:
        store.execute_command("ACL", "SETUSER", "default", "+config")
    assert (refused.status_code, words(refused)) == (503, ["durability_unknown"])
    assert (accepted.status_code, accepted.json()["durability"]) == (200, "unknown")


@pytest.mark.processes
def test_a_snapshot_that_could_not_be_written_is_told_until_one_is(client, own_store, tmp_path):
    store, _ = own_store
    in_the_way = tmp_path / "dump.rdb"
    (in_the_way / "x").mkdir(parents=True)
    assert words(_after_a_snapshot(client, store)) == ["snapshot_failed"]
    (in_the_way / "x").rmdir()
    in_the_way.rmdir()
    assert words(_after_a_snapshot(client, store)) == []


def _after_a_snapshot(client: Any, store: Redis) -> Any:
    store.bgsave()
    _wait_until_idle(store)
    return client.get("/health/ready")


def _wait_until_idle(store: Redis) -> None:
    """Return once the store writes neither a snapshot nor its rewritten file."""
    states = ("rdb_bgsave_in_progress", "aof_rewrite_in_progress", "aof_rewrite_scheduled")
    deadline = time.monotonic() + 120
    while any(map(store.info("persistence").get, states)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_append_only_file_that_could_not_be_written_is_told(store):
    info = store.info() | {"aof_last_write_status": "err"}
    health = read_store(iter([info, store.config_get("*append*")]))
    assert [breach.word for breach in health.breaches] == ["append_only_file_failed"]


def test_every_reason_is_documented_with_what_to_do(store):
    bad = {
        "maxmemory_policy": "allkeys-lru",
        "aof_last_write_status": "err",
        "rdb_last_bgsave_status": "err",
    }
    on_rewrite = {"no-appendfsync-on-rewrite": "yes"}
    found = {
        breach.word: breach.sentence
        for appends in ({"appendonly": "no"}, {"appendfsync": "everysec"}, {})
        for breach in read_store(iter([bad, {"appendonly": "yes"} | on_rewrite | appends])).breaches
    }
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", DOCUMENT.read_text(), re.MULTILINE)
    told = {word: re.sub("`", "", sentence) for word, sentence in rows}
    assert {word: told.get(word) for word in found} == found
    assert len(found) == 7


def test_every_durability_is_documented():
    text = DOCUMENT.read_text()
    assert [word for word in Durability if f"| `{word}` |" not in text] == []
