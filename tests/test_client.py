"""The HTTP client sends each record once, through faults of connection, store and portal."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import date
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from urllib3 import Timeout

from ingestion import client, embedded
from ingestion.client import Delivery, Portal, PortalError
from ingestion.generator import generate
from ingestion.records import RECORD_TYPES
from tests.client_line import ClientLine, Cut
from tests.client_line import served as served_line
from tests.portal_process import Portal as Process
from tests.portal_process import running_portal
from tests.scripted_portal import (
    ACCEPTED,
    BROKEN_OFF,
    CUT,
    GONE,
    SILENCE,
    Answer,
    ScriptedPortal,
    refused,
)

RECORDS = generate(seed=3, start=date(2024, 5, 13), days=1, tutors=60, sessions=4000, feedback=60)
MAY_BE_QUEUED = "may be on the queue anyway"
LOST = refused(503, "0", code="store_answer_lost", outcome="unknown", error="Nobody knows.")
FULL = refused(503, "0", code="queue_full", error="It is full.")


def sent(url: str, number: int = 1, tell: Callable[[str], object] = print) -> Delivery:
    """Send some tutors singly."""
    portal = Portal(url, api_prefix="/api", tell=tell)
    tutors = RECORDS.by_path["tutors"][:number]
    return sum(portal.post_singly("tutors", tutors), Delivery())


# --- against a portal that misbehaves on purpose ----------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer",
    [
        refused(408),
        refused(429, "0"),
        refused(503, "0"),
        refused(503),
        refused(503, "soon", outcome="unknown"),
        LOST,
        (502, {}, b"<h1>Bad Gateway</h1>"),
        (504, {}, b"<h1>Gateway Timeout</h1>"),
        CUT,
        BROKEN_OFF,
        SILENCE,
    ],
)
def test_a_temporary_failure_is_tried_again_with_the_same_key_and_body(
    answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_TIMEOUT", Timeout(connect=5, read=1))
    with ScriptedPortal(answer, answer, ACCEPTED) as faulty:
        assert sent(faulty.url, 2) == Delivery(sent=2, accepted=2, requests=2, retries=2)
    first, second, third, other = faulty.requests
    assert first == second == third
    assert first.path == "/api/tutors"
    assert first.key and other.key and first.key != other.key
    assert json.loads(first.body)["tutor_id"] != json.loads(other.body)["tutor_id"]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (refused(401, error="No key."), "answered 401: No key."),
        (refused(413, error="Too large."), "answered 413: Too large."),
        (refused(500, "0", error="Our own fault."), "answered 500: Our own fault."),
        ((404, {}, b"<h1>Not here</h1>"), "answered 404: Is this the address of a portal?"),
        ((201, {}, b"Created!"), "does not answer like a portal. Check the address."),
        ((301, {"Location": "http://127.0.0.1:9/"}, b""), "answered 301"),
    ],
)
def test_a_permanent_failure_is_not_tried_again(answer: Answer, sentence: str) -> None:
    with (
        ScriptedPortal(answer, ACCEPTED) as faulty,
        pytest.raises(PortalError, match=re.escape(sentence)) as fault,
    ):
        sent(faulty.url)
    assert len(faulty.requests) == 1
    assert MAY_BE_QUEUED not in str(fault.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answers", "sentence", "may_be_queued"),
    [
        ([FULL], "answered 503: It is full.", False),
        ([FULL, GONE], "No portal answers at", False),
        ([LOST], "answered 503: Nobody knows.", True),
        ([LOST, FULL], "answered 503: It is full.", True),
        ([LOST, GONE], "No portal answers at", True),
        ([CUT], "broke before the portal answered.", True),
        ([CUT, GONE], "No portal answers at", True),
        ([CUT, refused(401, error="No key.")], "answered 401: No key.", True),
        ([(502, {}, b"")], "answered 502", True),
    ],
)
def test_when_all_tries_fail_it_says_whether_records_may_be_queued(
    answers: list[Answer], sentence: str, may_be_queued: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_PATIENCE_SECONDS", 1.0)
    with (
        ScriptedPortal(*answers) as faulty,
        pytest.raises(PortalError, match=sentence) as fault,
    ):
        sent(faulty.url)
    assert (MAY_BE_QUEUED in str(fault.value)) is may_be_queued


def test_a_request_that_only_reads_never_says_that_records_may_be_queued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "_PATIENCE_SECONDS", 0.0)
    with ScriptedPortal(CUT) as faulty, pytest.raises(PortalError, match="broke") as fault:
        Portal(faulty.url, api_prefix="/api").queue_numbers()
    assert MAY_BE_QUEUED not in str(fault.value)


def test_it_waits_as_long_as_it_is_asked_to() -> None:
    started_at = time.monotonic()
    with ScriptedPortal(refused(429, "1"), ACCEPTED) as busy:
        sent(busy.url)
    assert time.monotonic() - started_at >= 1


def test_a_wait_longer_than_its_patience_is_not_begun() -> None:
    with (
        ScriptedPortal(refused(503, "3600", error="Paused."), ACCEPTED) as paused,
        pytest.raises(PortalError, match="Paused"),
    ):
        sent(paused.url)
    assert len(paused.requests) == 1


@pytest.mark.slow
def test_an_outage_is_told_once_while_it_lasts() -> None:
    told: list[str] = []
    with ScriptedPortal(FULL, FULL, FULL, FULL, ACCEPTED) as busy:
        sent(busy.url, tell=told.append)
    assert told == [f"{busy.url} answered 503: It is full. Trying again…"]


def test_it_gives_up_soon_if_nobody_ever_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_PATIENCE_SECONDS", 3600.0)
    monkeypatch.setattr(client, "_FIRST_PATIENCE_SECONDS", 0.5)
    with closing(socket.socket()) as unheard:
        unheard.bind(("127.0.0.1", 0))
        with pytest.raises(PortalError, match=r"\(Connection refused\). Start the portal"):
            sent(f"http://127.0.0.1:{unheard.getsockname()[1]}")


def test_a_portal_that_comes_up_meanwhile_gets_the_records() -> None:
    with ScriptedPortal(ACCEPTED, listening=False) as starting:
        delivery = sent(starting.url, tell=lambda _: starting.listen())
    assert (delivery.accepted, len(starting.requests)) == (1, 1)


def test_records_that_a_lost_try_queued_count_once_and_as_replayed() -> None:
    replayed = (201, {"Idempotent-Replayed": "true"}, ACCEPTED[2])
    with ScriptedPortal(CUT, replayed, ACCEPTED) as portal:
        assert sent(portal.url, 2) == Delivery(
            sent=2, accepted=2, requests=2, retries=1, replayed=1
        )


def test_refusals_that_the_portal_does_not_name_are_counted() -> None:
    named = {"index": 0, "id": None, "errors": [{"field": None, "code": "not_an_object"}]}
    answer = {"success": False, "count": 0, "rejected": 3, "errors": [named]}
    with ScriptedPortal((422, {}, json.dumps(answer).encode())) as terse:
        (delivery,) = Portal(terse.url, api_prefix="/api").post_batches("tutors", [{}] * 3, 3)
    assert delivery == Delivery(
        sent=3,
        accepted=0,
        rejected=3,
        requests=1,
        retries=0,
        rejections=Counter({("(record)", "not_an_object"): 1, ("(not named)", "(not named)"): 2}),
    )


# --- against the real portal -------------------------------------------------------------------


@contextmanager
def line_to(portal: Process, *, keyed: bool) -> Iterator[ClientLine]:
    """Cuts every third answer off, and can remove the key."""
    turns = cycle([Cut.NEVER, Cut.NEVER, Cut.ANSWERED])

    def alter(request: bytes) -> bytes:
        return request if keyed else re.sub(rb"(?i)\r\nidempotency-key:[^\r]*", b"", request)

    with served_line(ClientLine(portal, lambda: next(turns), alter)) as line:
        yield line


def queued(portal: Process, path: str) -> list[Any]:
    """The records on the queue, the next to be taken first."""
    with Redis.from_url(embedded.url(portal.data_dir)) as store:
        messages = store.lrange(RECORD_TYPES[path].queue, 0, -1)
    return [json.loads(message)["data"] for message in messages[::-1]]


@pytest.mark.processes
def test_a_line_that_is_cut_doubles_and_loses_nothing(portal: Process) -> None:
    total = Delivery()
    with line_to(portal, keyed=True) as line:
        sender = Portal(line.address, api_prefix="/api")
        for path, found in RECORDS.by_path.items():
            for delivery in sender.post_singly(path, found[:20]):
                total += delivery
            for delivery in sender.post_batches(path, found[20:], 400):
                total += delivery
    for path, found in RECORDS.by_path.items():
        assert queued(portal, path) == list(found)
    assert total.accepted == total.sent == 4120
    assert len(line.unheard) >= 20
    assert total.replayed == total.retries == len(line.unheard)


@pytest.mark.processes
def test_without_the_key_a_line_that_is_cut_doubles_records(portal: Process) -> None:
    with line_to(portal, keyed=False) as line:
        delivery = sent(line.address, 20)
    assert delivery.accepted == 20
    assert len(line.unheard) >= 6
    assert len(queued(portal, "tutors")) == 20 + len(line.unheard)


def sent_through(portal: Process, trouble: Callable[[], None], *, times: int) -> Delivery:
    """Send sessions, and cause trouble again and again meanwhile."""
    total = Delivery()
    troubles = []
    for delivery in islice(
        Portal(portal.address, api_prefix="/api").post_batches(
            "sessions", RECORDS.by_path["sessions"], 40
        ),
        20 * (times + 1),
    ):
        total += delivery
        if total.requests % 20 == 0 and len(troubles) < times:
            troubles.append(threading.Timer(random.uniform(0, 0.02), trouble))
            troubles[-1].start()
    for one in troubles:
        one.join()
    assert total.accepted == total.sent
    assert total.retries >= times
    return total


@pytest.mark.processes
def test_a_store_that_is_killed_again_and_again_doubles_and_loses_nothing(portal: Process) -> None:
    def kill() -> None:
        store = embedded.find(portal.data_dir)
        assert store is not None
        os.kill(store.pid, signal.SIGKILL)

    total = sent_through(portal, kill, times=4)
    assert queued(portal, "sessions") == list(RECORDS.by_path["sessions"][: total.sent])


@pytest.mark.processes
def test_a_portal_that_is_killed_and_started_again_doubles_and_loses_nothing(
    tmp_path: Path,
) -> None:
    with running_portal(tmp_path / "var") as first, ExitStack() as second:

        def restart() -> None:
            first.end(signal.SIGKILL)
            second.enter_context(running_portal(tmp_path / "var", PORT=str(first.port)))

        total = sent_through(first, restart, times=1)
        assert queued(first, "sessions") == list(RECORDS.by_path["sessions"][: total.sent])
