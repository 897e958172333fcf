"""The queue when the connection to its store is cut, or when the store is away, loads or hangs."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Event

import pytest
from django.core.cache import cache
from redis import Redis

from ingestion import embedded, queues
from ingestion.outcomes import Code, StoreError
from tests.store_faults import hung
from tests.test_queues import OTHER, QUEUE, depth, message, peek, refusal, taken


def push_in_the_end(message: bytes) -> list[Code]:
    """Push as soon as the store accepts it; returns the faults before that."""
    faults: list[Code] = []
    deadline = time.monotonic() + 120
    while True:
        try:
            queues.push(QUEUE, [message])
        except StoreError as fault:
            assert time.monotonic() < deadline, faults
            faults.append(fault.code)
            time.sleep(0.02)
        else:
            return faults


# --- A line that is cut ------------------------------------------------------------------------


def test_a_push_whose_answer_is_cut_off_is_on_the_queue_once_and_its_outcome_is_unknown(
    store, proxy
):
    queues.push(QUEUE, [b"1"])
    proxy.cuts = 5
    fault = refusal()
    assert (fault.code, fault.outcome_unknown) == (Code.STORE_ANSWER_LOST, True)
    assert fault.retry_after_seconds
    assert proxy.cuts == 4
    proxy.cuts = 0
    queues.push(QUEUE, [b"2"])
    assert depth(QUEUE) == 3
    assert taken(store) == [b"1", b"refused", b"2"]


def test_a_push_that_could_not_be_sent_is_known_not_to_be_on_the_queue(store, proxy):
    queues.push(QUEUE, [b"1"])
    store.script_flush()
    proxy.deaf = True  # "I do not know this script" is heard, and the script cannot be sent
    fault = refusal()
    assert (fault.code, fault.outcome_unknown) == (Code.STORE_UNREACHABLE, False)
    assert taken(store) == [b"1"]


def test_control_the_clients_own_push_through_the_same_line_is_there_more_than_once(store, proxy):
    proxy.cuts = 2
    with Redis(unix_socket_path=proxy.server_address) as client:
        client.lpush(QUEUE, b"once")
    assert proxy.cuts == 0
    assert taken(store) == [b"once"] * 3


def test_the_numbers_of_all_queues_cost_one_round_trip_whatever_their_depth(store, proxy):
    names = [QUEUE, OTHER, "tutormax:queue:feedbacks"]
    queues.summaries(names)  # now the connection exists
    talks = []
    for _ in range(2):
        for queue in names:
            store.lpush(queue, *[message(datetime.now(UTC))] * 3000)
        proxy.heard.clear()
        assert {one.depth for one in queues.summaries(names)} == {3000 * (len(talks) + 1)}
        talks.append(list(proxy.heard))
    assert [[speaker for speaker, _ in talk] for talk in talks] == [["client", "store"]] * 2
    assert talks[0] == talks[1]


# --- A store that goes away --------------------------------------------------------------------


@pytest.mark.processes
def test_a_store_that_was_away_is_used_again_without_a_restart(use_store, tmp_path):
    use_store(embedded.url(tmp_path))
    fault = refusal()
    assert (fault.code, fault.outcome_unknown) == (Code.STORE_UNREACHABLE, False)
    assert fault.retry_after_seconds
    with pytest.raises(StoreError):
        queues.summaries([QUEUE])
    assert queues.health().reasons == ("store_unreachable",)
    with embedded.running(tmp_path):
        queues.push(QUEUE, [b"1"])
        assert depth(QUEUE) == 1
        assert queues.health().reasons == ()
    with embedded.running(tmp_path):  # nobody noticed the outage
        queues.push(QUEUE, [b"2"])
        assert depth(QUEUE) == 2
    assert refusal().code is Code.STORE_UNREACHABLE
    with embedded.running(tmp_path) as store:
        queues.push(QUEUE, [b"3"])
        assert depth(QUEUE) == 3
        with Redis.from_url(store.url) as client:
            assert taken(client) == [b"1", b"2", b"3"]


@pytest.mark.processes
def test_a_store_that_still_loads_refuses_and_is_then_used_by_itself(use_store, tmp_path):
    use_store(embedded.url(tmp_path))
    with embedded.running(tmp_path) as store, Redis.from_url(store.url) as client:
        pipeline = client.pipeline(transaction=False)
        for number in range(8000):
            pipeline.lpush(QUEUE, number)
        pipeline.execute()
    done = Event()

    def run_slowly() -> None:
        with embedded.running(tmp_path, config={"key-load-delay": "100"}):
            assert done.wait(60)

    reasons = set()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run_slowly)
        try:
            while Code.STORE_LOADING.value not in reasons and not running.done():
                reasons |= set(queues.health().reasons)
            faults = push_in_the_end(b"last")
            assert peek(QUEUE, 1, newest_first=True) == [b"last"]
            assert queues.summaries([QUEUE])[0].depth == 8001
        finally:
            done.set()
        running.result()
    assert Code.STORE_LOADING.value in reasons
    assert set(faults) == {Code.STORE_LOADING}


def push(number: int) -> StoreError | None:
    """The fault with which this push is refused, if it is."""
    try:
        queues.push(QUEUE, [b"%d" % number])
    except StoreError as fault:
        return fault
    return None


@pytest.mark.processes
def test_the_circuit_breaker_opens_if_the_store_hangs_and_closes_by_itself(use_store, tmp_path):
    with embedded.running(tmp_path) as store, Redis.from_url(store.url) as client:
        use_store(store.url)
        queues.push(QUEUE, [b"before"])
        connections = client.info("stats")["total_connections_received"]
        with hung(store):
            first, second = push(1), push(2)
            reasons = queues.health().reasons
        assert first is not None
        assert (first.code, first.outcome_unknown) == (Code.STORE_ANSWER_LOST, True)
        assert second is not None
        assert (second.code, second.outcome_unknown) == (Code.STORE_UNREACHABLE, False)
        assert second.retry_after_seconds
        assert reasons == ("store_unreachable",)
        # Only the first one waited: the others did not try to connect.
        assert client.info("stats")["total_connections_received"] == connections
        push_in_the_end(b"after")
        assert taken(client) == [b"before", b"1", b"after"]


@pytest.mark.processes
def test_a_store_that_hangs_under_many_clients_refuses_each_and_loses_and_doubles_nothing(
    use_store, tmp_path
):
    clients = 20
    with embedded.running(tmp_path) as store, Redis.from_url(store.url) as client:
        use_store(store.url)
        queues.push(QUEUE, [b"before"])
        with hung(store), ThreadPoolExecutor(clients) as pool:
            faults = list(pool.map(push, range(clients)))
        push_in_the_end(b"after")
        found = taken(client)
    assert found[0] == b"before"
    assert found[-1] == b"after"
    for number, fault in enumerate(faults):
        assert fault is not None
        assert fault.code in (Code.STORE_ANSWER_LOST, Code.STORE_UNREACHABLE)
        assert found.count(b"%d" % number) <= int(fault.outcome_unknown)


def test_the_caches_of_libraries_do_not_use_the_store(store):
    cache.set("page-of-a-library", "with names on it")
    assert cache.get("page-of-a-library") == "with names on it"
    assert store.dbsize() == 0
