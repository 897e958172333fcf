"""`manage.py generate`: the real command against the real portal."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import urllib3
from django.core.management import CommandError, call_command
from redis import Redis

from ingestion import embedded
from ingestion.client import Delivery, Portal, Record
from ingestion.generator import generate
from ingestion.management.commands import generate as command
from ingestion.records import RECORD_TYPES, RecordType

ROOT = Path(__file__).resolve().parent.parent
DAY = date(2024, 5, 13)


def manage(*arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        timeout=60,
    )


def environment(**variables: str) -> dict[str, str]:
    return os.environ | {"DJANGO_SETTINGS_MODULE": "tutormax.settings"} | variables


def send_tutors(url: str, number: int, *manner: str) -> None:
    call_command("generate", "--type", "tutors", "--tutors", str(number), "--post", url, *manner)


@pytest.mark.parametrize("manner", [["--single"], []], ids=["singly", "in batches"])
def test_with_a_key_the_records_are_the_clients(portal: RunningPortal, manner: list[str]) -> None:
    making = ("create", f"sender-{len(manner)}", "--scope", "tutors")
    made = manage("api_key", *making, DATA_DIR=str(portal.data_dir))
    send_tutors(portal.url, 2, "--key", made.stdout.decode().strip(), *manner)
    sources = {message["source"] for message in portal.queue(RECORD_TYPES["tutors"])}
    assert sources == {f"api:sender-{len(manner)}"}


def test_half_a_key_is_not_sent() -> None:
    with pytest.raises(CommandError, match="no whole API key"):
        send_tutors("http://127.0.0.1:9", 1, "--key", "tmx_half")


def unused_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, kw_only=True, slots=True)
class RunningPortal:
    url: str
    port: int
    data_dir: Path
    store: Redis

    def queue(self, kind: RecordType) -> list[Any]:
        """The messages, the next to be taken first."""
        return [json.loads(message) for message in self.store.lrange(kind.queue, 0, -1)[::-1]]

    def depths(self) -> dict[str, int]:
        answer = urllib3.request("GET", f"{self.url}/api/queue/stats", retries=False)
        depths: dict[str, int] = answer.json()["queues"]
        return depths


@pytest.fixture(scope="module")
def _served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    data_dir, port = tmp_path_factory.mktemp("portal"), unused_port()
    url = f"http://127.0.0.1:{port}"
    with (data_dir / "serve.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "manage.py", "serve"],
            cwd=ROOT,
            env=environment(DATA_DIR=str(data_dir), PORT=str(port)),
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 60
        while not is_ready(url):
            assert server.poll() is None and time.monotonic() < deadline, log.name
            time.sleep(0.05)
        with Redis.from_url(embedded.url(data_dir)) as store:
            yield RunningPortal(url=url, port=port, data_dir=data_dir, store=store)
    finally:
        server.terminate()
        server.wait(timeout=30)


def is_ready(url: str) -> bool:
    try:
        return urllib3.request("GET", f"{url}/health/ready", retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False


@pytest.fixture
def portal(_served: RunningPortal) -> RunningPortal:
    """The running portal, its queues empty."""
    _served.store.flushall()
    return _served


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    path: str
    key: str
    body: bytes


Answer = tuple[int, Mapping[str, str], bytes]
ACCEPTED: Answer = (201, {}, b'{"success": true}')


class ScriptedPortal(HTTPServer):
    """Gives one answer after the other; None closes the connection in place of an answer."""

    def __init__(self, *answers: Answer | None) -> None:
        self.answers = iter(answers)
        self.requests: list[Request] = []
        super().__init__(("127.0.0.1", 0), ScriptedAnswers, bind_and_activate=False)
        self.server_bind()
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.thread: Thread | None = None

    def listen(self) -> None:
        """From here on connections are not refused any more."""
        if self.thread is None:
            self.server_activate()
            self.thread = Thread(target=self.serve_forever, args=(0.01,))
            self.thread.start()

    def end(self) -> None:
        if self.thread is not None:
            self.shutdown()
            self.thread.join()
        self.server_close()


class ScriptedAnswers(BaseHTTPRequestHandler):
    server: ScriptedPortal

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        key = self.headers["Idempotency-Key"]
        self.server.requests.append(Request(path=self.path, key=key, body=body))
        answer = next(self.server.answers)
        if answer is not None:
            status, headers, content = answer
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing to the terminal."""


Scripted = Callable[..., ScriptedPortal]


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    portals: list[ScriptedPortal] = []

    def start(*answers: Answer | None, listening: bool = True) -> ScriptedPortal:
        portals.append(ScriptedPortal(*answers))
        if listening:
            portals[-1].listen()
        return portals[-1]

    yield start
    for one in portals:
        one.end()


def refused(status: int, retry_after: str | None = None, **document: str) -> Answer:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return status, headers, json.dumps({"success": False, **document}).encode()


def rows(output: str) -> list[list[str]]:
    """The rows of the tables in the output, without their headings."""
    return [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in output.splitlines()
        if line.startswith("│")
    ]


# --- sending ----------------------------------------------------------------------------------


def test_the_demo_queues_15_tutors_30_sessions_and_25_feedback(portal: RunningPortal) -> None:
    done = manage("generate", "--demo", PORT=str(portal.port), PYTHONIOENCODING="utf-8")
    output = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b""), output
    assert portal.depths() == {"tutors": 15, "sessions": 30, "feedbacks": 25}
    assert "15 tutors: 5 one by one, 10 as a batch; 15 accepted" in output
    assert [[queue, depth] for queue, depth, *_ in rows(output)] == [
        ["tutormax:queue:tutors", "15"],
        ["tutormax:queue:sessions", "30"],
        ["tutormax:queue:feedbacks", "25"],
    ]
    assert f"{portal.url}/admin/" in output


def test_the_demo_sends_five_tutors_one_by_one_and_ten_as_a_batch(portal: RunningPortal) -> None:
    call_command("generate", "--demo", portal.url)
    queued_at = [message["queued_at"] for message in portal.queue(RECORD_TYPES["tutors"])]
    assert len(set(queued_at[:5])) == 5
    assert len(set(queued_at[5:])) == 1
    assert queued_at == sorted(queued_at)


def test_a_day_of_load_is_on_the_queues_whole_and_in_order(
    portal: RunningPortal, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("generate", "--day", "--seed", "7", "--start", str(DAY), "--post", portal.url)
    made = generate(seed=7, tutors=300, sessions=3000, feedback=None, start=DAY, days=1).by_path
    for path, kind in RECORD_TYPES.items():
        assert [message["data"] for message in portal.queue(kind)] == list(made[path])
    given = len(made["feedback"])
    assert 2000 < given <= 2500
    assert portal.depths() == {"tutors": 300, "sessions": 3000, "feedbacks": given}
    output = capsys.readouterr().out
    assert rows(output) == [
        ["tutors", "300", "300", "0", "1", "0"],
        ["sessions", "3,000", "3,000", "0", "6", "0"],
        ["feedback", f"{given:,}", f"{given:,}", "0", "5", "0"],
    ]
    assert f"{3300 + given:,} records in " in output


@pytest.mark.parametrize(
    ("manner", "requests"), [(["--single"], 7), (["--batch-size", "3"], 3), ([], 1)]
)
def test_records_go_singly_or_in_batches(
    portal: RunningPortal,
    capsys: pytest.CaptureFixture[str],
    manner: list[str],
    requests: int,
) -> None:
    send_tutors(portal.url, 7, *manner)
    assert rows(capsys.readouterr().out) == [["tutors", "7", "7", "0", str(requests), "0"]]
    assert portal.depths() == {"tutors": 7, "sessions": 0, "feedbacks": 0}


def test_records_are_not_sent_faster_than_the_rate(scripted: Scripted) -> None:
    busy = scripted(*[ACCEPTED] * 10)
    started = time.monotonic()
    send_tutors(busy.url, 10, "--single", "--rate", "20")
    assert len(busy.requests) == 10
    assert time.monotonic() - started >= 0.5


def test_refused_records_are_told_with_field_and_code_and_the_exit_status_is_2(
    portal: RunningPortal, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoiled(**arguments: Any) -> Any:
        dataset = generate(**arguments)
        for tutor in dataset.by_path["tutors"][3:8]:
            tutor["email"] = "nobody"
        dataset.by_path["tutors"][7]["age"] = 17
        return dataset

    monkeypatch.setattr(command, "generate", spoiled)
    for manner, requests in (["--single"], "10"), (["--batch-size", "4"], "3"):
        portal.store.flushall()
        with pytest.raises(CommandError, match="5 of 10 records were refused") as refusal:
            send_tutors(portal.url, 10, *manner)
        assert refusal.value.returncode == 2
        assert rows(capsys.readouterr().out) == [
            ["tutors", "10", "5", "5", requests, "0"],
            ["tutors", "email", "invalid_email", "5"],
            ["tutors", "age", "min_value", "1"],
        ]
        assert portal.depths()["tutors"] == 5


def test_refusals_that_the_portal_does_not_name_are_counted(scripted: Scripted) -> None:
    named = {"index": 0, "id": None, "errors": [{"field": None, "code": "not_an_object"}]}
    answer = {"success": False, "count": 0, "rejected": 3, "errors": [named]}
    terse = scripted((422, {}, json.dumps(answer).encode()))
    (delivery,) = Portal(terse.url, api_prefix="/api").post_batches("tutors", [{}] * 3, 3)
    assert delivery == Delivery(
        sent=3,
        accepted=0,
        rejected=3,
        requests=1,
        retries=0,
        refusals={("(record)", "not_an_object"): 1, ("(not named)", "(not named)"): 2},
    )


# --- what goes wrong --------------------------------------------------------------------------


def test_without_a_portal_it_says_how_to_start_one() -> None:
    with closing(socket.socket()) as unheard:
        unheard.bind(("127.0.0.1", 0))
        done = manage("generate", "--demo", PORT=str(unheard.getsockname()[1]))
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert "(Connection refused). Start the portal with make run" in line


def test_a_portal_that_comes_up_meanwhile_gets_the_records(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    starting = scripted(ACCEPTED, listening=False)
    pause = time.sleep

    def pause_and_listen(seconds: float) -> None:
        pause(seconds)
        starting.listen()

    monkeypatch.setattr("urllib3.util.retry.time.sleep", pause_and_listen)
    send_tutors(starting.url, 1, "--single")
    assert rows(capsys.readouterr().out) == [["tutors", "1", "1", "0", "1", "2"]]
    assert len(starting.requests) == 1


def test_a_busy_portal_is_asked_again_with_the_same_key_and_body(
    scripted: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    busy = scripted(refused(503, "0", code="queue_full"), refused(429, "0"), ACCEPTED, ACCEPTED)
    send_tutors(busy.url, 2, "--single")
    assert rows(capsys.readouterr().out) == [["tutors", "2", "2", "0", "2", "2"]]
    first, second, third, other = busy.requests
    assert first == second == third
    assert first.path == "/api/tutors"
    assert first.key and other.key and first.key != other.key
    assert json.loads(first.body)["tutor_id"] != json.loads(other.body)["tutor_id"]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (refused(503, "0", outcome="unknown", error="Nobody knows."), "answered 503: Nobody knows"),
        (refused(503, error="No word of when."), "answered 503: No word of when"),
        (refused(413, error="Too large."), "answered 413: Too large"),
        ((404, {}, b"<h1>Not here</h1>"), "answered 404: Is this the address of a portal"),
        ((201, {}, b"Created!"), "does not answer like a portal"),
        ((301, {"Location": "http://127.0.0.1:9/"}, b""), "answered 301"),
        (None, "may or may not be on the queue"),
    ],
)
def test_what_may_be_queued_or_will_never_be_is_not_sent_again(
    scripted: Scripted, answer: Answer | None, sentence: str
) -> None:
    faulty = scripted(answer, ACCEPTED)
    with pytest.raises(CommandError, match=sentence) as fault:
        send_tutors(faulty.url, 1, "--single")
    assert fault.value.returncode == 1
    assert len(faulty.requests) == 1


def test_what_was_sent_before_a_fault_is_told(
    scripted: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    faulty = scripted(ACCEPTED, ACCEPTED, None)
    with pytest.raises(CommandError, match="broke"):
        send_tutors(faulty.url, 5, "--single")
    assert rows(capsys.readouterr().out) == [["tutors", "2", "2", "0", "2", "0"]]


def test_ctrl_c_ends_it_with_what_was_sent_and_no_trace(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def press_ctrl_c(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ingestion.management.commands.generate.time.sleep", press_ctrl_c)
    with pytest.raises(CommandError, match="Stopped before everything was sent"):
        send_tutors(scripted(ACCEPTED).url, 3, "--single", "--rate", "1")
    assert rows(capsys.readouterr().out) == [["tutors", "1", "1", "0", "1", "0"]]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--post", "127.0.0.1:8000"], "write it like http://127.0.0.1:8000"),
        (["--output", "-"], "name it with --type"),
        (["--output", "/dev/null/folder"], "Can not write to /dev/null/folder: Not a directory"),
        (["--demo", "--sessions", "3"], "ask for more sessions or for less feedback"),
        (["--post", "--start", "13.5.2024"], "write a date like 2024-05-14"),
        (["--post", "--rate", "0"], "write a whole number from 1 up"),
        ([], "one of the arguments --demo --post --output is required"),
    ],
)
def test_what_can_not_be_done_is_said_in_a_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        call_command("generate", *arguments)


# --- files ------------------------------------------------------------------------------------


def write(folder: Path, file_format: str) -> Mapping[str, Sequence[Record]]:
    """Write some records of each type into the folder; gives what must be there then."""
    sizes = ("--tutors", "40", "--sessions", "200", "--start", str(DAY))
    call_command("generate", *sizes, "--output", str(folder), "--format", file_format)
    return generate(seed=1, tutors=40, sessions=200, feedback=None, start=DAY, days=1).by_path


def from_json(content: str) -> list[Any]:
    found: list[Any] = json.loads(content)
    return found


def from_ndjson(content: str) -> list[Any]:
    assert content.endswith("\n")
    return [json.loads(line) for line in content.removesuffix("\n").split("\n")]


@pytest.mark.parametrize(("file_format", "read"), [("json", from_json), ("ndjson", from_ndjson)])
def test_json_files_hold_the_records_as_they_are(
    tmp_path: Path, file_format: str, read: Callable[[str], list[Any]]
) -> None:
    made = write(tmp_path / "new", file_format)
    assert {file.name for file in (tmp_path / "new").iterdir()} == {
        f"{path}.{file_format}" for path in RECORD_TYPES
    }
    for path in RECORD_TYPES:
        content = (tmp_path / "new" / f"{path}.{file_format}").read_bytes().decode()
        assert read(content) == list(made[path])


def test_csv_files_hold_a_cell_for_every_field(tmp_path: Path) -> None:
    made = write(tmp_path, "csv")
    for path, kind in RECORD_TYPES.items():
        content = (tmp_path / f"{path}.csv").read_bytes().decode()
        header, *lines = csv.reader(io.StringIO(content, newline=""))
        assert header == list(kind.serializer_class.example)
        assert len(lines) == len(made[path])
        for cells, record in zip(lines, made[path], strict=True):
            assert len(cells) == len(header)
            for name, cell in zip(header, cells, strict=True):
                match record[name]:
                    case True | False as flag:
                        assert cell == str(flag).lower()
                    case None:
                        assert cell == ""
                    case list() as items:
                        assert cell.split(";") == (items or [""])
                    case value:
                        assert type(value)(cell) == value


def test_one_type_goes_to_standard_output_in_utf_8() -> None:
    what = ("--type", "tutors", "--tutors", "60", "--start", str(DAY))
    where = ("--output", "-", "--format", "ndjson")
    done = manage("generate", *what, *where, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    made = generate(seed=1, tutors=60, sessions=30, feedback=None, start=DAY, days=1).by_path
    assert from_ndjson(done.stdout.decode()) == list(made["tutors"])
    assert not done.stdout.isascii()
