"""Repeated requests: the answer was lost, many come at once, or the content is different."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import urllib3
from redis import Redis

from tests.faults.figures import Figures, Outcome, count
from tests.faults.site import Site, at_once, outcome, running_site, tutor
from tests.record_types import TUTORS

CUTS = count(short=30, long=1000)
PLAIN_CUTS = count(short=10, long=200)
ROUNDS_AT_ONCE = count(short=3, long=100)
ROUNDS_OF_OTHERS = count(short=10, long=200)
AT_ONCE = 64
WITHOUT_KEY = "without an Idempotency-Key"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("repeats")) as site:
        yield site


@pytest.fixture(autouse=True)
def _empty(site: Site) -> None:
    site.store.flushall()


def fresh_key() -> dict[str, str]:
    """The header of a request that may be repeated."""
    return {"Idempotency-Key": uuid.uuid4().hex}


# --- I1: the answer is lost on the line ---------------------------------------------------------


@dataclass(kw_only=True, slots=True)
class Repeater:
    """A client that sends each request, singles and batches, until it gets an answer."""

    site: Site
    acknowledged: list[str] = field(default_factory=list)
    repeated: int = 0
    _pool: urllib3.PoolManager = field(
        default_factory=lambda: urllib3.PoolManager(retries=False, timeout=10)
    )

    def send(self, headers: dict[str, str]) -> None:
        """One request; if `headers` have a key, the request is sent again for the same answer."""
        self.site.client_line.unheard.clear()
        one = tutor()
        body: Any
        if random.random() < 0.5:
            path, body, status, good = "/api/tutors", one, 201, [one]
        else:
            other = tutor()
            path, body, status, good = "/api/tutors/batch", [one, {}, other], 207, [one, other]
        answer = self._until_answered(path, body, headers)
        assert answer.status == status, answer.data
        self.acknowledged += [record["tutor_id"] for record in good]
        if headers:
            assert all(unheard.endswith(answer.data) for unheard in self.site.client_line.unheard)
            again = self._until_answered(path, body, headers)
            assert (again.status, again.data) == (status, answer.data)
            assert again.headers["Idempotent-Replayed"] == "true"

    def _until_answered(
        self, path: str, body: Any, headers: dict[str, str]
    ) -> urllib3.BaseHTTPResponse:
        address = self.site.client_line.address + path
        while True:
            try:
                answer = self._pool.request("POST", address, json=body, headers=headers)
            except urllib3.exceptions.ProtocolError:  # cut between client and portal
                self.repeated += 1
                continue
            if answer.status != 503:
                return answer
            assert answer.json()["outcome"] == "unknown"  # cut between portal and store
            self.repeated += 1


def cut_again_and_again(site: Site, *, keyed: bool) -> Outcome:
    """Cut each of the two connections half of `CUTS` times, sometimes twice for one request."""
    client = Repeater(site=site)
    for line, until in ((site.client_line, CUTS // 2), (site.store_line, CUTS)):
        # Sometimes a cut hits the portal's own read of the queues instead.
        while client.repeated < until:
            line.cuts = min(until - client.repeated, random.choice([1, 1, 2]))
            client.send(fresh_key() if keyed else {})
            assert line.cuts <= 0
    return outcome(CUTS, client.acknowledged, site.names())


def test_requests_whose_answers_are_cut_off_are_repeated_and_queued_once(
    site: Site, figures: Figures
) -> None:
    found = cut_again_and_again(site, keyed=True)
    figures.add(
        "I1",
        "the line is cut after the request was sent, half between client and portal, half between "
        "portal and store; repeated with the same Idempotency-Key",
        found,
    )
    assert (found.lost, found.doubled) == (0, 0)


def test_control_without_a_key_repeated_requests_are_queued_twice(
    site: Site, figures: Figures
) -> None:
    found = cut_again_and_again(site, keyed=False)
    figures.add_control("I1", WITHOUT_KEY, found)
    assert found.lost == 0
    assert found.doubled > 0


def test_control_a_plain_push_whose_answers_are_cut_off_is_there_twice(
    site: Site, figures: Figures
) -> None:
    names = [uuid.uuid4().hex for _ in range(PLAIN_CUTS)]
    with Redis(unix_socket_path=str(site.store_line.server_address)) as client:
        for name in names:
            site.store_line.cuts = 1
            client.lpush(TUTORS.queue, f'{{"data": {{"tutor_id": "{name}"}}}}')
            assert site.store_line.cuts == 0
    found = outcome(PLAIN_CUTS, names, site.names())
    figures.add_control("I1", "a plain LPUSH with the client library's own retries", found)
    assert found.lost == 0
    assert found.doubled == PLAIN_CUTS


# --- I2: many at once with one key --------------------------------------------------------------


def send_at_once(site: Site, *, keyed: bool) -> list[str]:
    """The same request many times at once, in several rounds; the id of each round's record."""
    pool = urllib3.PoolManager(retries=False, timeout=30, maxsize=AT_ONCE)
    address = f"{site.portal.address}/api/tutors"
    names = []
    for _ in range(ROUNDS_AT_ONCE):
        record = tutor()
        headers = fresh_key() if keyed else {}
        send = partial(pool.request, "POST", address, json=record, headers=headers)
        answers = at_once([send] * AT_ONCE)
        names.append(record["tutor_id"])
        assert {answer.status for answer in answers} == {201}
        if keyed:
            assert len({answer.data for answer in answers}) == 1
        replayed = sum("Idempotent-Replayed" in answer.headers for answer in answers)
        assert replayed == (AT_ONCE - 1 if keyed else 0)
    return names


def test_many_at_once_with_one_key_have_one_effect_and_equal_answers(
    site: Site, figures: Figures
) -> None:
    sent = send_at_once(site, keyed=True)
    found = outcome(ROUNDS_AT_ONCE, sent, site.names())
    figures.add("I2", f"{AT_ONCE} requests at once with one Idempotency-Key", found)
    assert (found.lost, found.doubled) == (0, 0)


def test_control_many_at_once_without_a_key_each_have_their_effect(
    site: Site, figures: Figures
) -> None:
    sent = send_at_once(site, keyed=False)
    names = site.names()
    found = outcome(ROUNDS_AT_ONCE, sent, names)
    figures.add_control("I2", f"{WITHOUT_KEY}, each there {AT_ONCE} times", found)
    assert set(names.values()) == {AT_ONCE}


# --- I3: the same key with other content, or from somebody else ---------------------------------


def take_a_key_again(site: Site, *, keyed: bool) -> tuple[Outcome, set[tuple[int, ...]]]:
    """Two clients with the same key; one of them also sends other content. And the answers."""
    pool = urllib3.PoolManager(retries=False, timeout=10)
    clients = [site.key_of(f"{name}-{uuid.uuid4().hex[:8]}") for name in ("one", "other")]
    names = []
    answered = set()
    for _ in range(ROUNDS_OF_OTHERS):
        name = uuid.uuid4().hex
        key = fresh_key() if keyed else {}
        calls = [
            (clients[0], tutor(name)),
            (clients[0], tutor(name, age=99)),
            (clients[1], tutor(name + "-other")),
            (clients[0], tutor(name)),
        ]
        answers = [
            pool.request(
                "POST", f"{site.portal.address}/api/tutors", json=record, headers=client | key
            )
            for client, record in calls
        ]
        answered.add(tuple(answer.status for answer in answers))
        if keyed:
            assert answers[1].json()["code"] == "key_reused"
            assert answers[0].data == answers[3].data
            assert "Idempotent-Replayed" not in answers[2].headers
        names += [name, name + "-other"]
    return outcome(ROUNDS_OF_OTHERS, names, site.names()), answered


def test_a_key_that_comes_back_with_other_content_or_from_another_client_confuses_nothing(
    site: Site, figures: Figures
) -> None:
    found, answered = take_a_key_again(site, keyed=True)
    figures.add(
        "I3", "an Idempotency-Key comes back with another body, and from another client", found
    )
    assert answered == {(201, 422, 201, 201)}
    assert (found.lost, found.doubled) == (0, 0)


def test_control_without_a_key_other_content_is_queued_as_well(
    site: Site, figures: Figures
) -> None:
    found, answered = take_a_key_again(site, keyed=False)
    figures.add_control("I3", WITHOUT_KEY, found)
    assert answered == {(201, 201, 201, 201)}
    assert found.doubled == ROUNDS_OF_OTHERS
