"""A portal with its own store, and the connections on both sides, which can be cut."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import urllib3
from redis import Redis

from ingestion import embedded
from tests.client_line import ClientLine, Cut, served
from tests.faults.figures import Outcome
from tests.portal_process import ROOT, Portal, running_portal
from tests.record_types import TUTORS
from tests.store_faults import Proxy

_Given = TypeVar("_Given")


class FaultyLine(ClientLine):
    """While `cuts` lasts, the client never gets the answer.

    Half the connections are cut at once, while the portal still works on the request, and half
    after it has answered.
    """

    def __init__(self, portal: Portal) -> None:
        self.cuts = 0
        super().__init__(portal, self._next_cut)

    def _next_cut(self) -> Cut:
        if self.cuts <= 0:
            return Cut.NEVER
        self.cuts -= 1
        return random.choice([Cut.AT_ONCE, Cut.ANSWERED])


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A running portal and its store; `client_line` and `store_line` are connections to them."""

    portal: Portal
    store: Redis
    client_line: FaultyLine
    store_line: Proxy

    def names(self) -> Counter[str]:
        """The ids of all tutors on the queue, which is empty afterwards."""
        messages: Any = self.store.rpop(TUTORS.queue, 10_000_000) or []
        return Counter(msgspec.json.decode(message)["data"]["tutor_id"] for message in messages)

    def key_of(self, client: str) -> dict[str, str]:
        """The header with a new API key for tutors, after the portal knows the key."""
        made = subprocess.run(
            [sys.executable, "manage.py", "api_key", "create", client, "--scope", "tutors"],
            cwd=ROOT,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tutormax.settings",
                "DATA_DIR": str(self.portal.data_dir),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        header = {"Authorization": f"Api-Key {made.stdout.strip()}"}
        self.portal.wait_for(lambda: self._knows(header))
        return header

    def _knows(self, header: dict[str, str]) -> bool:
        stats = f"{self.portal.address}/api/queue/stats"
        return urllib3.request("GET", stats, headers=header, retries=False).status != 401


@contextmanager
def running_site(folder: Path, **environment: str) -> Iterator[Site]:
    """A portal with these settings, and its store; both end with the block."""
    with (
        embedded.running(folder / "store") as running,
        Redis.from_url(running.url) as store,
        served(Proxy(folder / "line.sock", store.connection_pool.connection_kwargs["path"])) as to,
        running_portal(
            folder / "var", REDIS_URL=f"unix://{to.server_address}", **environment
        ) as portal,
        served(FaultyLine(portal)) as client_line,
    ):
        yield Site(portal=portal, store=store, client_line=client_line, store_line=to)


def tutor(name: str = "", **fields: Any) -> dict[str, Any]:
    """A valid record with this id, or with a new one."""
    return {
        **TUTORS.serializer_class.example,
        "tutor_id": name or uuid.uuid4().hex,
        **fields,
    }


def outcome(trials: int, acknowledged: Collection[str], names: Counter[str]) -> Outcome:
    """Compares what clients were told is safe with the `names` that are on the queue."""
    return Outcome(
        trials=trials,
        acknowledged=len(acknowledged),
        lost=sum(name not in names for name in acknowledged),
        doubled=sum(times > 1 for times in names.values()),
    )


def at_once(calls: Collection[Callable[[], _Given]]) -> list[_Given]:
    """The results of the calls, which all begin at the same moment in separate threads."""
    gate = threading.Barrier(len(calls))

    def wait_and_call(call: Callable[[], _Given]) -> _Given:
        gate.wait(30)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(wait_and_call, calls))
