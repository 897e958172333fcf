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
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import date
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3
from django.core.management import CommandError, call_command
from redis import Redis

from ingestion import embedded
from ingestion.client import Delivery, Portal, Record
from ingestion.generator import generate
from ingestion.management.commands import generate as command
from ingestion.records import RECORD_TYPES
from tests.portal_process import Portal as Process
from tests.scripted_portal import ACCEPTED, CUT, ScriptedPortal, refused

ROOT = Path(__file__).resolve().parent.parent
DAY = date(2024, 5, 13)


def manage(*arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        timeout=120,
    )


def environment(**variables: str) -> dict[str, str]:
    return os.environ | {"DJANGO_SETTINGS_MODULE": "tutormax.settings"} | variables


def send_tutors(url: str, number: int, *manner: str) -> None:
    call_command("generate", "--type", "tutors", "--tutors", str(number), "--post", url, *manner)


@pytest.mark.processes
@pytest.mark.parametrize("manner", [["--single"], []], ids=["singly", "in batches"])
def test_with_a_key_the_records_are_the_clients(portal: Process, manner: list[str]) -> None:
    making = ("create", f"sender-{len(manner)}", "--scope", "tutors")
    made = manage("api_key", *making, DATA_DIR=str(portal.data_dir))
    key = made.stdout.decode().strip()
    # If the portal has read its keys just before, it looks for a new one a second later.
    portal.wait_for(lambda: status(portal, key) != 401)
    send_tutors(portal.address, 2, "--key", key, *manner)
    sources = {message["source"] for message in queued(portal, "tutors")}
    assert sources == {f"api:sender-{len(manner)}"}


def status(portal: Process, key: str) -> int:
    """How the portal answers a record that is not valid, sent with this key."""
    headers = {"Authorization": f"Api-Key {key}"}
    address = f"{portal.address}/api/tutors"
    return urllib3.request("POST", address, json={}, headers=headers).status


def test_half_a_key_is_not_sent() -> None:
    with pytest.raises(CommandError, match="not a complete API key"):
        send_tutors("http://127.0.0.1:9", 1, "--key", "tmx_half")


def queued(portal: Process, path: str) -> list[Any]:
    """The messages on the queue, the next to be taken first."""
    with Redis.from_url(embedded.url(portal.data_dir)) as store:
        messages = store.lrange(RECORD_TYPES[path].queue, 0, -1)
    return [json.loads(message) for message in messages[::-1]]


def depths(portal: Process) -> dict[str, int]:
    found: dict[str, int] = portal.get("/api/queue/stats").json()["queues"]
    return found


def rows(output: str) -> list[list[str]]:
    """The rows of the tables in the output, without their headings."""
    lines = [line.split("\t") for line in output.splitlines() if "\t" in line]
    return [line for line in lines if line[0] not in ("Type", "Queue")]


# --- sending ----------------------------------------------------------------------------------


@pytest.mark.processes
def test_the_demo_queues_15_tutors_30_sessions_and_25_feedback(portal: Process) -> None:
    done = manage("generate", "--demo", PORT=str(portal.port), PYTHONIOENCODING="utf-8")
    output = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b""), output
    assert depths(portal) == {"tutors": 15, "sessions": 30, "feedbacks": 25}
    assert "15 tutors: 5 one by one, 10 as a batch; 15 accepted" in output
    assert [[queue, depth] for queue, depth, *_ in rows(output)] == [
        ["tutormax:queue:tutors", "15"],
        ["tutormax:queue:sessions", "30"],
        ["tutormax:queue:feedbacks", "25"],
    ]
    assert f"{portal.address}/admin/" in output


@pytest.mark.processes
def test_the_demo_sends_five_tutors_one_by_one_and_ten_as_a_batch(portal: Process) -> None:
    call_command("generate", "--demo", portal.address)
    queued_at = [message["queued_at"] for message in queued(portal, "tutors")]
    assert len(set(queued_at[:5])) == 5
    assert len(set(queued_at[5:])) == 1
    assert queued_at == sorted(queued_at)


@pytest.mark.processes
def test_a_day_of_load_is_on_the_queues_whole_and_in_order(
    portal: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("generate", "--day", "--seed", "7", "--start", str(DAY), "--post", portal.address)
    made = generate(seed=7, tutors=300, sessions=3000, feedback=None, start=DAY, days=1).by_path
    for path in RECORD_TYPES:
        assert [message["data"] for message in queued(portal, path)] == list(made[path])
    given = len(made["feedback"])
    assert 2000 < given <= 2500
    assert depths(portal) == {"tutors": 300, "sessions": 3000, "feedbacks": given}
    output = capsys.readouterr().out
    assert rows(output) == [
        ["tutors", "300", "300", "0", "1", "0", "0"],
        ["sessions", "3,000", "3,000", "0", "6", "0", "0"],
        ["feedback", f"{given:,}", f"{given:,}", "0", "5", "0", "0"],
    ]
    assert f"{3300 + given:,} records in " in output


@pytest.mark.processes
@pytest.mark.parametrize(
    ("manner", "requests"), [(["--single"], 7), (["--batch-size", "3"], 3), ([], 1)]
)
def test_records_go_singly_or_in_batches(
    portal: Process,
    capsys: pytest.CaptureFixture[str],
    manner: list[str],
    requests: int,
) -> None:
    send_tutors(portal.address, 7, *manner)
    assert rows(capsys.readouterr().out) == [["tutors", "7", "7", "0", str(requests), "0", "0"]]
    assert depths(portal) == {"tutors": 7, "sessions": 0, "feedbacks": 0}


@pytest.mark.processes
def test_after_an_outage_the_rate_is_not_caught_up_in_a_burst(monkeypatch) -> None:
    now = [1000.0]
    sent_at = []

    def post(portal: Any, path: str, records: Any) -> Any:
        for number in range(len(records)):
            if number == 5:
                now[0] += 3.5  # the portal was away
            sent_at.append(now[0])
            yield Delivery(sent=1, accepted=1)

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(Portal, "post_singly", post)
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    monkeypatch.setattr(command, "time", clock)
    send_tutors("http://portal.example", 10, "--single", "--rate", "100")
    gaps = [round(after - before, 6) for before, after in pairwise(sent_at)]
    assert gaps == [0.01] * 4 + [3.51, 0] + [0.01] * 3  # the outage was the pause of one


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_days_beyond_the_calendar_are_told_in_a_sentence(tmp_path: Path, day: str) -> None:
    with pytest.raises(CommandError, match="--start and --days"):
        call_command("generate", "--start", day, "--output", str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_records_are_not_sent_faster_than_the_rate() -> None:
    started = time.monotonic()
    with ScriptedPortal(ACCEPTED) as busy:
        send_tutors(busy.url, 10, "--single", "--rate", "20")
    assert len(busy.requests) == 10
    assert time.monotonic() - started >= 0.5


@pytest.mark.processes
def test_refused_records_are_told_with_field_and_code_and_the_exit_status_is_2(
    portal: Process, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoiled(**arguments: Any) -> Any:
        dataset = generate(**arguments)
        for tutor in dataset.by_path["tutors"][3:8]:
            tutor["email"] = "nobody"
        dataset.by_path["tutors"][7]["age"] = 17
        return dataset

    monkeypatch.setattr(command, "generate", spoiled)
    for manner, requests in (["--single"], "10"), (["--batch-size", "4"], "3"):
        with pytest.raises(CommandError, match="5 of 10 records were refused") as refusal:
            send_tutors(portal.address, 10, *manner)
        assert refusal.value.returncode == 2
        assert rows(capsys.readouterr().out) == [
            ["tutors", "10", "5", "5", requests, "0", "0"],
            ["tutors", "email", "invalid_email", "5"],
            ["tutors", "age", "min_value", "1"],
        ]
    assert depths(portal)["tutors"] == 10


# --- what goes wrong --------------------------------------------------------------------------


@pytest.mark.processes
def test_without_a_portal_it_says_how_to_start_one() -> None:
    with closing(socket.socket()) as unheard:
        unheard.bind(("127.0.0.1", 0))
        done = manage("generate", "--demo", PORT=str(unheard.getsockname()[1]))
    assert done.returncode == 1
    waiting, *_, end = done.stderr.decode().splitlines()
    assert "(Connection refused). Start the portal with make run" in end
    assert waiting.startswith("No portal answers at ")


def test_what_was_sent_before_a_fault_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    fault = refused(413, error="Too large.")
    with (
        ScriptedPortal(ACCEPTED, ACCEPTED, fault) as faulty,
        pytest.raises(CommandError, match=r"answered 413: Too large\.") as end,
    ):
        send_tutors(faulty.url, 5, "--single")
    assert end.value.returncode == 1
    assert rows(capsys.readouterr().out) == [["tutors", "2", "2", "0", "2", "0", "0"]]


def test_retries_and_what_they_found_queued_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    replayed = (201, {"Idempotent-Replayed": "true"}, ACCEPTED[2])
    with ScriptedPortal(CUT, refused(503), replayed, ACCEPTED) as faulty:
        send_tutors(faulty.url, 2, "--single")
    printed = capsys.readouterr()
    assert rows(printed.out) == [["tutors", "2", "2", "0", "2", "2", "1"]]
    assert printed.err.rstrip().endswith("Trying again…")


@pytest.mark.processes
def test_ctrl_c_ends_it_with_what_was_sent_and_what_may_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def press_ctrl_c(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ingestion.management.commands.generate.time.sleep", press_ctrl_c)
    with (
        ScriptedPortal(ACCEPTED) as portal,
        pytest.raises(CommandError, match=r"Stopped before everything was sent. .* may be queued"),
    ):
        send_tutors(portal.url, 3, "--single", "--rate", "1")
    assert rows(capsys.readouterr().out) == [["tutors", "1", "1", "0", "1", "0", "0"]]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--post", "127.0.0.1:8000"], "write it like http://127.0.0.1:8000"),
        (["--output", "-"], "name it with --type"),
        (["--output", "/dev/null/folder"], "Cannot write to /dev/null/folder: Not a directory"),
        (["--demo", "--sessions", "3"], "ask for more sessions or for less feedback"),
        (["--post", "--start", "13.5.2024"], "write a date like 2024-05-14"),
        (["--post", "--rate", "0"], "write a whole number from 1 up"),
        ([], "one of the arguments --demo --post --output is required"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(arguments: list[str], sentence: str) -> None:
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
    for path in made:
        content = (tmp_path / "new" / f"{path}.{file_format}").read_bytes().decode()
        assert read(content) == list(made[path])


def test_csv_files_hold_a_cell_for_every_field(tmp_path: Path) -> None:
    made = write(tmp_path, "csv")
    for path in made:
        content = (tmp_path / f"{path}.csv").read_bytes().decode()
        header, *lines = csv.reader(io.StringIO(content, newline=""))
        assert header == list(RECORD_TYPES[path].serializer_class().fields)
        assert len(lines) == len(made[path])
        for cells, record in zip(lines, made[path], strict=True):
            assert len(cells) == len(header)
            for name, cell in zip(header, cells, strict=True):
                match record.get(name):
                    case True | False as flag:
                        assert cell == str(flag).lower()
                    case None:
                        assert cell == ""
                    case list() as items:
                        assert cell.split("; ") == (items or [""])
                    case value:
                        assert type(value)(cell) == value


@pytest.mark.processes
def test_one_type_goes_to_standard_output_in_utf_8() -> None:
    what = ("--type", "tutors", "--tutors", "60", "--start", str(DAY))
    where = ("--output", "-", "--format", "ndjson")
    done = manage("generate", *what, *where, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    made = generate(seed=1, tutors=60, sessions=30, feedback=None, start=DAY, days=1).by_path
    assert from_ndjson(done.stdout.decode()) == list(made["tutors"])
    assert not done.stdout.isascii()
