"""The portal and its peers, each one process with a store of its own, fsync always for all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3
from redis import Redis

from tests.portal_process import ROOT, free_port, running_portal
from tests.store_servers import DURABLE, Server

QUEUE = "tutormax:queue:sessions"
_BIN = Path(sys.executable).parent
_PEERS = "tests.benchmarks.peers"
# The file of all writes is never made anew in the middle of a measurement.
_STORE = {**DURABLE, "maxmemory-policy": "noeviction", "auto-aof-rewrite-percentage": "0"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """A running server: where it takes single records and batches, and the store that it fills."""

    name: str
    single: str
    batch: str
    store: Redis
    method: str = "POST"
    queues: bool = True

    def empty(self) -> None:
        """Drop what is queued, and the file of writes that holds it."""
        self.store.flushall()
        for word in ("no", "yes"):
            self.store.config_set("appendonly", word)
        while self.store.info("persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.02)


@contextmanager
def running(name: str, folder: Path, **settings: str) -> Iterator[Contender]:
    """The contender of this name, ended at the end of the block; `settings` are the portal's."""
    with ExitStack() as stack:
        server = Server(folder / "store", **_STORE)
        stack.callback(server.close)
        url = f"redis://127.0.0.1:{server.port}/0"
        if name == PORTAL:
            portal = stack.enter_context(running_portal(folder / "var", REDIS_URL=url, **settings))
            at = f"{portal.address}/api/sessions"
            yield Contender(name=name, single=at, batch=f"{at}/batch", store=server.client)
            return
        port = free_port()
        command, single, batch = _PEER[name]
        words = [word.format(port=port) for word in command]
        if name == WEBDIS:
            words.append(str(_webdis_settings(folder, port, server.port)))
        process = subprocess.Popen(
            words,
            cwd=ROOT,
            env={**os.environ, "REDIS_URL": url},
            stdout=subprocess.DEVNULL,
            stderr=(folder / "log").open("wb"),
        )
        stack.callback(process.wait, 30)
        stack.callback(process.terminate)
        address = f"http://127.0.0.1:{port}"
        _wait_for(address, process)
        yield Contender(
            name=name,
            single=address + single,
            batch=address + batch,
            store=server.client,
            method="PUT" if name == WEBDIS else "POST",
            queues=name != EMPTY,
        )


PORTAL = "the portal"
FASTAPI = "FastAPI + Pydantic + redis.asyncio"
TUNED = "the same, one LPUSH a batch"
NINJA = "django-ninja"
DRF = "Django REST framework as it comes"
LITESTAR = "Litestar + msgspec"
WEBDIS = "Webdis (C, validates nothing)"
EMPTY = "an empty RSGI handler"


def _uvicorn(app: str) -> list[str]:
    words = "--port {port} --workers 1 --loop uvloop --http httptools --no-access-log"
    return [str(_BIN / "uvicorn"), f"{_PEERS}.{app}", *words.split(), "--log-level", "warning"]


def _granian(app: str, interface: str, *more: str) -> list[str]:
    words = ["--interface", interface, "--port", "{port}", "--workers", "1", "--no-access-log"]
    return [str(_BIN / "granian"), f"{_PEERS}.{app}", *words, *more]


_DJANGO = _granian("django_apps:application", "wsgi", "--blocking-threads", "4")
# Command, address of single records, address of batches.
_PEER: dict[str, tuple[Sequence[str], str, str]] = {
    FASTAPI: (_uvicorn("fastapi_app:app"), "/api/sessions", "/api/sessions/batch"),
    TUNED: (_uvicorn("fastapi_app:app"), "/api/sessions", "/tuned/sessions/batch"),
    NINJA: (_DJANGO, "/api/sessions", "/api/sessions/batch"),
    DRF: (_DJANGO, "/drf/sessions", "/drf/sessions/batch"),
    LITESTAR: (_uvicorn("litestar_app:app"), "/api/sessions", "/api/sessions/batch"),
    WEBDIS: (["webdis"], f"/LPUSH/{QUEUE}", f"/LPUSH/{QUEUE}"),
    EMPTY: (_granian("empty_app:app", "rsgi"), "/", "/"),
}
PEERS = tuple(_PEER)


def _webdis_settings(folder: Path, port: int, store_port: int) -> Path:
    file = folder / "webdis.json"
    settings = {
        "redis_host": "127.0.0.1",
        "redis_port": store_port,
        "http_host": "127.0.0.1",
        "http_port": port,
        "threads": 2,
        "pool_size": 16,
        "daemonize": False,
        "acl": [{"disabled": []}],
        "verbosity": 0,
        "logfile": str(folder / "webdis.log"),
    }
    file.write_text(json.dumps(settings))
    return file


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib3.request("GET", address, retries=False, timeout=1)
        except urllib3.exceptions.HTTPError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{process.args} does not answer")
