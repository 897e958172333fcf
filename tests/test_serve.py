"""`manage.py serve`: from an empty folder to a running portal, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from redis import Redis

from ingestion import embedded
from tests.faults.sending import web_processes
from tests.portal_process import ROOT, Portal, running_portal
from tests.record_types import TUTORS

pytestmark = pytest.mark.processes

EXAMPLE = dict(TUTORS.serializer_class.example)


def _processes_with(data_dir: Path) -> list[str]:
    """The command lines of live processes that work in this folder, by their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # gone meanwhile
            continue
        if f"DATA_DIR={data_dir}".encode() in environment.split(b"\0") and command:
            found.append(command)
    return found


def _wait_until_nothing_runs(data_dir: Path) -> None:
    deadline = time.monotonic() + 120
    while _processes_with(data_dir):
        assert time.monotonic() < deadline, _processes_with(data_dir)
        time.sleep(0.05)


def _refusal(data_dir: Path, **environment: str) -> str:
    """The only sentence of a portal that does not start."""
    portal = Portal(data_dir, **environment)
    assert portal.process.wait(60) == 1, portal.printed
    assert "Traceback" not in portal.printed
    return portal.printed


def test_a_first_start_makes_everything_and_takes_a_record(tmp_path):
    with running_portal(tmp_path / "var") as portal:
        assert f"{portal.address}/docs" in portal.printed
        assert portal.password
        answer = portal.post("/api/tutors", EXAMPLE)
        assert answer.status == 201
        with Redis.from_url(embedded.url(tmp_path / "var")) as store:
            assert store.llen(TUTORS.queue) == 1
            assert store.config_get("appendfsync") == {"appendfsync": "always"}
        assert portal.get("/docs").status == 200
        assert portal.get("/static/admin/css/base.css").status == 200
        assert portal.end(signal.SIGINT) == 0
    _wait_until_nothing_runs(tmp_path / "var")


def test_a_second_start_finds_the_data_and_prints_no_password(tmp_path):
    with running_portal(tmp_path / "var") as portal:
        assert portal.post("/api/tutors", EXAMPLE).status == 201
    with running_portal(tmp_path / "var") as portal:
        assert "Password" not in portal.printed
        assert portal.get("/api/queue/stats").json()["queues"]["tutors"] == 1


def test_a_second_instance_is_told_that_the_port_is_in_use(tmp_path):
    with running_portal(tmp_path / "var") as portal:
        said = _refusal(tmp_path / "var", PORT=str(portal.port))
        assert f"port {portal.port}" in said
        assert "set PORT to a free one" in said
        assert portal.get("/health").json()["status"] == "healthy"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_a_killed_portal_leaves_nothing_behind_and_starts_again(tmp_path):
    with running_portal(tmp_path / "var") as portal:
        assert portal.post("/api/tutors", EXAMPLE).status == 201
        portal.end(signal.SIGKILL)
    _wait_until_nothing_runs(tmp_path / "var")
    with running_portal(tmp_path / "var", PORT=str(portal.port)) as again:
        assert again.get("/api/queue/stats").json()["queues"]["tutors"] == 1


def test_a_killed_store_comes_back_by_itself_with_its_data(tmp_path):
    with running_portal(tmp_path / "var") as portal:
        assert portal.post("/api/tutors", EXAMPLE).status == 201
        store = embedded.find(tmp_path / "var")
        assert store is not None
        os.kill(store.pid, signal.SIGKILL)
        portal.wait_for(lambda: portal.get("/health/ready").status == 503)
        portal.wait_for(lambda: portal.get("/health/ready").status == 200)
        assert portal.get("/api/queue/stats").json()["queues"]["tutors"] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_web_server_that_died_is_started_again(tmp_path):
    with running_portal(tmp_path / "var") as portal:
        assert portal.post("/api/tutors", EXAMPLE).status == 201
        killed = web_processes(portal)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        portal.wait_for(lambda: (now := web_processes(portal)) and not {*killed} & {*now})
        portal.wait_for(lambda: _listens(portal.port))
        assert portal.post("/api/tutors", EXAMPLE).status == 201
        assert portal.end() == 0
    _wait_until_nothing_runs(tmp_path / "var")


def test_with_redis_url_that_store_is_used_and_none_is_started(tmp_path):
    with (
        embedded.running(tmp_path / "other") as other,
        running_portal(tmp_path / "var", REDIS_URL=other.url) as portal,
    ):
        assert portal.post("/api/tutors", EXAMPLE).status == 201
        with Redis.from_url(other.url) as store:
            assert store.llen(TUTORS.queue) == 1
        assert embedded.find(tmp_path / "var") is None
        assert other.url.partition("?")[0] in portal.printed


def _make_key(data_dir: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", "api_key", *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tutormax.settings",
            "DATA_DIR": str(data_dir),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.strip()


def test_an_address_that_others_can_reach_is_refused_until_there_is_a_key(tmp_path):
    everywhere = {"HOST": "0.0.0.0"}  # noqa: S104
    said = _refusal(tmp_path / "var", **everywhere)
    assert "manage.py api_key create" in said
    assert "OPEN_WITHOUT_KEY" in said
    assert embedded.find(tmp_path / "var") is None
    _make_key(tmp_path / "var", "create", "scheduler", "--scope", "tutors")
    with running_portal(tmp_path / "var", **everywhere) as portal:
        assert "from this machine without a key, from others with one" in portal.printed
        assert portal.password
    _make_key(tmp_path / "var", "revoke", "scheduler")
    assert "manage.py api_key create" in _refusal(tmp_path / "var", **everywhere)


def test_such_an_address_is_served_if_a_setting_opens_it(tmp_path):
    with running_portal(tmp_path / "var", HOST="0.0.0.0", OPEN_WITHOUT_KEY="true") as portal:  # noqa: S104
        assert "taken from everybody" in portal.printed
        assert portal.post("/api/tutors", EXAMPLE).status == 201


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    said = _refusal(tmp_path / "file" / "var")
    assert "DATA_DIR" in said


def test_a_wrong_setting_is_named_before_anything_starts(tmp_path):
    said = _refusal(tmp_path / "var", MAX_BATCH_RECORDS="many")
    assert "MAX_BATCH_RECORDS must be a whole number" in said
    assert embedded.find(tmp_path / "var") is None


def test_a_running_request_is_finished_before_the_end(tmp_path):
    with running_portal(tmp_path / "var") as portal:
        body = json.dumps(EXAMPLE).encode()
        connection = http.client.HTTPConnection("127.0.0.1", portal.port, timeout=120)
        connection.putrequest("POST", "/api/tutors")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:100])
        time.sleep(0.5)  # until the server has taken up the request
        portal.process.send_signal(signal.SIGTERM)
        portal.wait_for(lambda: not _listens(portal.port))
        connection.send(body[100:])
        assert connection.getresponse().status == 201
        assert portal.process.wait(60) == 0


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
