"""The web server's entry, served by a real Granian and talked to over real sockets."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

ROOT = Path(__file__).resolve().parent.parent
CAP = 2**20
LARGE = 600_000  # past what always has room
CHUNKED = "Transfer-Encoding: chunked"


def wait_until(condition: Callable[[], Any], seconds: float = 15) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return result


class Server:
    """A running Granian with one worker."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process, self.port, self._log = process, port, log
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        self.worker = int(wait_until(children.read_text).split()[0])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=15)

    def send(self, *lines: str, body: bytes = b"") -> socket.socket:
        """A connection on which this request was sent; the Host is added."""
        connection = self.connect()
        head = "\r\n".join((f"{lines[0]} HTTP/1.1", "Host: edge", *lines[1:]))
        connection.sendall(head.encode("latin-1") + b"\r\n\r\n" + body)
        return connection

    def ask(self, *lines: str, body: bytes = b"") -> Answer:
        with self.send(*lines, body=body) as connection:
            return Answer(connection, lines[0].split()[0])

    def echo(self, *lines: str, path: str = "/echo", body: bytes = b"") -> dict[str, Any]:
        answer = self.ask(f"POST {path}", f"Content-Length: {len(body)}", *lines, body=body)
        assert answer.status == 200
        return answer.json()

    def events(self) -> list[dict[str, Any]]:
        """What was logged as JSON so far."""
        lines = self._log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def is_deaf(self) -> bool:
        """Whether nobody listens on the port any more."""
        try:
            self.connect().close()
        except ConnectionRefusedError:
            return True
        return False

    def connections(self) -> int:
        """How many connections the server holds open (proc(5), /proc/net/tcp)."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        ours = [row for row in rows if row[1].endswith(f":{self.port:04X}")]
        return sum(row[3] != "0A" and row[9] != "0" for row in ours)  # neither listening nor gone

    def peak_memory_bytes(self) -> int:
        status = Path(f"/proc/{self.worker}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024


class Answer:
    """One response, read off a connection."""

    def __init__(self, connection: socket.socket, method: str = "GET") -> None:
        response = http.client.HTTPResponse(connection, method=method)
        response.begin()
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    def json(self) -> Any:
        return json.loads(self.body)

    def is_refusal(self, status: int, code: str) -> bool:
        document = self.json()
        assert document["success"] is False and document["error"] and document["timestamp"]
        assert document["request_id"] == self.headers["X-Request-ID"]
        assert self.headers["Content-Type"] == "application/json"
        return (self.status, document["code"]) == (status, code)


@contextlib.contextmanager
def serving(folder: Path, **bounds: int) -> Iterator[Server]:
    with socket.socket() as reserved:  # held without listening, so that the port stays ours
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        log = folder / "server.log"
        command = [sys.executable, "-m", "granian", "--interface", "rsgi", "--http", "1", "--no-ws"]
        command += ["--port", str(port), "--workers-kill-timeout", "20"]
        environment = {name: str(value) for name, value in bounds.items()}
        environment["DJANGO_SETTINGS_MODULE"] = "tests.rsgi_site"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "tutormax.rsgi:application"],
                cwd=ROOT,
                env=os.environ | environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            server = Server(process, port, log)
            wait_until(lambda: not server.is_deaf())
            yield server
        finally:
            process.terminate()
            process.wait(timeout=30)
            with contextlib.suppress(ProcessLookupError):  # a worker that was left behind
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("edge")) as server:
        yield server


def read_until(connection: socket.socket, end: bytes) -> bytes:
    received = b""
    while end not in received:
        received += connection.recv(1000) or pytest.fail("the connection ended")
    return received


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


# --- bodies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 553, LARGE, CAP])
def test_a_body_arrives_whole(server: Server, size: int) -> None:
    body = os.urandom(size)
    echo = server.echo(body=body)
    assert echo["sha256"] == hashlib.sha256(body).hexdigest()
    assert echo["environ"]["CONTENT_LENGTH"] == str(size)


def test_a_chunked_body_arrives_whole_and_with_its_true_length(server: Server) -> None:
    body = os.urandom(CAP)
    sent = b"".join(chunk(body[i : i + 50_000]) for i in range(0, CAP, 50_000)) + chunk(b"")
    echo = server.ask("POST /echo", CHUNKED, body=sent).json()
    assert echo["sha256"] == hashlib.sha256(body).hexdigest()
    assert echo["environ"]["CONTENT_LENGTH"] == str(CAP)
    assert "HTTP_TRANSFER_ENCODING" not in echo["environ"]


def test_a_body_announced_over_the_cap_is_refused_before_it_is_sent(server: Server) -> None:
    answer = server.ask("POST /echo", f"Content-Length: {CAP + 1}", "X-Request-ID: abc-1")
    assert answer.is_refusal(413, "body_too_large")
    assert answer.headers["X-Request-ID"] == "abc-1"


def test_an_odd_request_id_is_replaced(server: Server) -> None:
    answer = server.ask("POST /echo", f"Content-Length: {CAP + 1}", 'X-Request-ID: a "b"')
    assert answer.is_refusal(413, "body_too_large")
    assert len(answer.headers["X-Request-ID"]) == 32


def test_a_sender_far_over_the_cap_reads_the_refusal_and_may_go_on(server: Server) -> None:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=15)
    for body in (bytes(20 * CAP), iter([bytes(CAP)] * 20)):
        client.request("POST", "/echo", body=body)
        response = client.getresponse()
        assert response.status == 413 and json.loads(response.read())["code"] == "body_too_large"
    client.request("POST", "/echo", body=b"fits")
    assert json.loads(client.getresponse().read())["bytes"] == 4
    client.close()


def test_a_chunked_body_over_the_cap_is_refused_before_it_ends_and_never_held(
    server: Server,
) -> None:
    before = server.peak_memory_bytes()
    with server.send("POST /echo", CHUNKED) as connection:
        for _ in range(100):
            connection.sendall(chunk(bytes(CAP)))
        assert Answer(connection).is_refusal(413, "body_too_large")
    assert server.peak_memory_bytes() - before < 20 * CAP


def test_a_body_that_stalls_or_trickles_is_refused_and_its_socket_freed(tmp_path: Path) -> None:
    with serving(tmp_path, BODY_TIMEOUT_SECONDS=1) as server:
        small = server.send("POST /echo", "Content-Length: 9")
        large = server.send("POST /echo", f"Content-Length: {CAP}", body=bytes(LARGE))
        chunked = server.send("POST /echo", CHUNKED, body=chunk(b"a"))
        trickling = server.send("POST /echo", "Content-Length: 100")
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                trickling.sendall(b"x")
                time.sleep(0.02)
        for connection in (small, large, chunked, trickling):
            assert Answer(connection).is_refusal(408, "request_timeout")
            assert connection.recv(1) == b""
        # One that was refused for its size and then stalls is not waited for either.
        refused = server.send("POST /echo", f"Content-Length: {CAP + 1}", "X-Request-ID: once")
        assert Answer(refused).is_refusal(413, "body_too_large")
        assert refused.recv(1) == b""
        wait_until(lambda: server.connections() == 0)
        assert [e["status"] for e in server.events() if e["request_id"] == "once"] == [413]
        for connection in (small, large, chunked, trickling, refused):
            connection.close()


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("Content-Length: 10", b"short"),
        (f"Content-Length: {CAP}", bytes(LARGE)),
        (CHUNKED, chunk(b"whole") + b"9\r\nshort"),
        (CHUNKED, chunk(b"whole")),
        (CHUNKED, chunk(b"whole") + b"nonsense\r\n"),
    ],
)
def test_a_body_that_breaks_off_never_reaches_the_site(
    server: Server, header: str, body: bytes
) -> None:
    with server.send("POST /echo", header, body=body) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert Answer(connection).is_refusal(400, "malformed_request")


@pytest.mark.parametrize(
    "lengths",
    [("Content-Length: 3", "Content-Length: 4"), ("Content-Length: 3x",), ("Content-Length: -3",)],
)
def test_lengths_that_contradict_or_are_none_are_refused(
    server: Server, lengths: tuple[str, ...]
) -> None:
    with server.send("POST /echo", *lengths, body=b"abcd") as connection:
        assert Answer(connection).status == 400
        assert connection.recv(1) == b""


def test_a_sender_that_asks_first_is_told_to_go_on_or_refused(server: Server) -> None:
    with server.send("POST /echo", f"Content-Length: {LARGE}", "Expect: 100-continue") as wants:
        assert wants.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n")
        wants.sendall(bytes(LARGE))
        assert Answer(wants).json()["bytes"] == LARGE
    answer = server.ask("POST /echo", f"Content-Length: {CAP + 1}", "Expect: 100-continue")
    assert answer.is_refusal(413, "body_too_large")


# --- bounds ------------------------------------------------------------------------------------


def test_five_hundred_stalled_bodies_keep_nobody_waiting(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        for header in ("Content-Length: 1000", f"Content-Length: {LARGE}", CHUNKED) * 167:
            stack.enter_context(server.send("POST /echo", header))
        wait_until(lambda: server.connections() >= 500)
        assert server.echo(body=b"small")["bytes"] == 5
        assert server.echo(body=bytes(CAP))["bytes"] == CAP


def test_past_the_threads_and_the_line_a_request_is_told_to_come_back(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_THREADS=1, MAX_WAITING_REQUESTS=1) as server:
        entered, opened = tmp_path / "entered", tmp_path / "open"
        gate = f"GET /gate?entered={entered}&open={opened}"
        with server.send(gate) as running:
            wait_until(entered.exists)
            with server.send(gate) as one, server.send(gate) as other:
                (refused,) = select.select([one, other], [], [], 15)[
                    0
                ]  # and the other waits for the thread
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
        # One that is refused half-way gives back its share at once, also when it stays connected.
        with server.send("POST /echo", CHUNKED, body=chunk(bytes(LARGE)) + chunk(b"x")) as refused:
            assert Answer(refused).is_refusal(503, "server_busy")
            wait_until(lambda: server.ask("POST /echo", large, body=bytes(LARGE)).status == 200)


def test_a_file_from_staff_may_be_larger_than_a_body_of_the_api(server: Server) -> None:
    body = bytes(range(256)) * (3 * 2**20 // 256)
    length = f"Content-Length: {len(body)}"
    form = "Content-Type: multipart/form-data; boundary=x"
    signed_in = "Cookie: sessionid=x"
    answer = server.ask("POST /admin/upload/", length, form, signed_in, body=body)
    assert answer.status == 200
    assert json.loads(answer.body)["sha256"] == hashlib.sha256(body).hexdigest()
    for request, headers in (
        ("POST /admin/upload/", (length, form)),
        ("POST /admin/upload/", (length, signed_in)),
        ("POST /echo", (length, form, signed_in)),
    ):
        assert server.ask(request, *headers, body=body).is_refusal(413, "body_too_large")
    beyond = f"Content-Length: {5 * 2**20}"
    refused = server.ask("POST /admin/upload/", beyond, form, signed_in, body=b"")
    assert refused.is_refusal(413, "body_too_large")


# --- what Django is told, and what the client gets back -----------------------------------------


def test_the_environ_tells_the_request_as_it_was_sent(server: Server) -> None:
    environ = server.echo(
        "Content-Type: text/csv",
        "X-Twice: a",
        "X-Twice: b",
        "Cookie: a=1",
        "Cookie: b=2",
        "X_Forged: 1",
        "X-Odd: \xff",
        path="/echo/caf%C3%A9%20%2F?q=%2F&r=caf%C3%A9",
    )["environ"]
    assert (
        environ.items()
        >= {
            "REQUEST_METHOD": "POST",
            "SCRIPT_NAME": "",
            "PATH_INFO": "/echo/café /",
            "QUERY_STRING": "q=%2F&r=caf%C3%A9",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": str(server.port),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": "text/csv",
            "CONTENT_LENGTH": "0",
            "HTTP_HOST": "edge",
            "HTTP_X_TWICE": "a,b",
            "HTTP_COOKIE": "a=1; b=2",
            "HTTP_X_ODD": "",
            "wsgi.url_scheme": "http",
            "wsgi.multithread": True,
            "wsgi.run_once": False,
        }.items()
    )
    assert "HTTP_X_FORGED" not in environ


def test_a_full_address_overrules_the_host_header(server: Server) -> None:
    assert server.echo(path="http://other:81/echo")["environ"]["HTTP_HOST"] == "other:81"


def test_every_cookie_is_sent_and_the_connection_stays_open(server: Server) -> None:
    with server.send("GET /echo", body=b"GET /echo HTTP/1.1\r\nHost: edge\r\n\r\n") as connection:
        first = Answer(connection)
        assert [c.partition(";")[0] for c in first.headers.get_all("Set-Cookie")] == [
            "first=1",
            "second=2",
        ]
        connection.sendall(b"GET /echo HTTP/1.1\r\nHost: edge\r\n\r\n")
        assert Answer(connection).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/gate?entered=/dev/null&open=/dev/null",
        "/stream?closed=/dev/null",
        f"/file?name={__file__}",
    ],
)
def test_head_answers_without_a_body(server: Server, path: str) -> None:
    with server.send(f"HEAD {path}") as connection:
        head = Answer(connection, "HEAD")
        assert head.status == 200
        if not path.startswith("/stream"):
            length = int(head.headers["Content-Length"])
            assert length == len(server.ask(f"GET {path}").body)
        connection.sendall(b"GET /echo HTTP/1.1\r\nHost: edge\r\n\r\n")
        assert Answer(connection).json()["bytes"] == 0


def test_a_stream_is_sent_as_it_comes_and_then_closed(server: Server, tmp_path: Path) -> None:
    opened, closed = tmp_path / "open", tmp_path / "closed"
    with server.send(f"GET /stream?open={opened}&closed={closed}", "Connection: close") as reader:
        received = read_until(reader, b"first")
        assert not closed.exists()
        opened.touch()
        while piece := reader.recv(1000):
            received += piece
    assert received.endswith(chunk(b"first") + chunk(b"second") + chunk(b""))
    wait_until(closed.exists)


def test_a_stream_whose_reader_leaves_is_closed_without_a_word(
    server: Server, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    with server.send(f"GET /stream?closed={closed}") as reader:
        read_until(reader, b"first")
    wait_until(closed.exists)
    assert server.ask("GET /echo").status == 200
    assert not [e for e in server.events() if "ProtocolClosed" in e.get("raised", "")]


def test_a_stream_that_breaks_is_in_the_log_with_its_place(server: Server, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    server.ask(f"GET /stream?open=/dev/null&break&closed={closed}")
    wait_until(closed.exists)
    wait_until(lambda: any("tests/rsgi_site.py:" in e.get("raised", "") for e in server.events()))


def test_a_stream_without_a_reader_does_not_hold_up_the_end(tmp_path: Path) -> None:
    opened, closed = tmp_path / "open", tmp_path / "closed"
    with serving(tmp_path) as server:
        with server.send(f"GET /stream?open={opened}&closed={closed}") as reader:
            read_until(reader, b"first")
        server.process.terminate()
        wait_until(server.is_deaf)
        opened.touch()
        assert server.process.wait(timeout=15) == 0
    assert closed.exists()


def test_a_file_is_sent_whole(server: Server, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(content)
    answer = server.ask(f"GET /file?name={tmp_path / 'file'}")
    assert answer.headers["Content-Length"] == str(len(content))
    assert answer.body == content


def test_a_fault_past_django_is_a_plain_500_with_its_place_in_the_log(server: Server) -> None:
    answer = server.ask("GET /crash", "X-Request-ID: crashed")
    assert answer.is_refusal(500, "internal_error")
    assert b"own handlers" not in answer.body
    raised = [e["raised"] for e in server.events() if e["event"] == "request_failed"]
    assert any(re.match("RuntimeError .*/rsgi_site.py:", one) for one in raised)


# --- log, start and end ------------------------------------------------------------------------


def test_each_refusal_is_one_line_in_the_log(server: Server) -> None:
    server.ask("POST /echo?secret", f"Content-Length: {CAP + 1}", "X-Request-ID: one-line")
    events = wait_until(lambda: [e for e in server.events() if e.get("request_id") == "one-line"])
    (event,) = events
    assert event["duration_ms"] >= 0
    assert (
        event.items()
        >= {
            "event": "request",
            "method": "POST",
            "path": "/echo",
            "status": 413,
            "code": "body_too_large",
        }.items()
    )


@pytest.mark.parametrize("pressed", [0, 1, 3])
def test_a_running_request_is_finished_however_often_the_server_is_told_to_end(
    tmp_path: Path, pressed: int
) -> None:
    entered, opened, closed = (tmp_path / name for name in ("entered", "open", "closed"))
    with serving(tmp_path, WEB_THREADS=1) as server:
        with (
            server.send(f"GET /gate?entered={entered}&open={opened}") as running,
            server.send(f"GET /stream?open={opened}&closed={closed}") as waiting,
        ):
            wait_until(entered.exists)
            for _ in range(pressed):  # Ctrl-C reaches the worker as well
                os.kill(server.worker, signal.SIGINT)
                time.sleep(0.1)  # signals that wait together count as one
            server.process.send_signal(signal.SIGINT if pressed else signal.SIGTERM)
            wait_until(server.is_deaf)
            opened.touch()
            assert Answer(running).body == b"through"
            assert Answer(waiting).body == b"firstsecond"
        assert server.process.wait(timeout=15) == 0
    assert closed.exists()


def test_a_stop_in_a_burst_of_requests_is_heard(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        with contextlib.ExitStack() as stack:
            for _ in range(500):
                stack.enter_context(server.send("POST /echo", "Content-Length: 1000"))
            wait_until(lambda: server.connections() >= 500)
        server.process.terminate()  # while five hundred broken connections wake the loop
        assert server.process.wait(timeout=15) == 0


def test_the_worker_ends_with_a_main_process_that_was_killed(tmp_path: Path) -> None:
    entered, opened = tmp_path / "entered", tmp_path / "open"
    with serving(tmp_path) as server:
        with server.send(f"GET /gate?entered={entered}&open={opened}") as running:
            wait_until(entered.exists)
            server.process.kill()
            wait_until(server.is_deaf)
            opened.touch()
            assert Answer(running).body == b"through"
        wait_until(lambda: not Path(f"/proc/{server.worker}").exists())
