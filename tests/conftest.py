"""What all tests share: the embedded store, empty at the start of each test."""

from __future__ import annotations

import io
import json
import logging
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django_redis.pool import ConnectionFactory
from redis import Redis
from structlog.stdlib import ProcessorFormatter

from ingestion import embedded, queues
from ingestion.queues import connection
from ingestion.records import RECORD_TYPES, RecordType
from tests import process_guard, store_address
from tests.portal_process import Portal, running_portal
from tests.staff import member, signed_in
from tests.store_faults import Proxy

# Processes that the tests start must obey this signal. In a script's background it is ignored, and
# a child inherits that; it does not inherit a handler.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """In the quick run, no test starts a process."""
    with process_guard.of_test(item):
        return (yield)


@pytest.fixture(scope="session")
def _running_store() -> Iterator[str]:
    with ExitStack() as stack:
        with process_guard.shared():
            running = stack.enter_context(embedded.running(settings.DATA_DIR))
        yield running.url


@pytest.fixture
def store(_running_store: str) -> Iterator[Redis]:
    """The real store that the portal uses, emptied, as a plain client."""
    with Redis.from_url(_running_store) as client:
        client.flushall()
        connection._circuit_open_until.clear()  # an earlier test may have opened it
        yield client


@pytest.fixture(scope="session")
def _portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    with running_portal(tmp_path_factory.mktemp("portal") / "var") as portal:
        yield portal


@pytest.fixture
def portal(_portal: Portal) -> Portal:
    """The whole portal, as people start it, its queues empty; all tests of a run share it."""
    with Redis.from_url(embedded.url(_portal.data_dir)) as store:
        store.flushall()
    return _portal


def pytest_itemcollected(item: pytest.Item) -> None:
    """Tests that share the portal run in one worker, so that it is started once."""
    if "_portal" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.xdist_group("portal"))


@pytest.fixture
def no_store(settings: Any, tmp_path: Path) -> None:
    """The portal with a store that does not exist."""
    nowhere = f"unix://{tmp_path}/no.sock"
    store_address.use(settings, nowhere)


@pytest.fixture
def use_store(settings: Any) -> Iterator[Callable[[str], None]]:
    """Makes the portal use the store at this address until the test ends."""
    used = []

    def use(url: str) -> None:
        used.append(url)
        store_address.use(settings, url)

    yield use
    for url in used:
        if pool := ConnectionFactory._pools.pop(url, None):
            pool.disconnect()


@pytest.fixture
def proxy(store: Redis, use_store: Callable[[str], None], tmp_path: Path) -> Iterator[Proxy]:
    """The portal's connection to the store goes through it."""
    for script in Path(queues.__file__).parent.glob("lua/*.lua"):
        store.script_load(script.read_text())  # so that no cut answer says that a script is unknown
    path = tmp_path / "proxy.sock"
    with Proxy(path, store.connection_pool.connection_kwargs["path"]) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        use_store(f"unix://{path}")
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def operator(db: None) -> Client:
    """A browser of an operator."""
    return signed_in(member("Operator"))


@pytest.fixture
def viewer(db: None) -> Client:
    """A browser of a person who may only view pages."""
    return signed_in(member("Viewer"))


@pytest.fixture
def log() -> Iterator[Callable[[], list[str]]]:
    """Returns the log lines of the test so far, as an operator reads them."""
    root = logging.getLogger()
    (console,) = (h for h in root.handlers if isinstance(h.formatter, ProcessorFormatter))
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(console.formatter)
    root.addHandler(handler)
    yield lambda: written.getvalue().splitlines()
    root.removeHandler(handler)


@pytest.fixture(params=RECORD_TYPES.values(), ids=list(RECORD_TYPES))
def record_type(request: pytest.FixtureRequest) -> RecordType:
    """Each record type in turn."""
    record_type: RecordType = request.param
    return record_type


@pytest.fixture
def post(store: Redis, client: Client) -> Callable[..., Any]:
    """Post to the API: a value becomes JSON, bytes stay as they are."""

    def send(path: str, body: Any, content_type: str = "application/json", **headers: str) -> Any:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        # `client.post` would encode the text again, in the charset of the content type.
        return client.generic("POST", path, payload, content_type=content_type, headers=headers)

    return send
