"""Clients that take more than a fair share: they never read, or their answers are expensive."""

from __future__ import annotations

import gzip
import resource
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import urllib3

from ingestion import embedded
from tests.faults.figures import Figures, Outcome, count, in_long_form
from tests.faults.sending import Senders, settle, web_processes
from tests.faults.site import Site, at_once, running_site, tutor
from tests.portal_process import Portal, running_portal

# --- A3: answers that nobody reads --------------------------------------------------------------

SOCKETS = count(short=60, long=2000)
READ_SECONDS = count(short=3, long=20)
LARGE_FILE = "/static/drf_spectacular_sidecar/redoc/bundles/redoc.standalone.js"  # 1.1 MB


@contextmanager
def unread(port: int) -> Iterator[select.poll]:
    """Sockets that each ask for a large answer and read none of it; the poll shows who was cut."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    cut = select.poll()
    with ExitStack() as stack:
        for _ in range(SOCKETS):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.connect(("127.0.0.1", port))
            one.sendall(f"GET {LARGE_FILE} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            cut.register(one, 0)  # the end of a connection is always reported
        yield cut


def memory_bytes(portal: Portal) -> int:
    """The highest memory use of the serving processes so far."""
    return sum(
        int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
        for pid in web_processes(portal)[1:]
    )


def test_answers_that_nobody_reads_are_given_up_and_keep_nobody_waiting(
    tmp_path: Path, figures: Figures
) -> None:
    with running_portal(
        tmp_path, READ_TIMEOUT_SECONDS=str(READ_SECONDS), MAX_CONNECTIONS_PER_PEER="0"
    ) as portal:
        assert portal.get(LARGE_FILE).status == 200
        before = memory_bytes(portal)
        with unread(portal.port) as cut, Senders(portal.address, clients=4) as sent:
            portal.wait_for(sent.more_acknowledged(20))
            portal.wait_for(lambda: len(cut.poll(0)) == SOCKETS)
            portal.wait_for(sent.more_acknowledged(20))
            sent.stop()
            grown = (memory_bytes(portal) - before) / SOCKETS / 1024
        outcome = settle(embedded.url(tmp_path), sent.acknowledged, trials=SOCKETS)
    figures.add(
        "A3",
        f"sockets ask for 1.1 MB and read nothing; the deadline is {READ_SECONDS} s",
        outcome,
        remark=f"{SOCKETS:,} given up, the server's peak memory grows by {grown:.0f} KiB each, "
        "every honest request is served",
    )
    assert (outcome.lost, outcome.doubled) == (0, 0)
    assert grown < 550  # half of what was asked for


@in_long_form
def test_control_without_a_deadline_they_stay(tmp_path: Path, figures: Figures) -> None:
    with (
        running_portal(
            tmp_path, READ_TIMEOUT_SECONDS="3600", MAX_CONNECTIONS_PER_PEER="0"
        ) as portal,
        unread(portal.port) as cut,
    ):
        time.sleep(2 * READ_SECONDS)
        stayed = SOCKETS - len(cut.poll(0))
    figures.add_control("A3", f"without a deadline: {stayed:,} of {SOCKETS:,} are still there")
    assert stayed == SOCKETS


# --- A4: requests that cost little to send and much to answer ------------------------------------

SENDERS = 4
NEIGHBOUR_SENDS = count(short=20, long=300)
DEAR = gzip.compress(b"[" + b",".join([b"{}"] * 10_000) + b"]", mtime=0)


def waits(site: Site, *, greedy: dict[str, str], neighbour: dict[str, str]) -> list[float]:
    """The milliseconds of a neighbour's requests while others sent expensive ones."""
    pool = urllib3.PoolManager(retries=False, timeout=60, maxsize=SENDERS + 1)
    address = f"{site.portal.address}/api/tutors"
    begun, done = threading.Event(), threading.Event()
    taken: list[float] = []

    def send_dear() -> None:
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip", **greedy}
        while not done.is_set():
            answer = pool.request("POST", f"{address}/batch", body=DEAR, headers=headers)
            assert answer.status in (422, 503), answer.status
            begun.set()

    def send_cheap() -> None:
        try:
            assert begun.wait(60)
            for _ in range(NEIGHBOUR_SENDS):
                began = time.perf_counter()
                answer = pool.request("POST", address, json=tutor(), headers=neighbour)
                taken.append((time.perf_counter() - began) * 1000)
                assert answer.status == 201, answer.data
        finally:
            done.set()

    at_once([send_cheap, *[send_dear] * SENDERS])
    return sorted(taken)


def test_expensive_requests_of_one_client_leave_its_neighbour_its_turn(
    tmp_path: Path, figures: Figures
) -> None:
    with running_site(tmp_path, WEB_WORKERS="1") as site:
        greedy, neighbour = site.key_of("greedy"), site.key_of("neighbour")
        apart = waits(site, greedy=greedy, neighbour=neighbour)
        together = waits(site, greedy=greedy, neighbour=greedy)
    told = partial("half within {:.0f} ms, all within {:.0f} ms".format)
    figures.add(
        "A4",
        f"{SENDERS} senders of {len(DEAR)} bytes that are 10,000 empty records",
        Outcome(trials=NEIGHBOUR_SENDS),
        remark=f"a neighbour's requests are answered, {told(apart[len(apart) // 2], apart[-1])}",
    )
    figures.add_control(
        "A4",
        "the neighbour is the same client, in the same line: "
        + told(together[len(together) // 2], together[-1]),
    )
