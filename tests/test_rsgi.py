"""The web server's entry: what it makes of a body, and what Django and the client are told."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
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


@pytest.mark.parametrize(
    "lengths",
    [("Content-Length: 5", CHUNKED), (CHUNKED, "Content-Length: 5")],
)
def test_behind_a_body_with_two_lengths_no_second_request_is_smuggled(
    server: Server, lengths: tuple[str, ...]
) -> None:
    body = chunk(b"") + b"GET /echo HTTP/1.1\r\nHost: edge\r\n\r\n"
    with server.send("POST /echo", *lengths, body=body) as connection:
        assert Answer(connection).json()["bytes"] == 0
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""


def test_a_request_that_names_no_site_is_refused(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /echo HTTP/1.1\r\n\r\n")
        assert Answer(connection).is_refusal(400, "malformed_request")


def test_a_request_of_http_1_0_needs_no_host(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /echo HTTP/1.0\r\n\r\n")
        assert Answer(connection).status == 200


def test_a_sender_that_asks_first_is_told_to_go_on_or_refused(server: Server) -> None:
    with server.send("POST /echo", f"Content-Length: {LARGE}", "Expect: 100-continue") as wants:
        assert wants.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n")
        wants.sendall(bytes(LARGE))
        assert Answer(wants).json()["bytes"] == LARGE
    answer = server.ask("POST /echo", f"Content-Length: {CAP + 1}", "Expect: 100-continue")
    assert answer.is_refusal(413, "body_too_large")


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
        "/stream?open=/dev/null&closed=/dev/null",
        "/large?bytes=300000",
        f"/file?name={__file__}",
    ],
)
def test_head_answers_without_a_body(server: Server, path: str) -> None:
    with server.send(f"HEAD {path}") as connection:
        head = Answer(connection, "HEAD")
        assert head.status == 200
        length = int(head.headers["Content-Length"])
        assert length == len(server.ask(f"GET {path}").body)
        connection.sendall(b"GET /echo HTTP/1.1\r\nHost: edge\r\n\r\n")
        assert Answer(connection).json()["bytes"] == 0


def test_a_stream_is_sent_whole_with_its_length_and_then_closed(
    server: Server, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    answer = server.ask(f"GET /stream?open=/dev/null&closed={closed}")
    assert answer.body == b"firstsecond"
    assert answer.headers["Content-Length"] == "11"
    wait_until(closed.exists)


def test_nothing_is_sent_of_a_stream_that_breaks_and_its_place_is_in_the_log(
    server: Server, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    answer = server.ask(f"GET /stream?open=/dev/null&break&closed={closed}")
    assert answer.is_refusal(500, "internal_error")
    wait_until(closed.exists)
    wait_until(lambda: any("tests/rsgi_site.py:" in e.get("raised", "") for e in server.events()))


def test_a_reader_that_leaves_does_not_hold_up_the_end(tmp_path: Path) -> None:
    opened, closed = tmp_path / "open", tmp_path / "closed"
    entered = tmp_path / "entered"
    with serving(tmp_path) as server:
        with server.send(f"GET /gate?entered={entered}&open={opened}"):
            wait_until(entered.exists)
            server.send(f"GET /stream?open={opened}&closed={closed}").close()
        server.process.terminate()
        wait_until(server.is_deaf)
        opened.touch()
        assert server.process.wait(timeout=120) == 0


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 256 * 1024 + 1, 3_000_000])
def test_an_answer_of_any_size_arrives_whole(server: Server, size: int) -> None:
    answer = server.ask(f"GET /large?bytes={size}")
    assert (answer.status, len(answer.body)) == (200, size)
    assert answer.headers["Content-Length"] == str(size)


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
