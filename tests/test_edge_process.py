"""The processes of the web server: their log, their end, and their replacement."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web_server import (
    CAP,
    Answer,
    Server,
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
            for _ in range(pressed):  # Ctrl-C reaches the worker too
                os.kill(server.worker, signal.SIGINT)
                time.sleep(0.1)  # signals that wait together count as one
            server.process.send_signal(signal.SIGINT if pressed else signal.SIGTERM)
            wait_until(server.is_deaf)
            opened.touch()
            assert Answer(running).body == b"through"
            assert Answer(waiting).body == b"firstsecond"
        assert server.process.wait(timeout=120) == 0
    assert closed.exists()


def test_a_stop_in_a_burst_of_requests_is_heard(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        with contextlib.ExitStack() as stack:
            for _ in range(500):
                stack.enter_context(server.send("POST /echo", "Content-Length: 1000"))
            wait_until(lambda: server.connections() >= 500)
        server.process.terminate()  # while five hundred broken connections wake the loop
        assert server.process.wait(timeout=120) == 0


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


def test_a_worker_that_holds_the_interpreter_is_replaced(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_SILENCE_SECONDS=2) as server:
        with server.send(f"GET /hang?entered={tmp_path / 'entered'}") as hanging:
            wait_until((tmp_path / "entered").exists)
            with contextlib.suppress(ConnectionResetError):
                assert hanging.recv(1) == b""
        wait_until(lambda: server.workers() not in ([], [str(server.worker)]))
        wait_until(lambda: not server.is_deaf())
        assert server.ask("GET /echo").status == 200
        assert [e["worker"] for e in server.events() if e["event"] == "web_worker_silent"] == [
            server.worker
        ]
