"""The consumers of a queue, as people see them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from ingestion import queues
from ingestion.consumer import Consumer
from ingestion.queues import consumption
from tests.store_faults import Proxy
from tests.test_consumer import KEYS, OTHER, QUEUE, bury, claimed, fill


def test_people_see_who_consumes_and_what_is_in_flight(store):
    began = datetime.now(UTC) - timedelta(seconds=1)
    bury(b"dead")
    fill(b"1", b"2", b"3")
    with Consumer(QUEUE) as one, Consumer(QUEUE) as other:
        claimed(one, 2)
        first, second = consumption([OTHER, QUEUE])
        ended = datetime.now(UTC) + timedelta(seconds=1)
        assert (first.queue, first.consumers, first.in_flight, first.dead) == (OTHER, (), 0, 0)
        assert (second.queue, second.in_flight, second.dead) == (QUEUE, 2, 1)
        seen = {found.name: found for found in second.consumers}
        assert seen.keys() == {one.name, other.name}
        assert (seen[one.name].in_flight, seen[other.name].in_flight) == (2, 0)
        for found in seen.values():
            assert found.alive
            assert f"{found.host}:{found.pid}:" in found.name
            assert found.since is not None
            assert found.last_heartbeat_at is not None
            assert began <= found.since <= ended
            assert began <= found.last_heartbeat_at <= ended


def test_the_consumers_of_all_queues_cost_one_round_trip(store, proxy: Proxy):
    bury(b"dead")
    fill(*(b"%d" % number for number in range(50)))
    with Consumer(QUEUE) as one, Consumer(QUEUE):
        claimed(one, 50)
        proxy.heard.clear()
        assert [found.in_flight for found in consumption([QUEUE, OTHER])] == [50, 0]
        assert [speaker for speaker, _ in proxy.heard] == ["client", "store"]


def test_messages_in_hand_count_as_taken_until_they_come_back(store):
    fill(b"1", b"2", b"3")

    def taken() -> int:
        return queues.summaries([QUEUE])[0].taken

    with Consumer(QUEUE) as consumer:
        claimed(consumer, 2)
        assert taken() == 2
        consumer.acknowledge([b"1"])
        consumer.give_back()
        assert taken() == 1


def test_a_consumer_that_says_what_no_one_can_read_is_listed_by_its_name(store):
    store.zadd(KEYS.leases, {"odd": 1})
    store.hset(KEYS.consumers, "odd", '{"a":' * 5000)
    (seen,) = consumption([QUEUE])[0].consumers
    assert (seen.name, seen.host) == ("odd", None)


@pytest.mark.parametrize("lease_ends", [2**53, 1.7e15, float("inf"), -(2.0**60)])
@pytest.mark.parametrize("lease_seconds", [30.0, 1e300])
def test_a_lease_that_is_no_time_hides_nobody(store, lease_ends, lease_seconds):
    says = {"host": "h", "pid": 1, "since": "2024-05-14T10:00:00Z", "lease_seconds": lease_seconds}
    store.zadd(KEYS.leases, {"odd": lease_ends})
    store.hset(KEYS.consumers, "odd", json.dumps(says))
    (seen,) = consumption([QUEUE])[0].consumers
    assert (seen.name, seen.last_heartbeat_at) == ("odd", None)
