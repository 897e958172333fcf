"""The store's machine is lost and a replica takes its place, with Sentinels or in a cluster.

Just before, the replica has heard nothing for a moment: records that only the primary acknowledged
are gone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import uniform

import pytest

from tests.faults.figures import Outcome, count, in_long_form
from tests.faults.sending import Senders, settle
from tests.portal_process import running_portal
from tests.record_types import TUTORS
from tests.store_servers import Cluster, Server, Watched, servers

FAILOVERS = count(short=1, long=10)
CLIENTS = 8


def failed_over(
    folder: Path,
    fail_over: Callable[[float], None],
    primary: Callable[[], Server],
    **environment: str,
) -> Outcome:
    """Take the primary away again and again while clients send."""
    with (
        running_portal(folder / "var", **environment) as portal,
        Senders(portal.address, clients=CLIENTS) as sent,
    ):
        for _ in range(FAILOVERS):
            portal.wait_for(sent.more_acknowledged(50))
            fail_over(uniform(0.05, 0.3))
        portal.wait_for(sent.more_acknowledged(50))
        sent.stop()
        url = f"redis://127.0.0.1:{primary().port}/0"
        return settle(url, sent.acknowledged, trials=FAILOVERS)


def by_sentinels(folder: Path, promise: str) -> Outcome:
    """The campaign with three Sentinels."""
    with servers(folder) as start:
        watched = Watched(start)
        return failed_over(
            folder,
            lambda lag: watched.fail_over(lag_seconds=lag),
            lambda: watched.primary,
            REDIS_URL=watched.url,
            REDIS_SENTINELS=",".join(f"{host}:{port}" for host, port in watched.sentinels),
            INGESTION_DURABILITY=promise,
        )


def in_a_cluster(folder: Path, promise: str) -> Outcome:
    """The campaign with a cluster."""
    with servers(folder) as start:
        cluster = Cluster(start)
        return failed_over(
            folder,
            lambda lag: cluster.fail_over(TUTORS.queue, lag_seconds=lag),
            lambda: cluster.owner(TUTORS.queue),
            REDIS_URL=cluster.url,
            REDIS_CLUSTER="true",
            INGESTION_DURABILITY=promise,
        )


KINDS = pytest.mark.parametrize(
    ("number", "fault", "campaign"),
    [
        ("R8", "Sentinels make a replica the primary", by_sentinels),
        ("R8 (cluster)", "a replica in a cluster takes its primary's place", in_a_cluster),
    ],
    ids=["sentinels", "cluster"],
)


@KINDS
@pytest.mark.timeout(300 + 20 * FAILOVERS)
def test_what_a_replica_confirmed_survives_every_failover_once(
    tmp_path, figures, number, fault, campaign
):
    outcome = campaign(tmp_path, "replicated")
    figures.add(number, fault, outcome, remark="INGESTION_DURABILITY=replicated")
    assert outcome.acknowledged >= 50 * FAILOVERS
    assert (outcome.lost, outcome.doubled) == (0, 0)


@in_long_form
@KINDS
@pytest.mark.timeout(300 + 20 * FAILOVERS)
def test_control_what_no_replica_confirmed_is_lost(tmp_path, figures, number, fault, campaign):
    outcome = campaign(tmp_path, "fsync")
    figures.add_control(number, "with the promise fsync", outcome)
    assert outcome.lost > 0
