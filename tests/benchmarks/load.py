"""Load by wrk, and the store by redis-benchmark: neither is Python, so neither is the limit."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import msgspec
from redis import Redis

from tests.benchmarks.contenders import QUEUE, Contender

_SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One run: how many a second, and how long one took in the middle and at worst."""

    per_second: float
    p50_ms: float = 0.0
    p99_ms: float = 0.0


def posts(
    to: Contender,
    records: list[dict[str, object]],
    *,
    batch: bool,
    connections: int,
    seconds: float,
    headers: Mapping[str, str] | None = None,
    valid: int | None = None,
) -> Measured:
    """Send the same records for so long; gives records a second.

    Counts afterwards what lies on the queue: nothing that was answered may be missing. `valid` is
    how many of the records are, if not all. A contender that queues nothing is not counted.
    """
    to.empty()
    body = msgspec.json.encode(records if batch else records[0])
    accepted = valid if valid is not None else len(records) if batch else 1
    with NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        flat = [word for pair in (headers or {}).items() for word in pair]
        printed = subprocess.run(
            [
                "wrk",
                "-t1",
                f"-c{connections}",
                f"-d{seconds}s",
                "--timeout",
                "20s",
                "-s",
                str(_SCRIPT),
                to.batch if batch else to.single,
                "--",
                file.name,
                "application/json",
                to.method,
                *flat,
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    found = json.loads(printed.splitlines()[-1])
    if found["faults"]:
        raise RuntimeError(f"{to.name}: {printed}")
    queued = int(to.store.llen(QUEUE))
    asked = found["requests"] * accepted
    # What was under way at the end may be queued without having been counted.
    if to.queues and not asked <= queued <= asked + connections * accepted:
        raise RuntimeError(f"{to.name}: {asked} answered, {queued} queued")
    return Measured(
        per_second=found["requests"] * len(records if batch else [0]) / found["seconds"],
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
    )


def bare_store(store: Redis, *, requests: int) -> Measured:
    """LPUSH of 720 bytes by redis-benchmark, 64 at a time on 50 connections."""
    port = store.connection_pool.connection_kwargs["port"]
    printed = subprocess.run(
        [
            "redis-benchmark",
            "-p",
            str(port),
            "-P",
            "64",
            "-n",
            str(requests),
            "-d",
            "720",
            "-q",
            "lpush",
            QUEUE,
            "x" * 720,
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.findall(r"([0-9.]+) requests per second", printed)
    return Measured(per_second=float(found[-1]))
