"""Stores of more than one machine: a replica that must confirm, Sentinels, a cluster."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from ingestion import consumer, queues
from ingestion.outcomes import Code, StoreError
from ingestion.queues import Durability, Once, Pause
from ingestion.records import RECORD_TYPES
from tests.store_servers import Cluster, Pair, Watched, servers, wait_for
from tests.test_queues import depth, refusal
from tutormax.store import store_alias

pytestmark = pytest.mark.processes

QUEUE = "tutormax:queue:sessions"
OTHER = "tutormax:queue:tutors"
QUEUES = [record_type.queue for record_type in RECORD_TYPES.values()]


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Any]]:
    with servers(tmp_path) as starting:
        yield starting


@pytest.fixture
def use(settings) -> Callable[..., None]:
    """Makes the portal use this store until the test ends."""

    def take(url: str, **how: Any) -> None:
        how = {"sentinels": (), "sentinel_password": "", "cluster": False, **how}
        alias = store_alias(url, max_connections=10, **how)
        settings.CACHES = {**settings.CACHES, "store": alias}

    return take


def once(request: str = "a") -> Once:
    """What makes a push repeatable."""
    return Once(request=request, fingerprint="f", answer=b"the first", ttl_seconds=60)


def in_the_end(call: Callable[[], Any]) -> Any:
    """The result of `call` as soon as the store accepts it."""
    found: list[Any] = []

    def tried() -> bool:
        try:
            found.append(call())
        except StoreError:
            return False
        return True

    wait_for(tried)
    return found[0]


# --- A replica that must confirm ---------------------------------------------------------------


@pytest.fixture
def pair(start, use, settings) -> Pair:
    """A primary and a replica; every acknowledged record is on the disks of both."""
    found = Pair(start)
    use(found.url)
    settings.INGESTION_DURABILITY = "replicated"
    return found


def test_what_is_acknowledged_is_on_the_disk_of_the_replica(pair):
    queues.push(QUEUE, [b"1"])
    pair.primary.kill()
    pair.replica.kill()
    pair.replica.start()  # alone: it has what its disk had
    assert pair.replica.client.lrange(QUEUE, 0, -1) == [b"1"]


def test_control_without_the_promise_no_replica_is_waited_for(pair, settings):
    settings.INGESTION_DURABILITY = "fsync"
    pair.replica.kill()
    queues.push(QUEUE, [b"1"])
    pair.primary.kill()
    pair.replica.start()
    assert not pair.replica.client.exists(QUEUE)


def test_a_push_that_no_replica_confirms_is_unknown_and_settled_by_its_repetition(pair, use):
    os.kill(pair.replica.process.pid, signal.SIGSTOP)
    # A replayed answer is no better than the push was, also from another process of the portal.
    for url in (pair.url, pair.url.replace("127.0.0.1", "localhost")):
        use(url)
        with pytest.raises(StoreError) as caught:
            queues.push(QUEUE, [b"1"], once=once())
        assert caught.value.code is Code.STORE_NOT_REPLICATED
        assert caught.value.outcome_unknown
        assert caught.value.retry_after_seconds
        # For a moment no other push is made, which would wait as long, and be doubtful as well.
        fault = refusal(QUEUE)
        assert (fault.code, fault.outcome_unknown) == (Code.STORE_READ_ONLY, False)
    os.kill(pair.replica.process.pid, signal.SIGCONT)
    settled = in_the_end(lambda: queues.push(QUEUE, [b"1"], once=once()))
    assert settled.answer == b"the first"
    assert pair.primary.client.lrange(QUEUE, 0, -1) == [b"1"]
    assert pair.replica.client.lrange(QUEUE, 0, -1) == [b"1"]


def test_what_is_refused_waits_for_no_replica(pair):
    pair.replica.kill()
    queues.pause_queue(QUEUE, Pause(reason="r", by="b", since=datetime.now(UTC)))
    assert refusal(QUEUE).code is Code.QUEUE_PAUSED


def test_a_store_that_wants_a_replica_itself_refuses_at_once_and_keeps_nothing(pair):
    pair.primary.client.config_set("min-replicas-to-write", 1)
    pair.replica.kill()
    wait_for(lambda: not pair.primary.client.info("replication")["connected_slaves"])
    fault = refusal(QUEUE)
    assert (fault.code, fault.outcome_unknown) == (Code.STORE_READ_ONLY, False)
    assert not pair.primary.client.keys()
    assert queues.health().reasons == ("store_read_only",)


def test_a_store_without_a_file_never_confirms(pair):
    pair.primary.client.config_set("appendonly", "no")
    fault = refusal(QUEUE)
    assert (fault.code, fault.outcome_unknown) == (Code.STORE_NOT_REPLICATED, True)
    assert pair.primary.client.llen(QUEUE) == 1


def test_a_replica_that_has_gone_silent_is_none(pair):
    os.kill(pair.replica.process.pid, signal.SIGSTOP)
    wait_for(lambda: queues.health().durability is Durability.FSYNC)
    assert pair.primary.client.info("replication")["connected_slaves"] == 1
    os.kill(pair.replica.process.pid, signal.SIGCONT)
    wait_for(lambda: queues.health().durability is Durability.REPLICATED)


def test_readiness_tells_whether_there_is_a_replica(pair):
    well = queues.health()
    assert (well.durability, well.breaches) == (Durability.REPLICATED, ())
    pair.replica.kill()
    wait_for(lambda: queues.health().durability is Durability.FSYNC)
    (breach,) = queues.health().breaches
    assert breach.word == "durability_fsync"
    assert "Start one" in breach.sentence


# --- Sentinels ---------------------------------------------------------------------------------


def test_when_the_sentinels_name_another_primary_it_is_used_without_a_restart(start, use):
    watched = Watched(start)
    use(watched.url, sentinels=watched.sentinels)
    for number in (1, 2, 3):
        in_the_end(partial(queues.push, QUEUE, [b"%d" % number]))
        assert watched.primary.client.llen(QUEUE) == depth(QUEUE) == number
        wait_for(lambda: watched.replica.client.llen(QUEUE) == number)  # noqa: B023
        watched.fail_over()
    assert watched.primary.client.lrange(QUEUE, 0, -1) == [b"3", b"2", b"1"]


def test_an_answer_that_comes_too_late_is_never_taken_for_that_of_the_next_push(start, use):
    watched = Watched(start)
    use(watched.url, sentinels=watched.sentinels)
    queues.pause_queue(OTHER, Pause(reason="r", by="b", since=datetime.now(UTC)))
    os.kill(watched.primary.process.pid, signal.SIGSTOP)
    assert refusal(QUEUE).code is Code.STORE_ANSWER_LOST
    time.sleep(1.1)  # so long a store that was silent is left alone
    waking = threading.Timer(0.3, os.kill, (watched.primary.process.pid, signal.SIGCONT))
    waking.start()
    try:
        assert refusal(OTHER).code in (Code.QUEUE_PAUSED, Code.STORE_UNREACHABLE)
    finally:
        waking.join()


def test_a_primary_may_have_any_name_and_an_address_with_tls(start, use):
    watched = Watched(start, name="My_Main")
    use("redis://:any@My_Main/0", sentinels=watched.sentinels)
    queues.push(QUEUE, [b"1"])
    assert watched.primary.client.llen(QUEUE) == 1
    use("rediss://My_Main/0", sentinels=watched.sentinels)
    assert refusal(QUEUE).code is Code.STORE_UNREACHABLE  # these stores have no TLS


def test_a_primary_that_was_made_a_replica_has_refused_and_that_is_told(start, use):
    watched = Watched(start)
    use(watched.url, sentinels=watched.sentinels)
    queues.push(QUEUE, [b"1"])
    watched.primary.client.replicaof("127.0.0.1", 1)  # nobody is there
    fault = refusal(QUEUE)
    assert (fault.code, fault.outcome_unknown) == (Code.STORE_READ_ONLY, False)


def test_while_no_sentinel_answers_the_store_is_away(start, use):
    watched = Watched(start)
    use(watched.url, sentinels=[("127.0.0.1", 1)])
    fault = refusal(QUEUE)
    assert (fault.code, fault.outcome_unknown) == (Code.STORE_UNREACHABLE, False)
    assert queues.health().reasons == ("store_unreachable",)


# --- A cluster ---------------------------------------------------------------------------------


@pytest.fixture
def cluster(start, use) -> Cluster:
    found = Cluster(start)
    use(found.url, cluster=True)
    return found


def test_the_queues_of_a_cluster_lie_on_their_nodes_and_are_read_together(cluster):
    owners = {queue: cluster.owner(queue) for queue in QUEUES}
    assert len({owner.port for owner in owners.values()}) == 3
    for number, queue in enumerate(QUEUES, 1):
        queues.push(queue, [b"m"] * number, rejected=number)
        assert owners[queue].client.llen(queue) == number
    assert [one.depth for one in queues.summaries(QUEUES)] == [1, 2, 3]
    overview = queues.overview(QUEUES, hours=1)
    assert [one.rejected for one in overview.summaries] == [1, 2, 3]
    assert overview.store.durability is Durability.FSYNC
    queues.sample_depths(QUEUES)
    assert queues.rejections(QUEUES) == []
    assert queues.charge("client", 5, per_minute=100).left == 95


def test_consumers_of_a_cluster_claim_and_acknowledge(cluster):
    for queue in QUEUES:
        queues.push(queue, [b"1", b"2"])
        with consumer.Consumer(queue) as one:
            claim = one.claim(2)
            assert [message.raw for message in claim.messages] == [b"1", b"2"]
            (seen,) = queues.consumption([queue])
            assert seen.in_flight == 2
            assert one.acknowledge([b"1", b"2"]) == 2
            assert one.claim().messages == ()
    assert [one.depth for one in queues.summaries(QUEUES)] == [0, 0, 0]


def test_a_cluster_is_as_durable_as_its_weakest_node(cluster):
    cluster.primaries[1].client.config_set("appendfsync", "everysec")
    health = queues.health()
    assert health.durability is Durability.EVERY_SECOND
    assert [breach.word for breach in health.breaches] == ["durability_everysec"]


def test_while_a_node_is_away_the_other_queues_go_on_and_its_own_comes_back_by_itself(cluster):
    for queue in QUEUES:
        queues.push(queue, [b"1"])
    lost = cluster.owner(QUEUE)
    lost.kill()
    fault = refusal(QUEUE)
    assert fault.code in (Code.STORE_UNREACHABLE, Code.STORE_ANSWER_LOST)
    for queue in QUEUES:
        if queue != QUEUE:
            queues.push(queue, [b"2"])
    cluster.replace(lost)
    in_the_end(lambda: queues.push(QUEUE, [b"2"]))
    in_the_end(lambda: queues.summaries(QUEUES))
    assert cluster.owner(QUEUE).client.lrange(QUEUE, 0, -1)[-1] == b"1"


def test_a_queue_that_moves_to_another_node_is_found_there(cluster):
    queues.push(QUEUE, [b"1"])
    old = cluster.owner(QUEUE)
    new = next(one for one in cluster.primaries if one is not old)
    slot = old.client.execute_command("CLUSTER KEYSLOT", QUEUE)
    names = {one: one.client.execute_command("CLUSTER MYID").decode() for one in (old, new)}
    new.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", names[old])
    old.client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", names[new])
    keys = old.client.execute_command("CLUSTER GETKEYSINSLOT", slot, 100)
    old.client.execute_command("MIGRATE", "127.0.0.1", new.port, "", 0, 5000, "KEYS", *keys)
    # Half-way it is told to come back later, and nothing is queued.
    fault = refusal(QUEUE)
    assert (fault.code, fault.outcome_unknown) == (Code.STORE_UNREACHABLE, False)
    for one in (new, old):
        one.client.execute_command("CLUSTER SETSLOT", slot, "NODE", names[new])
    in_the_end(lambda: queues.push(QUEUE, [b"2"]))
    assert new.client.lrange(QUEUE, 0, -1) == [b"2", b"1"]


def test_a_node_that_hangs_keeps_no_other_queue(cluster):
    for queue in QUEUES:
        queues.push(queue, [b"1"])
    hung = cluster.owner(QUEUE)
    os.kill(hung.process.pid, signal.SIGSTOP)
    try:
        fault = refusal(QUEUE)
        others = [queues.push(queue, [b"2"]) for queue in QUEUES if queue != QUEUE]
        cluster.replace(hung)
        in_the_end(lambda: queues.push(QUEUE, [b"3"]))
    finally:
        os.kill(hung.process.pid, signal.SIGCONT)
    assert (fault.code, fault.outcome_unknown) == (Code.STORE_ANSWER_LOST, True)
    assert len(others) == 2
