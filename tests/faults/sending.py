"""Clients that send through every fault; what they were told is compared with the queue."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec
import urllib3
from redis import Redis

from tests.faults.figures import Outcome
from tests.portal_process import Portal
from tests.record_types import TUTORS

NOT_REACHED = "not reached"
NO_ANSWER = "no answer"


class Senders:
    """Clients that send batches one by one, each again and again until it is acknowledged.

    A batch has `batch` records; if it is 1, they go to the address for one record. After any answer
    except 201, a batch goes to the next of `addresses`. It carries an Idempotency-Key unless
    `keyed` is False.
    """

    def __init__(self, *addresses: str, clients: int, batch: int = 1, keyed: bool = True) -> None:
        path = "/api/tutors" if batch == 1 else "/api/tutors/batch"
        self._urls = [address + path for address in addresses]
        self._batch = batch
        self._keyed = keyed
        self._stopping = threading.Event()
        self._leaving = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(clients)]
        self.acknowledged: list[str] = []  # the names of the batches
        # One entry for each try: "201", the code of its refusal, NOT_REACHED, or NO_ANSWER (it was
        # cut).
        self.heard: list[str] = []

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, fault: object, *_: object) -> None:
        if fault:  # perhaps nobody is left to acknowledge the last batches
            self._leaving.set()
        self.stop()

    def stop(self) -> None:
        """Return when the last batch of each client is acknowledged."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), Counter(self.heard)

    def more_acknowledged(self, batches: int) -> Callable[[], bool]:
        """Says whether this many more were acknowledged since this was called."""
        enough = len(self.acknowledged) + batches
        return lambda: len(self.acknowledged) >= enough

    def _send(self) -> None:
        tried = 0
        with urllib3.PoolManager(retries=False, timeout=10) as pool:
            while not self._stopping.is_set():
                name, records = new_batch(self._batch)
                body = msgspec.json.encode(records if self._batch > 1 else records[0])
                headers = {"Content-Type": "application/json"}
                headers |= {"Idempotency-Key": name} if self._keyed else {}
                while not self._leaving.is_set():
                    url = self._urls[tried % len(self._urls)]
                    self.heard.append(said := _answer(pool, url, body, headers))
                    if said == "201":
                        self.acknowledged.append(name)
                        break
                    tried += 1
                    time.sleep(0.05)


def _answer(pool: urllib3.PoolManager, url: str, body: bytes, headers: dict[str, str]) -> str:
    try:
        answer = pool.request("POST", url, body=body, headers=headers)
    except urllib3.exceptions.NewConnectionError:
        return NOT_REACHED
    except urllib3.exceptions.HTTPError:
        return NO_ANSWER
    assert answer.status in (201, 503), (answer.status, answer.data)
    return "201" if answer.status == 201 else str(answer.json()["code"])


def new_batch(records: int) -> tuple[str, list[dict[str, object]]]:
    """The name of a batch, and its records: their ids are the name and a number."""
    name = uuid.uuid4().hex
    example = TUTORS.serializer_class.example
    return name, [{**example, "tutor_id": f"{name}-{number}"} for number in range(records)]


def settle(store: str, acknowledged: Collection[str], *, trials: int, batch: int = 1) -> Outcome:
    """Take all messages off the queue at this address and compare them with the acknowledged ones.

    A batch that is there in part counts too: its missing records are lost.
    """
    ids: Counter[str] = Counter()
    with Redis.from_url(store) as client:
        while messages := client.rpop(TUTORS.queue, 10_000):
            ids.update(msgspec.json.decode(message)["data"]["tutor_id"] for message in messages)
    found = Counter(one.partition("-")[0] for one in ids)
    return Outcome(
        trials=trials,
        acknowledged=len(acknowledged) * batch,
        lost=sum(batch - found[name] for name in {*acknowledged, *found}),
        doubled=sum(times > 1 for times in ids.values()),
    )


def web_processes(portal: Portal) -> list[int]:
    """The pids of the portal's web server: first its main process, then the serving processes.

    Empty while one of them is missing.
    """
    try:
        (keeper,) = (
            pid
            for pid in _children(portal.process.pid)
            if b"tutormax: web server" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        workers = _children(keeper)
    except (ValueError, OSError):  # there is none, or it died meanwhile
        return []
    return [keeper, *workers] if workers else []


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
