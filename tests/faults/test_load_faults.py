"""Clients that send too slowly, or too much: the others are served, and memory does not grow."""

from __future__ import annotations

import gzip
import http.client
import os
import resource
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import urllib3

from ingestion import embedded
from tests.faults.figures import Outcome, count, in_long_form
from tests.faults.sending import Senders, settle, web_processes
from tests.portal_process import ROOT, Portal, free_port, running_portal
from tests.record_types import TUTORS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

MEBIBYTE = 2**20


# --- S1: sockets that drip ---------------------------------------------------------------------

SOCKETS = count(short=300, long=2000)
DRIP_SECONDS = count(short=2, long=10)
BODY_SECONDS = count(short=5, long=25)


class Drips(threading.Thread):
    """Sockets that have sent the head of a POST, and send a byte of its body now and then."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.freed = 0  # how many the server has closed
        self._stopping = threading.Event()
        self._open: dict[int, socket.socket] = {}
        for _ in range(SOCKETS):
            one = socket.create_connection(("127.0.0.1", port), timeout=10)
            one.sendall(
                b"POST /api/tutors HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
            )
            self._open[one.fileno()] = one

    def run(self) -> None:
        """Drip until all are closed, or until the test is over."""
        poll = select.poll()
        for number in self._open:
            poll.register(number, select.POLLIN)
        drip_at = time.monotonic() + DRIP_SECONDS
        while self._open and not self._stopping.is_set():
            for number, _ in poll.poll(100):
                if not self._receive(self._open[number]):
                    self.freed += 1
                    poll.unregister(number)
                    self._open.pop(number).close()
            if time.monotonic() > drip_at:
                drip_at += DRIP_SECONDS
                for one in self._open.values():
                    self._drip(one)

    def stop(self) -> None:
        """Close all that are still open."""
        self._stopping.set()
        self.join()
        for one in self._open.values():
            one.close()

    @staticmethod
    def _receive(one: socket.socket) -> bytes:
        try:
            return one.recv(4096)
        except ConnectionResetError:  # a byte of ours was on its way to it
            return b""

    @staticmethod
    def _drip(one: socket.socket) -> None:
        try:
            one.sendall(b" ")
        except (BrokenPipeError, ConnectionResetError):
            return  # closed by the server: the next `recv` shows it


@contextmanager
def dripping(port: int) -> Iterator[Drips]:
    """Sockets that drip on this port inside the block."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    drips = Drips(port)
    drips.start()
    try:
        yield drips
    finally:
        drips.stop()


def test_sockets_that_drip_keep_nobody_waiting_and_are_freed(tmp_path, figures):
    with (
        running_portal(
            tmp_path, BODY_TIMEOUT_SECONDS=str(BODY_SECONDS), MAX_CONNECTIONS_PER_PEER="0"
        ) as portal,
        dripping(portal.port) as drips,
        Senders(portal.address, clients=4) as sent,
    ):
        portal.wait_for(sent.more_acknowledged(20))
        assert drips.freed == 0  # so these requests were served while all of them were open
        portal.wait_for(lambda: drips.freed == SOCKETS)
        sent.stop()
        outcome = settle(embedded.url(tmp_path), sent.acknowledged, trials=SOCKETS)
    remark = f"every honest request is served, {drips.freed:,} sockets freed"
    figures.add("S1", f"sockets send a byte every {DRIP_SECONDS} s", outcome, remark=remark)
    assert set(sent.heard) == {"201"}
    assert (outcome.lost, outcome.doubled) == (0, 0)


@contextmanager
def over_wsgi(folder: Path) -> Iterator[int]:
    """The same site on the same server, but the threads of Django read the bodies; its port."""
    port = free_port()
    options = ["--interface", "wsgi", "--http", "1", "--no-ws", "--no-log", "--port", str(port)]
    options += ["--blocking-threads", "4", "--backlog", "4096", "--workers-kill-timeout", "1"]
    with embedded.running(folder / "store") as store:
        process = subprocess.Popen(
            [sys.executable, "-m", "granian", *options, "tutormax.wsgi:application"],
            cwd=ROOT,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tutormax.settings",
                "DATA_DIR": str(folder / "var"),
                "REDIS_URL": store.url,
                "LOG_LEVEL": "CRITICAL",
            },
        )
        try:
            deadline = time.monotonic() + 60
            while not is_served(port):
                assert time.monotonic() < deadline
            yield port
        finally:
            process.terminate()
            process.wait(60)


def is_served(port: int) -> bool:
    """Whether a client that sends one record and waits some seconds is told that it is queued."""
    try:
        answer = urllib3.request(
            "POST",
            f"http://127.0.0.1:{port}/api/tutors",
            json=TUTORS.serializer_class.example,
            retries=False,
            timeout=4,
        )
    except urllib3.exceptions.HTTPError:
        time.sleep(0.05)
        return False
    return answer.status == 201


@in_long_form
def test_control_sockets_that_drip_stop_a_server_that_reads_in_its_threads(tmp_path, figures):
    with over_wsgi(tmp_path) as port, dripping(port):
        served = sum(is_served(port) for _ in range(4))
    figures.add_control("S1", f"over WSGI, which reads in its threads: {served} of 4 served")
    assert served < 4


# --- P3: bodies of 100 MiB ---------------------------------------------------------------------

BODIES = count(short=3, long=60)  # of each kind
SIZE = 100 * MEBIBYTE
LIMIT = 16 * MEBIBYTE  # the product's own
BOMB = gzip.compress(bytes(SIZE))


def statuses(port: int, times: int) -> set[int]:
    """The answers to bodies of 100 MiB: with a length, in chunks, and compressed."""
    answered = set()
    for _ in range(times):
        for headers, body in (
            ({"Content-Length": str(SIZE)}, iter([bytes(MEBIBYTE)] * 100)),
            ({"Transfer-Encoding": "chunked"}, iter([bytes(MEBIBYTE)] * 100)),
            ({"Content-Encoding": "gzip"}, BOMB),
        ):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request(
                "POST",
                "/api/tutors/batch",
                body=body,
                headers={"Content-Type": "application/json", **headers},
                encode_chunked="Transfer-Encoding" in headers,
            )
            answered.add(connection.getresponse().status)
            connection.close()
    return answered


def growth_bytes(portal: Portal, times: int) -> tuple[int, set[int]]:
    """How much such bodies raise the server's highest use of memory, and its answers."""
    _, *workers = web_processes(portal)
    assert portal.post("/api/tutors", TUTORS.serializer_class.example).status == 201
    before = sum(map(peak_bytes, workers))
    answered = statuses(portal.port, times)
    return sum(map(peak_bytes, workers)) - before, answered


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.mark.timeout(300 + 10 * BODIES)
def test_bodies_far_over_the_limit_are_refused_and_never_held(tmp_path, figures):
    with running_portal(tmp_path) as portal:
        grown, answered = growth_bytes(portal, BODIES)
    remark = f"413 each time, the server's peak memory grows by {grown / MEBIBYTE:.0f} MiB"
    fault = "bodies of 100 MiB: with a length, in chunks, a gzip bomb"
    figures.add("P3", fault, Outcome(trials=3 * BODIES), remark=remark)
    assert answered == {413}
    assert grown < 4 * LIMIT  # a gzip bomb is unpacked up to the limit, in a buffer that doubles


@in_long_form
def test_control_with_a_higher_limit_they_are_held(tmp_path, figures):
    with running_portal(tmp_path, MAX_BODY_BYTES=str(2 * SIZE)) as portal:
        grown, _ = growth_bytes(portal, 1)
    figures.add_control("P3", f"with a limit of 200 MiB it grows by {grown / MEBIBYTE:.0f} MiB")
    assert grown > SIZE
