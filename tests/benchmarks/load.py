"""Load: by wrk for so long, or by one Python client for so many requests.

Whichever sends, one request is checked first, and what is on the queue afterwards is counted:
nothing that was answered may be missing.
"""

from __future__ import annotations

import http.client
import json
import re
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from shutil import which
from tempfile import NamedTemporaryFile
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from tests.benchmarks import processes
from tests.benchmarks.contenders import Contender, MissingError
from tests.benchmarks.peers.envelopes import SESSIONS

_SCRIPT = Path(__file__).with_name("load.lua")

Sample: TypeAlias = dict[str, float]
"""What one measurement came to, by the name of the figure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """One request that is sent again and again, and what must become of it.

    `records` are in its body, and `valid` of them are queued.
    """

    path: str
    body: bytes
    records: int = 1
    valid: int = 1
    batch: bool = False
    content_type: str = "application/json"

    @property
    def status(self) -> int:
        """What the portal must answer."""
        return 201 if self.valid == self.records else 207


Sender: TypeAlias = Callable[[Contender, Work], Sample]
"""Sends the same work many times. Gives `requests`, `seconds` and what else it knows."""


def wrk(*, connections: int, seconds: float) -> Sender:
    """As many requests as are answered in so many seconds, after a short time to warm up."""

    def run(to: Contender, work: Work, seconds: float) -> Sample:
        with NamedTemporaryFile() as file:
            file.write(work.body)
            file.flush()
            printed = subprocess.run(
                (
                    *("wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"),
                    *("--timeout", "30s", "-s", str(_SCRIPT), to.url(work.path, batch=work.batch)),
                    *("--", file.name, work.content_type, to.peer.method),
                    *(word for pair in to.headers.items() for word in pair),
                ),
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        found: Sample = json.loads(printed.splitlines()[-1])
        if found.pop("faults"):
            raise RuntimeError(f"{to.name}: {printed}")
        return found

    def send(to: Contender, work: Work) -> Sample:
        run(to, work, 1)
        return _counted(to, work, lambda: run(to, work, seconds), doubtful=connections)

    return send


def client(*, requests: int) -> Sender:
    """So many requests of one Python client, one after another: for bodies that take long."""

    def run(to: Contender, work: Work) -> Sample:
        with _connected(to, work) as post:
            begin = time.perf_counter()
            for _ in range(requests):
                post()
            return {"requests": requests, "seconds": time.perf_counter() - begin}

    def send(to: Contender, work: Work) -> Sample:
        return _counted(to, work, lambda: run(to, work), doubtful=0)

    return send


def _counted(to: Contender, work: Work, run: Callable[[], Sample], *, doubtful: int) -> Sample:
    """Run it between two counts: of messages, of CPU time, of memory.

    What `doubtful` requests queued may be there although nobody heard their answer.
    """
    with _connected(to, work) as post:
        post()
    depth = to.depth(work.path)
    processes.forget_peak(to.server)
    memory = processes.memory_bytes(to.server)
    with cores(server=to.server, store=to.store_process) as used:
        found = run()
    queued, asked = to.depth(work.path) - depth, found["requests"] * work.valid
    if not found["requests"]:
        raise RuntimeError(f"{to.name}: no answer in {found['seconds']:.1f} s")
    if to.peer.queues and not asked <= queued <= asked + doubtful * work.valid:
        raise RuntimeError(f"{to.name}: {asked} answered, {queued} queued")
    per_second = found.pop("requests") * work.records / found.pop("seconds")
    return {
        "per_second": per_second,
        **found,
        **used,
        "server_us": used["server_cores"] / per_second * 1e6,
        "store_us": used["store_cores"] / per_second * 1e6,
        "growth_mb": (processes.memory_bytes(to.server, peak=True) - memory) / 2**20,
    }


@contextmanager
def cores(**roots: int) -> Iterator[Sample]:
    """How many cores are busy in the block: with these processes, with our load, with others."""

    def seconds() -> Sample:
        ours = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        found = {who: processes.cpu_seconds(root) for who, root in roots.items()}
        found["load"] = sum(one.ru_utime + one.ru_stime for one in ours)
        found["others"] = processes.machine_cpu_seconds() - sum(found.values())
        return found

    used: Sample = {}
    begin, before = time.perf_counter(), seconds()
    yield used
    after, lasted = seconds(), time.perf_counter() - begin
    for who, since in before.items():
        used[f"{who}_cores"] = max(0.0, after[who] - since) / lasted


@contextmanager
def _connected(to: Contender, work: Work) -> Iterator[Callable[[], None]]:
    """Sends the work once, on one connection, and checks its answer."""
    url = urlsplit(to.url(work.path, batch=work.batch))
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=600)
    numbers, begun = count(), time.time_ns()

    def post() -> None:
        headers = {
            name: f"client-{begun}-{next(numbers)}" if value == "unique" else value
            for name, value in to.headers.items()
        }
        headers["Content-Type"] = work.content_type
        connection.request(to.peer.method, url.path, work.body, headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != (200 if to.peer.method == "PUT" else work.status):
            raise RuntimeError(f"{to.name}: {answer.status} {body[:500]!r}")
        if to.peer.queues and work.batch:
            told: Any = json.loads(body)
            if told["count"] != work.valid:
                raise RuntimeError(f"{to.name}: {body[:500]!r}")

    try:
        yield post
    finally:
        connection.close()


def bare_store(port: int, *, requests: int) -> Sample:
    """LPUSH of 720 bytes by redis-benchmark, 64 at a time on 50 connections."""
    if which("redis-benchmark") is None:
        raise MissingError("redis-benchmark is not installed")
    words = f"redis-benchmark -p {port} -P 64 -n {requests} -q lpush {SESSIONS}".split()
    printed = subprocess.run([*words, "x" * 720], capture_output=True, text=True, check=True).stdout
    return {"per_second": float(re.findall(r"([0-9.]+) requests per second", printed)[-1])}
