"""How much one request, one client or one peer can cost the others."""

from __future__ import annotations

import contextlib
import hashlib
import json
import select
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core import signing

from tests import rsgi_site
from tests.web_server import (
    CAP,
    CHUNKED,
    LARGE,
    Answer,
    Server,
    chunk,
    serving,
    wait_until,
)

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("edge")) as server:
        yield server


def test_five_hundred_stalled_bodies_keep_nobody_waiting(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        for header in ("Content-Length: 1000", f"Content-Length: {LARGE}", CHUNKED) * 167:
            stack.enter_context(server.send("POST /echo", header))
        wait_until(lambda: server.connections() >= 500)
        assert server.echo(body=b"small")["bytes"] == 5
        assert server.echo(body=bytes(CAP))["bytes"] == CAP


def test_with_all_threads_busy_and_a_full_line_a_request_is_told_to_come_back(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, WEB_THREADS=1, MAX_WAITING_REQUESTS=1) as server:
        entered, opened = tmp_path / "entered", tmp_path / "open"
        gate = f"GET /gate?entered={entered}&open={opened}"
        with server.send(gate) as running:
            wait_until(entered.exists)
            with server.send(gate) as one, server.send(gate) as other:
                (refused,) = select.select([one, other], [], [], 15)[
                    0
                ]  # and the other one waits for the thread
                answer = Answer(refused)
                assert answer.is_refusal(503, "server_busy")
                assert answer.headers["Retry-After"] == "1"
                opened.touch()
                waiting = other if refused is one else one
                assert Answer(running).body == Answer(waiting).body == b"through"
        assert server.ask("GET /echo").status == 200


def test_large_bodies_share_a_budget_that_small_ones_do_not_need(tmp_path: Path) -> None:
    entered, opened = tmp_path / "entered", tmp_path / "open"
    large = f"Content-Length: {LARGE}"
    with serving(tmp_path, MAX_BUFFERED_BYTES=LARGE) as server:
        gate = f"POST /gate?entered={entered}&open={opened}"
        with server.send(gate, large, body=bytes(LARGE)) as holder:
            wait_until(entered.exists)
            for header, body in (
                (large, bytes(LARGE)),
                (CHUNKED, chunk(bytes(LARGE)) + chunk(b"")),
            ):
                answer = server.ask("POST /echo", header, body=body)
                assert answer.is_refusal(503, "server_busy")
                assert answer.headers["Retry-After"] == "1"
            assert server.echo(body=b"small")["bytes"] == 5
            opened.touch()
            assert Answer(holder).status == 200
        # A body that is refused half-way gives back its share at once, even if it stays connected.
        with server.send("POST /echo", CHUNKED, body=chunk(bytes(LARGE)) + chunk(b"x")) as refused:
            assert Answer(refused).is_refusal(503, "server_busy")
            wait_until(lambda: server.ask("POST /echo", large, body=bytes(LARGE)).status == 200)


def test_a_file_from_staff_may_be_larger_than_a_body_of_the_api(server: Server) -> None:
    body = bytes(range(256)) * (3 * 2**20 // 256)
    length = f"Content-Length: {len(body)}"
    form = "Content-Type: multipart/form-data; boundary=x"
    signed_in = f"Cookie: a=b; sessionid={session(_auth_user_id='1')}"
    answer = server.ask("POST /admin/upload/", length, form, signed_in, body=body)
    assert answer.status == 200
    assert json.loads(answer.body)["sha256"] == hashlib.sha256(body).hexdigest()
    chunks = chunk(body) + chunk(b"")
    answer = server.ask("POST /admin/upload/", CHUNKED, form, signed_in, body=chunks)
    assert answer.status == 200
    beyond = f"Content-Length: {5 * 2**20}"
    refused = server.ask("POST /admin/upload/", beyond, form, signed_in, body=b"")
    assert refused.is_refusal(413, "body_too_large")
    for request, headers in (
        ("POST /admin/upload/", (form,)),
        ("POST /admin/upload/", (signed_in,)),
        ("POST /echo", (form, signed_in)),
    ):
        assert server.ask(request, length, *headers, body=body).is_refusal(413, "body_too_large")


@pytest.mark.parametrize(
    "cookie",
    [
        "sessionid=x",
        "sessionid=",
        "xsessionid=1; y=sessionid",
        'sessionid="; [bad',
        "sessionid=" + signing.dumps({"_auth_user_id": "1"}, key="another key"),
    ],
    ids=[
        "unsigned",
        "empty",
        "of other names",
        "broken",
        "of another key",
    ],  # the last one has the time
)
def test_an_invented_session_raises_no_limit(server: Server, cookie: str) -> None:
    body = bytes(2 * CAP)
    form = "Content-Type: multipart/form-data; boundary=x"
    answer = server.ask(
        "POST /admin/upload/", f"Content-Length: {len(body)}", form, f"Cookie: {cookie}", body=body
    )
    assert answer.is_refusal(413, "body_too_large")


def test_a_session_without_a_person_raises_no_limit(server: Server) -> None:
    form = "Content-Type: multipart/form-data; boundary=x"
    cookie = f"Cookie: sessionid={session(seen='1')}"
    answer = server.ask("POST /admin/upload/", f"Content-Length: {2 * CAP}", form, cookie)
    assert answer.is_refusal(413, "body_too_large")


def test_a_form_of_the_portal_is_small_and_of_a_stranger_smaller(server: Server) -> None:
    """Parsing a form costs Django many times what sending it costs."""
    signed_in = f"Cookie: csrftoken=a; sessionid={session(_auth_user_id='1')}"
    stranger = "Cookie: csrftoken=a; sessionid=x"
    typed = "Content-Type: application/x-www-form-urlencoded"
    parts = "Content-Type: multipart/form-data; boundary=x"
    for form in (typed, parts):
        for cookie, most in ((stranger, 2**16), (signed_in, 2**20)):
            for length, status in ((most, 404), (most + 1, 413)):
                header = f"Content-Length: {length}"
                answer = server.ask("POST /admin/login/", header, form, cookie, body=bytes(length))
                assert answer.status == status, (form, cookie, length)


def session(**values: str) -> str:
    """A session of the small site, in the form of its cookie."""
    return signing.dumps(
        values,
        key=rsgi_site.SECRET_KEY,
        salt="django.contrib.sessions.backends.signed_cookies",
        compress=True,
    )


# --- turns -------------------------------------------------------------------------------------


class Gate:
    """Requests that hold a thread until the test releases them."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server, self._folder = server, folder
        self.opened = folder / "open"
        self._connections = contextlib.ExitStack()

    def hold(self, name: str, *, peer: str, path: str = "/gate") -> socket.socket:
        """Send one; the file `name` appears when it has its thread."""
        request = f"GET {path}?entered={self._folder / name}&open={self.opened}"
        return self._connections.enter_context(self._server.send(request, peer=peer))

    def entered(self, *names: str) -> set[str]:
        return {name for name in names if (self._folder / name).exists()}

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        self.opened.touch()
        self._connections.close()


ONE, OTHER = "127.0.0.2", "127.0.0.3"


def test_one_client_never_takes_all_threads(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_THREADS=4) as server, Gate(server, tmp_path) as gate:
        greedy = [f"one-{number}" for number in range(6)]
        for name in greedy:
            gate.hold(name, peer=ONE)
        wait_until(lambda: len(gate.entered(*greedy)) == 2)
        gate.hold("other", peer=OTHER)
        wait_until(lambda: gate.entered("other"))
        assert len(gate.entered(*greedy)) == 2


def test_clients_take_turns(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_THREADS=1, MAX_WAITING_REQUESTS=4) as server:
        first, second = tmp_path / "a", tmp_path / "b"
        first.mkdir()
        second.mkdir()
        with Gate(server, first) as gate, Gate(server, second) as behind:
            gate.hold("running", peer=ONE)
            wait_until(lambda: gate.entered("running"))
            line = {f"{number}": behind.hold(f"{number}", peer=ONE) for number in range(5)}
            assert refused(line)  # the line has room for four
            # The line is full, but there is room for a neighbour, who is served second.
            line["neighbour"] = behind.hold("neighbour", peer=OTHER)
            assert refused(line) != "neighbour"
            gate.opened.touch()
            behind.opened.touch()
            for connection in line.values():
                assert Answer(connection).body == b"through"
            order = sorted(line, key=lambda name: int((second / name).read_text()))
            assert order.index("neighbour") == 1


def refused(line: dict[str, socket.socket]) -> str:
    """The waiting client that was told to come back; it is removed from the list."""
    (ready,) = select.select([*line.values()], [], [], 15)[0]
    (name,) = (name for name, connection in line.items() if connection is ready)
    assert Answer(line.pop(name)).is_refusal(503, "server_busy")
    return name


@pytest.mark.parametrize(("busy", "free"), [("/gate", "/api/gate"), ("/api/gate", "/gate")])
def test_neither_the_staff_portal_nor_the_intake_takes_all_threads(
    tmp_path: Path, busy: str, free: str
) -> None:
    with serving(tmp_path, WEB_THREADS=4) as server, Gate(server, tmp_path) as gate:
        names = [f"{number}" for number in range(8)]
        for number, name in enumerate(names):
            gate.hold(name, peer=f"127.0.1.{number + 1}", path=busy)
        wait_until(lambda: len(gate.entered(*names)) == 3)
        gate.hold("free", peer="127.0.1.1", path=free)
        wait_until(lambda: gate.entered("free"))
        assert len(gate.entered(*names)) == 3


# --- connections -------------------------------------------------------------------------------


def test_a_client_that_does_not_read_its_answer_is_cut_off_and_costs_little(
    tmp_path: Path,
) -> None:
    readers, answer_bytes = 60, 4_000_000
    # Each thread holds the answer that it makes, however many clients there are.
    with serving(tmp_path, READ_TIMEOUT_SECONDS=3, WEB_THREADS=2) as server:
        assert len(server.ask(f"GET /large?bytes={answer_bytes}").body) == answer_bytes
        before = server.peak_memory_bytes()
        with contextlib.ExitStack() as stack:
            for _ in range(readers):
                stack.enter_context(server.send(f"GET /large?bytes={answer_bytes}"))
            wait_until(lambda: server.connections() == readers)
            assert len(server.ask(f"GET /large?bytes={answer_bytes}").body) == answer_bytes
            wait_until(lambda: server.connections() == 0, seconds=30)
        assert server.peak_memory_bytes() - before < readers * answer_bytes / 4
        cut = [e["count"] for e in server.events() if e["event"] == "connections_not_reading_cut"]
        assert sum(cut) == readers


def test_a_peer_beyond_its_connections_loses_the_newest(tmp_path: Path) -> None:
    with serving(tmp_path, MAX_CONNECTIONS_PER_PEER=5) as server, contextlib.ExitStack() as stack:
        old = [stack.enter_context(server.connect(ONE)) for _ in range(5)]
        other = stack.enter_context(server.connect(OTHER))
        crowd = [stack.enter_context(server.connect("127.0.0.4")) for _ in range(6)]
        # One of these is cut: then the server has counted all of the connections above.
        assert select.select(crowd, [], [], 120)[0]
        new = []
        for _ in range(20):
            with contextlib.suppress(BrokenPipeError):  # it is cut while it is made
                new.append(stack.enter_context(server.connect(ONE)))
        for connection in new:
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
        for connection in (*old, other):
            connection.sendall(b"GET /echo HTTP/1.1\r\nHost: edge\r\n\r\n")
            assert Answer(connection).status == 200
