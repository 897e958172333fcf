"""The numbers of a queue for staff: history, causes of rejections, state of the store."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from ingestion import queues
from ingestion.queues import Durability
from ingestion.queues.keys import this_minute
from tests.record_types import TUTORS
from tests.test_queue_messages import KEYS, QUEUE, detail, noted_depth, push


def past(store, *, back, **numbers):
    """Write the numbers of the minute this many minutes ago."""
    hour, minute = divmod(int(time.time()) // 60 - back, 60)
    for name, value in numbers.items():
        store.hset(KEYS.counts(hour), f"{name}:{minute}", value)


def told(history, *, back):
    """What is known of the minute that began this many minutes ago."""
    at = datetime.fromtimestamp((int(time.time()) // 60 - back) * 60, UTC)
    (found,) = (one for one in history.minutes if one.begins_at == at)
    return found.accepted, found.taken, found.rejected, found.depth


@pytest.fixture
def _within_a_minute():
    """The test does not continue over the end of a minute."""
    if (second := datetime.now(UTC).second) > 50:
        time.sleep(60.1 - second)


@pytest.mark.usefixtures("_within_a_minute")
def test_the_history_tells_what_came_in_and_went_out_minute_by_minute(store):
    past(store, back=70, accepted=9, depth=9)  # before the hour: only its depth counts
    past(store, back=50, accepted=6, depth=10, rejected=2)
    past(store, back=49, depth=4)
    past(store, back=48, accepted=5, depth=2, taken_off=3)
    past(store, back=47, put_back=3, depth=5)
    push(*range(8))
    ((summary,), (history,)) = (
        (one := queues.overview([QUEUE], hours=1)).summaries,
        one.histories,
    )
    assert len(history.minutes) == 60
    assert history.minutes == tuple(sorted(history.minutes, key=lambda one: one.begins_at))
    assert told(history, back=50) == (6, None, 2, 10)
    assert told(history, back=49) == (0, 6, 0, 4)
    assert told(history, back=48) == (5, 4, 0, 2)
    assert told(history, back=47) == (0, 0, 0, 5)
    assert told(history, back=46) == (0, None, 0, None)
    # For the current minute, the present depth counts, and what left since the last known depth.
    assert told(history, back=0) == (8, 5, 0, 8) == (8, 5, 0, summary.depth)
    day = queues.overview([QUEUE], hours=24).histories[0]
    assert len(day.minutes) == 24 * 60
    assert told(day, back=50) == (6, 5, 2, 10)


@pytest.mark.usefixtures("_within_a_minute")
def test_a_sample_shows_what_consumers_take_while_nothing_comes_in(store):
    past(store, back=1, depth=5)
    push(1, 2, 3)
    store.rpop(QUEUE, 2)
    queues.sample_depths([QUEUE, TUTORS.queue])
    hour, minute = this_minute()
    assert store.hget(KEYS.counts(hour), f"depth:{minute}") == b"1"
    assert store.ttl(KEYS.counts(hour)) > 48 * 3600
    assert told(detail().history, back=0) == (3, 7, 0, 1)


def test_causes_of_the_last_24_hours_are_added_up_the_most_frequent_first(store):
    hour, _ = this_minute()
    store.hset(KEYS.causes(hour), mapping={"required": 2, "invalid_email": 1})
    store.hset(KEYS.causes(hour - 23), mapping={"invalid_email": 4})
    store.hset(KEYS.causes(hour - 24), mapping={"required": 100})
    causes = queues.overview([QUEUE], hours=1).histories[0].causes
    assert list(causes.items()) == [("invalid_email", 5), ("required", 2)]


@pytest.mark.parametrize(
    ("config", "durability"),
    [
        ({"appendonly": "yes", "appendfsync": "always"}, Durability.FSYNC),
        ({"appendonly": "yes", "appendfsync": "everysec"}, Durability.EVERY_SECOND),
        ({"appendonly": "yes", "appendfsync": "no"}, Durability.MEMORY),
        ({"appendonly": "no"}, Durability.MEMORY),
    ],
)
def test_the_store_says_how_durable_it_is(store, config, durability):
    before = store.config_get("append*")
    try:
        for name, value in config.items():
            store.config_set(name, value)
        assert detail().store.durability is durability
        assert queues.overview([QUEUE], hours=1).store.durability is durability
    finally:
        for name in ("appendfsync", "appendonly"):
            store.config_set(name, before[name])


def test_a_store_that_hides_its_configuration_says_less_and_answers_all_the_same(store):
    store.execute_command("ACL", "SETUSER", "default", "-config")
    try:
        found = detail()
    finally:
        store.execute_command("ACL", "SETUSER", "default", "+config")
    assert found.store.durability is Durability.UNKNOWN
    assert found.store.reasons == ()


def test_the_memory_of_the_store_is_told_with_its_limit(store):
    assert detail().store.max_memory_bytes is None
    store.config_set("maxmemory", 2**30)
    try:
        found = detail().store
    finally:
        store.config_set("maxmemory", 0)
    assert found.max_memory_bytes == 2**30
    assert 0 < found.used_memory_bytes < 2**30


def test_a_key_of_another_type_is_told_and_breaks_nothing(store):
    push(1)
    store.set(QUEUE, "not a list")
    found = detail()
    assert (found.summary.broken, found.summary.depth, found.messages) == (True, 0, ())
    (summary,) = queues.overview([QUEUE], hours=1).summaries
    assert summary.broken
    queues.sample_depths([QUEUE, TUTORS.queue])
    assert noted_depth(store) == 1  # the push noted it; the sample says nothing of it


def test_numbers_that_somebody_else_wrote_are_passed_over(store):
    push(1)
    hour, minute = this_minute()
    store.hset(KEYS.totals, mapping={"accepted": "many", b"\xff": 1})
    store.hset(KEYS.counts(hour), f"accepted:{minute}", "")
    store.set(KEYS.causes(hour), "no hash")
    for pause in ("by hand", "[" * 100_000, '{"a":' * 5000):
        store.set(KEYS.pause, pause)
        (summary,) = queues.overview([QUEUE], hours=1).summaries
        assert (summary.depth, summary.accepted) == (1, 0)
        assert summary.pause is not None
        assert summary.pause.reason == "set outside the portal"
