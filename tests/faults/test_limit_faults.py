"""More messages than a queue may hold, and more records than a client may send."""

from __future__ import annotations

import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import urllib3

from tests.faults.figures import Figures, Outcome, count, in_long_form
from tests.faults.site import Site, at_once, outcome, running_site, tutor
from tests.record_types import TUTORS

# --- B1: a queue at its limit -------------------------------------------------------------------

LIMIT = 1000
BATCH = 50
THREADS = 16
RUSHES = count(short=10, long=200)


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("limited")
    with running_site(folder, QUEUE_LIMIT=str(LIMIT)) as site:
        yield site


@dataclass(frozen=True, kw_only=True, slots=True)
class Rush:
    """The result for batches that came at once when there was room for a few.

    `refused` batches were turned away; `strays` are their records that are on the queue anyway.
    `deepest` is the largest depth of the queue, and `beyond` how often the depth was greater than
    the limit and one batch.
    """

    outcome: Outcome
    refused: int
    strays: int
    deepest: int
    beyond: int


def rush(site: Site, push: Callable[[list[str]], bool]) -> Rush:
    """Batches from `THREADS` threads at once, again and again, for a queue that is almost full.

    `push` puts records with these ids on the queue, or says that there is no room. Nobody takes
    messages meanwhile, so the queue is deepest at the end of each round.
    """
    site.store.flushall()
    taken: list[str] = []
    refused: list[str] = []
    found: Counter[str] = Counter()
    depths = []

    def send(size: int) -> None:
        batch = [uuid.uuid4().hex for _ in range(size)]
        (taken if push(batch) else refused).extend(batch)

    for _ in range(RUSHES):
        send(LIMIT - random.randint(1, 2 * BATCH))
        at_once([partial(send, BATCH)] * THREADS)
        depths.append(site.store.llen(TUTORS.queue))
        found += site.names()
    return Rush(
        outcome=outcome(RUSHES * THREADS, taken, found),
        refused=len(refused) // BATCH,
        strays=sum(name in found for name in refused),
        deepest=max(depths),
        beyond=sum(depth > LIMIT + BATCH for depth in depths),
    )


def test_a_queue_at_its_limit_never_takes_more_than_one_batch_beyond_it(
    limited: Site, figures: Figures
) -> None:
    pool = urllib3.PoolManager(retries=False, timeout=30, maxsize=THREADS)

    def push(names: list[str]) -> bool:
        address = f"{limited.portal.address}/api/tutors/batch"
        answer = pool.request("POST", address, json=[tutor(name) for name in names])
        if answer.status == 201:
            return True
        assert (answer.status, answer.json()["code"]) == (503, "queue_full"), answer.data
        assert int(answer.headers["Retry-After"]) > 0
        return False

    found = rush(limited, push)
    figures.add(
        "B1",
        f"batches of {BATCH} from {THREADS} threads at once at a queue almost at its limit",
        found.outcome,
        remark=f"{found.refused:,} batches refused, of which {found.strays} records are on the "
        f"queue; at most {found.deepest:,} messages at a limit of {LIMIT:,}",
    )
    assert found.refused > 0
    assert found.strays == 0
    assert found.beyond == 0
    assert (found.outcome.lost, found.outcome.doubled) == (0, 0)


def message(name: str) -> str:
    return f'{{"data": {{"tutor_id": "{name}"}}}}'


def test_control_a_check_before_the_push_lets_the_queue_grow_beyond_its_limit(
    limited: Site, figures: Figures
) -> None:
    def push(names: list[str]) -> bool:
        if limited.store.llen(TUTORS.queue) >= LIMIT:
            return False
        limited.store.lpush(TUTORS.queue, *map(message, names))
        return True

    found = rush(limited, push)
    figures.add_control(
        "B1",
        f"with LLEN before LPUSH: in {found.beyond} of {RUSHES} rounds more than a batch beyond "
        f"the limit, at most {found.deepest:,} messages",
    )
    assert found.beyond > 0


def test_control_a_list_that_is_cut_to_its_limit_loses_what_was_taken(
    limited: Site, figures: Figures
) -> None:
    def push(names: list[str]) -> bool:
        limited.store.lpush(TUTORS.queue, *map(message, names))
        limited.store.ltrim(TUTORS.queue, 0, LIMIT - 1)
        return True

    found = rush(limited, push)
    figures.add_control("B1", "with LPUSH and LTRIM", found.outcome)
    assert found.outcome.lost > 0


# --- B2: a client over its quota ----------------------------------------------------------------

PER_MINUTE = 60
NEIGHBOUR_SENDS = count(short=20, long=PER_MINUTE)
GREEDY_THREADS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Crowd:
    """The answers to a client that sends all it can, and to its neighbour that sends a little."""

    outcome: Outcome
    greedy: Counter[int]
    neighbour: Counter[int]


def crowd(folder: Path, *, apart: bool) -> Crowd:
    """A client sends without a pause; its neighbour begins once the client is over its quota.

    Unless they are kept `apart`, the portal knows both by the same name.
    """
    greedy: list[int] = []
    neighbour: list[int] = []
    taken: list[str] = []
    over, done = threading.Event(), threading.Event()
    pool = urllib3.PoolManager(retries=False, timeout=30, maxsize=GREEDY_THREADS + 1)
    with running_site(folder, CLIENT_RECORDS_PER_MINUTE=str(PER_MINUTE)) as site:
        greedy_key = site.key_of("greedy")
        neighbour_key = site.key_of("neighbour") if apart else greedy_key

        def send(key: dict[str, str], statuses: list[int]) -> None:
            record = tutor()
            address = f"{site.portal.address}/api/tutors"
            answer = pool.request("POST", address, json=record, headers=key)
            statuses.append(answer.status)
            if answer.status == 201:
                taken.append(record["tutor_id"])
            else:
                assert int(answer.headers["Retry-After"]) > 0
                over.set()

        def send_without_a_pause() -> None:
            while not done.is_set():
                send(greedy_key, greedy)

        def send_a_little() -> None:
            try:
                assert over.wait(60)
                for _ in range(NEIGHBOUR_SENDS):
                    send(neighbour_key, neighbour)
            finally:
                done.set()

        at_once([send_a_little, *[send_without_a_pause] * GREEDY_THREADS])
        return Crowd(
            outcome=outcome(greedy.count(429), taken, site.names()),
            greedy=Counter(greedy),
            neighbour=Counter(neighbour),
        )


def test_a_client_over_its_quota_is_refused_alone(tmp_path: Path, figures: Figures) -> None:
    found = crowd(tmp_path, apart=True)
    figures.add(
        "B2",
        f"a client over its quota sends on without a pause, in {GREEDY_THREADS} threads",
        found.outcome,
        remark=f"of its neighbour's {NEIGHBOUR_SENDS} requests {found.neighbour[429]} refused",
    )
    assert found.neighbour == {201: NEIGHBOUR_SENDS}
    assert found.greedy.keys() == {201, 429}
    assert found.greedy[201] >= PER_MINUTE
    assert (found.outcome.lost, found.outcome.doubled) == (0, 0)


@in_long_form
def test_control_a_neighbour_with_the_same_key_is_refused_too(
    tmp_path: Path, figures: Figures
) -> None:
    found = crowd(tmp_path, apart=False)
    refused = f"of the neighbour's {NEIGHBOUR_SENDS} requests {found.neighbour[429]} refused"
    figures.add_control("B2", f"with one key for both: {refused}")
    assert found.neighbour[429] > 0


def test_control_without_a_quota_nobody_is_refused(limited: Site) -> None:
    limited.store.flushall()
    address = f"{limited.portal.address}/api/tutors"
    pool = urllib3.PoolManager(retries=False, timeout=30)
    sent = [pool.request("POST", address, json=tutor()).status for _ in range(2 * PER_MINUTE)]
    assert set(sent) == {201}
