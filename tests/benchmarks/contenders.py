"""The portal and its peers: each a server of its own, with a store of its own, fsync always."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import urllib3
from redis import Redis

from ingestion.processes import stop
from tests.benchmarks.peers.envelopes import QUEUES
from tests.portal_process import ROOT, free_port
from tests.store_servers import DURABLE, Server

STAFF = ("bench", "correct horse battery")
_BOUND_SECONDS = 240  # for what hangs
_PEERS = "tests.benchmarks.peers"
# The append-only file is never rewritten in the middle of a measurement.
_STORE = {**DURABLE, "maxmemory-policy": "noeviction", "auto-aof-rewrite-percentage": "0"}


class MissingError(Exception):
    """A peer is not installed. The text says how to get it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """How a server is started and asked.

    `command` has places for `{port}`, `{workers}` and `{folder}`. `paths` has the paths of single
    records and of batches, with a place for the `{path}` of a record type. `needs` names a Python
    package or a program.
    """

    command: tuple[str, ...]
    paths: tuple[str, str] = ("/api/{path}", "/api/{path}/batch")
    needs: str = ""
    method: str = "POST"
    queues: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)

    def is_installed(self) -> bool:
        """Whether what it needs is there."""
        if self.command[0] == sys.executable:
            return not self.needs or find_spec(self.needs) is not None
        return shutil.which(self.needs) is not None


def _python(module: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *words)


def _uvicorn(app: str) -> tuple[str, ...]:
    words = "--port {port} --workers {workers} --loop uvloop --http httptools --no-access-log"
    return _python("uvicorn", f"{_PEERS}.{app}:app", *words.split(), "--log-level", "warning")


def _granian(app: str, interface: str, *more: str) -> tuple[str, ...]:
    words = f"--interface {interface} --port {{port}} --workers {{workers}} --no-access-log"
    return _python("granian", f"{_PEERS}.{app}:app", *words.split(), *more)


# Of all requests, so that the load is the same for all.
_HEADERS = {"Idempotency-Key": "unique"}
# Everything is on: the requests have an API key as well, there is a quota, and each request has its
# line in the log. Limits that a load would meet are far away.
_PORTAL = Peer(
    command=(sys.executable, "manage.py", "serve"),
    environment={
        "CLIENT_RECORDS_PER_MINUTE": str(10**8),
        "LOG_FORMAT": "json",
        "MAX_CONNECTIONS_PER_PEER": "0",
        "MAX_WAITING_REQUESTS": "4096",
        "QUEUE_LIMIT": str(10**9),
    },
)
_FASTAPI = Peer(command=_uvicorn("fastapi_app"), needs="fastapi")
_FOUR_THREADS = ("--blocking-threads", "4")

PORTAL = "this portal"
WITHOUT_LANE = "this portal, FAST_LANE=off"
FASTAPI = "FastAPI + Pydantic + redis.asyncio"
TUNED = "FastAPI, one LPUSH a batch"
NINJA = "django-ninja"
DRF = "Django REST framework"
LITESTAR = "Litestar + msgspec"
WEBDIS = "Webdis (validates nothing)"
EMPTY = "an empty RSGI handler"

PEERS = {
    PORTAL: _PORTAL,
    WITHOUT_LANE: replace(_PORTAL, environment={**_PORTAL.environment, "FAST_LANE": "off"}),
    FASTAPI: _FASTAPI,
    TUNED: replace(_FASTAPI, paths=("/api/{path}", "/tuned/{path}/batch")),
    NINJA: Peer(command=_granian("ninja_app", "wsgi", *_FOUR_THREADS), needs="ninja"),
    DRF: Peer(command=_granian("drf_app", "wsgi", *_FOUR_THREADS)),
    LITESTAR: Peer(command=_uvicorn("litestar_app"), needs="litestar"),
    WEBDIS: Peer(
        command=("webdis", "{folder}/webdis.json"),
        paths=("/LPUSH/" + QUEUES["sessions"], ""),
        needs="webdis",
        method="PUT",
    ),
    EMPTY: Peer(command=_granian("empty_app", "rsgi"), paths=("/", "/"), queues=False),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """A running server: where it takes records, the process, and the store that it fills."""

    name: str
    address: str
    server: int
    store: Redis
    store_process: int
    headers: Mapping[str, str]
    environment: Mapping[str, str]

    @property
    def peer(self) -> Peer:
        """What it is."""
        return PEERS[self.name]

    def url(self, path: str, *, batch: bool) -> str:
        """The address for one record of this type, or for many."""
        return self.address + self.peer.paths[batch].format(path=path)

    def depth(self, path: str) -> int:
        """How many messages are on a queue."""
        return int(self.store.llen(QUEUES[path]))


class Site:
    """Starts contenders in a folder, each time from nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started = 0
        self._headers: dict[str, str] = {}

    def new_folder(self) -> Path:
        """A folder that nobody has used."""
        self._started += 1
        folder = self._folder / str(self._started)
        folder.mkdir(parents=True)
        return folder

    @contextmanager
    def store(self) -> Iterator[Server]:
        """A store alone."""
        folder = self.new_folder()
        server = Server(folder / "store", **_STORE)
        try:
            yield server
        finally:
            server.close()
            shutil.rmtree(folder)

    @contextmanager
    def running(self, name: str, *, workers: int = 1, **settings: str) -> Iterator[Contender]:
        """The contender of this name, ended at the end of the block; `settings` are the portal's.

        Raises `MissingError`.
        """
        peer = PEERS[name]
        if not peer.is_installed():
            raise MissingError(f"{peer.needs} is not installed")
        is_portal = name in (PORTAL, WITHOUT_LANE)
        with ExitStack() as stack:
            store = stack.enter_context(self.store())
            folder = self.new_folder()
            stack.callback(shutil.rmtree, folder)
            port = free_port()
            environment = {
                **(self._portal(folder) if is_portal else {}),
                **peer.environment,
                "REDIS_URL": f"redis://127.0.0.1:{store.port}/0",
                "PORT": str(port),
                "WEB_WORKERS": str(workers),
                **settings,
            }
            if name == WEBDIS:
                _write_webdis_settings(folder, port, store.port)
            words = [
                word.format(port=port, workers=workers, folder=folder) for word in peer.command
            ]
            process = stack.enter_context(started(words, environment, folder / "log"))
            address = f"http://127.0.0.1:{port}"
            wait_for(address, process, folder / "log")
            yield Contender(
                name=name,
                address=address,
                server=process.pid,
                store=store.client,
                store_process=store.process.pid,
                headers=self._headers if is_portal else _HEADERS,
                environment=environment,
            )

    def _portal(self, folder: Path) -> dict[str, str]:
        """The settings of a portal in `folder` that knows a client with a key, and its staff."""
        first = self._folder / "portal"
        if not self._headers:
            environment = portal_environment(first)
            name, password = STAFF
            account = {"DJANGO_SUPERUSER_PASSWORD": password}
            scopes = [word for path in QUEUES for word in ("--scope", path)]
            manage(environment, "migrate", "--verbosity", "0")
            manage(
                environment | account,
                *("createsuperuser", "--noinput", "--username", name, "--email", "b@example.com"),
            )
            key = manage(environment, "api_key", "create", "bench", *scopes).strip()
            self._headers = {**_HEADERS, "Authorization": f"Api-Key {key}"}
        shutil.copytree(first, folder / "var")
        return portal_environment(folder / "var")


def portal_environment(data_dir: Path) -> dict[str, str]:
    """The settings of a portal with this folder, and nothing of this machine's configuration."""
    return {
        "DJANGO_SETTINGS_MODULE": "tutormax.settings",
        "DATA_DIR": str(data_dir),
        "ENV_FILE": os.devnull,
        "REDIS_URL": "",
        "DATABASE_URL": "",
    }


def manage(environment: Mapping[str, str], *words: str) -> str:
    """What a command of the portal prints."""
    return output((sys.executable, "manage.py", *words), environment)


def output(words: tuple[str, ...], environment: Mapping[str, str]) -> str:
    """What a program prints. Raises `RuntimeError` with what it says of its failure."""
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{words}: {done.stderr[-2000:]}")
    return done.stdout


@contextmanager
def started(
    words: list[str], environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is told to end at the end of the block."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            words, cwd=ROOT, env={**os.environ, **environment}, stdout=file, stderr=file
        )
    try:
        yield process
    finally:
        stop(process, within_seconds=_BOUND_SECONDS)


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once somebody answers at this address."""
    deadline = time.monotonic() + _BOUND_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib3.request("GET", address, retries=False, timeout=5)
        except urllib3.exceptions.HTTPError:
            time.sleep(0.01)
        else:
            return
    raise RuntimeError(f"{address} does not answer: {log.read_text()[-2000:]}")


def _write_webdis_settings(folder: Path, port: int, store_port: int) -> None:
    settings = {
        "redis_host": "127.0.0.1",
        "redis_port": store_port,
        "http_host": "127.0.0.1",
        "http_port": port,
        "threads": 2,
        "pool_size": 1,  # for each thread; with more, the store gets fewer commands at once
        "daemonize": False,
        "acl": [{"disabled": []}],
        "verbosity": 0,
        "logfile": str(folder / "webdis.log"),
    }
    (folder / "webdis.json").write_text(json.dumps(settings))
