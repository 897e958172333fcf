"""The store is killed again and again under load: what was acknowledged is there, and there once.

The short form runs with the tests; FAULT_TRIALS sets the number of kills.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import urllib3
from redis import Redis

from ingestion import embedded
from ingestion.records import RECORD_TYPES
from tests.portal_process import running_portal

TUTORS = RECORD_TYPES["tutors"]
KILLS = int(os.environ.get("FAULT_TRIALS", "6"))
CLIENTS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a campaign's records."""

    acknowledged: int
    refused: int
    lost: int
    doubled: int


class Senders:
    """Clients that send records one by one, and repeat each with its key until it is answered."""

    def __init__(self, address: str) -> None:
        self._address = f"{address}/api/tutors"
        self._stopping = threading.Event()
        self.acknowledged: list[str] = []
        self.refused = 0
        self._threads = [threading.Thread(target=self._send) for _ in range(CLIENTS)]

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Return when each client has its last answer; the store must be there for that."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)

    def _send(self) -> None:
        pool = urllib3.PoolManager(retries=False, timeout=10)
        while not self._stopping.is_set():
            name = uuid.uuid4().hex
            record = {**TUTORS.serializer_class.example, "tutor_id": name}
            while True:
                answer = pool.request(
                    "POST", self._address, json=record, headers={"Idempotency-Key": name}
                )
                if answer.status == 201:
                    self.acknowledged.append(name)
                    break
                assert answer.status == 503, answer.data
                self.refused += 1
                time.sleep(0.05)


def campaign(folder: Path, config: Mapping[str, str]) -> Outcome:
    """Kill the store `KILLS` times while clients send, and compare what both sides know."""
    data_dir = folder / "store"
    url = embedded.url(data_dir)
    with running_portal(folder / "var", REDIS_URL=url) as portal, Senders(portal.address) as sent:
        for _ in range(KILLS):
            with embedded.running(data_dir, config=config) as store:
                enough = len(sent.acknowledged) + 20
                portal.wait_for(lambda enough=enough: len(sent.acknowledged) >= enough)
                time.sleep(random.uniform(0, 0.2))
                os.kill(store.pid, signal.SIGKILL)
        with embedded.running(data_dir, config=config):
            sent.stop()
            with Redis.from_url(url) as client:
                names = Counter(
                    msgspec.json.decode(message)["data"]["tutor_id"]
                    for message in client.rpop(TUTORS.queue, 10_000_000) or []
                )
    return Outcome(
        acknowledged=len(sent.acknowledged),
        refused=sent.refused,
        lost=sum(name not in names for name in sent.acknowledged),
        doubled=sum(count > 1 for count in names.values()),
    )


def test_what_was_acknowledged_survives_every_kill_of_the_store_once(tmp_path):
    outcome = campaign(tmp_path, {})
    assert outcome.acknowledged >= 20 * KILLS
    assert outcome.refused > 0  # the clients did meet the faults
    assert (outcome.lost, outcome.doubled) == (0, 0)


def test_control_without_the_append_only_file_acknowledged_records_are_lost(tmp_path):
    outcome = campaign(tmp_path, {"appendonly": "no"})
    assert outcome.lost > 0
