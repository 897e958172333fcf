"""`manage.py ingest`: files to the real queues, and the command's report."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from redis import Redis

from ingestion import embedded, intake
from ingestion.cells import cell_text
from ingestion.management.commands import ingest as command
from ingestion.outcomes import Receipt
from ingestion.queues import Pause, pause_queue
from ingestion.records import RecordType
from tests.portal_process import free_port
from tests.record_types import TUTORS
from tests.store_faults import Proxy

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


def example(record_type: RecordType, **changes: Any) -> dict[str, Any]:
    return {**record_type.serializer_class.example, **changes}


def tutors(number: int, **changes: Any) -> list[dict[str, Any]]:
    return [example(TUTORS, tutor_id=f"tutor_{n:05}", **changes) for n in range(number)]


def as_json(records: Sequence[Any]) -> str:
    return json.dumps(records, indent=1)


def as_ndjson(records: Sequence[Any]) -> str:
    return "".join(f"{json.dumps(record)}\n" for record in records)


def as_csv(records: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(records[0]))
    writer.writeheader()
    for record in records:
        writer.writerow({name: cell_text(value) for name, value in record.items()})
    return text.getvalue()


def ingest(path: Path | str, *options: str) -> tuple[int, str, str]:
    """The exit status, the output, and the last message."""
    printed = io.StringIO()
    try:
        call_command("ingest", str(path), *options, stdout=printed)
    except CommandError as fault:
        return fault.returncode, printed.getvalue(), str(fault)
    return 0, printed.getvalue(), ""


def environment(**variables: str) -> dict[str, str]:
    here = {"DJANGO_SETTINGS_MODULE": "tutormax.settings", "DATA_DIR": str(settings.DATA_DIR)}
    return os.environ | here | variables


def manage(
    *arguments: str, stdin: Any = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment(**variables),
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=120,
    )


def queued(store: Redis, record_type: RecordType = TUTORS) -> list[dict[str, Any]]:
    """The messages, the next to be taken first."""
    return [json.loads(message) for message in store.lrange(record_type.queue, 0, -1)[::-1]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    # No extension: the content alone shows what it is.
    return tmp_path / "records"


# --- what is queued ----------------------------------------------------------------------------


@pytest.mark.parametrize("write", [as_json, as_ndjson, as_csv])
def test_a_file_of_any_format_and_type_is_queued_in_order(
    store: Redis, file: Path, record_type: RecordType, write: Any
) -> None:
    records = [example(record_type, **{record_type.id_field: f"id-{n}"}) for n in range(5)]
    file.write_text(write(records))
    status, printed, _ = ingest(file)
    assert (status, printed) == (
        0,
        f"{record_type.path}: 5 records read, 5 queued, 0 refused.\n",
    )
    messages = queued(store, record_type)
    assert [
        {name: value for name, value in message["data"].items() if value is not None}
        for message in messages
    ] == [{name: value for name, value in one.items() if value is not None} for one in records]
    assert {message["source"] for message in messages} == {"command"}
    assert {message["queue"] for message in messages} == {record_type.queue}


def test_a_large_file_goes_in_chunks_that_the_intake_takes(
    store: Redis, file: Path, settings: Any
) -> None:
    settings.MAX_BATCH_RECORDS = 7
    file.write_text(as_ndjson(tutors(30)))
    assert ingest(file)[0] == 0
    assert [one["data"]["tutor_id"] for one in queued(store)] == [
        f"tutor_{n:05}" for n in range(30)
    ]


def test_the_type_can_be_said(store: Redis, file: Path) -> None:
    file.write_text("tutor_id,name\n1,Ann\n")
    status, _, words = ingest(file)
    assert status == 1
    assert "--type tutors, sessions, feedback" in words
    status, printed, _ = ingest(file, "--type", "tutors")
    assert status == 2
    assert "required" in printed


@pytest.mark.processes
def test_a_pipe_is_read_from_standard_input(store: Redis) -> None:
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as pipe, open(write_end, "w") as writer:
        writer.write(as_ndjson(tutors(3)))
        writer.close()
        done = manage("ingest", "-", stdin=pipe)
    assert (done.returncode, done.stdout) == (0, "tutors: 3 records read, 3 queued, 0 refused.\n")
    assert store.llen(TUTORS.queue) == 3


# --- what is refused ---------------------------------------------------------------------------


def test_refusals_are_told_by_field_and_code_with_their_lines(store: Redis, file: Path) -> None:
    records = tutors(4)
    records[1]["age"] = records[3]["age"] = 7
    records[2]["subjects"] = ["Algebra", "x" * 101]
    file.write_text(as_csv(records) + '"broken\n')
    status, printed, words = ingest(file)
    assert status == 2
    rows = [line.split("\t") for line in printed.splitlines()]
    told = [[row[0], row[1], row[3], row[4]] for row in rows if len(row) == 5][1:]
    assert told == [
        ["age", "min_value", "3, 5", "2"],
        ["subjects[1]", "max_length", "4", "1"],
        ["", "malformed_line", "6", "1"],
    ]
    assert printed.endswith("tutors: 5 records read, 1 queued, 4 refused.\n")
    assert "Correct the refused records" in words
    assert [one["data"]["tutor_id"] for one in queued(store)] == ["tutor_00000"]


def test_records_of_a_json_array_are_told_by_their_number(
    store: Redis, file: Path, settings: Any
) -> None:
    settings.MAX_BATCH_RECORDS = 4
    records = tutors(10)
    records[6]["age"] = "28"
    file.write_text(as_json(records))
    status, printed, _ = ingest(file)
    assert status == 2
    assert "Record" in printed
    row = next(line for line in printed.splitlines() if "not_an_integer" in line)
    assert row.split("\t")[3] == "7"


def test_the_table_of_refusals_is_bounded(store: Redis, file: Path) -> None:
    file.write_text("tutor_id,no such field\n" + "x y,\n" * 3000)
    status, printed, _ = ingest(file, "--type", "tutors")
    assert status == 2
    assert "2, 3, 4, 5, 6, …" in printed
    assert len(printed) < 5000


@pytest.mark.processes
def test_no_value_of_a_record_is_ever_printed(store: Redis, file: Path) -> None:
    canary = "canary"
    bad = {name: canary for name in example(TUTORS)} | {"tutor_id": f"{canary} 1", canary: canary}
    file.write_text(as_csv([*tutors(1, name=canary, **{canary: ""}), bad]) + f'"{canary}\n')
    done = manage("ingest", str(file))
    assert done.returncode == 2
    assert "2 refused" in done.stdout
    assert canary not in done.stdout + done.stderr


# --- what cannot be done ----------------------------------------------------------------------


def test_what_cannot_be_read_ends_with_status_1_and_a_reason(
    store: Redis, file: Path, tmp_path: Path
) -> None:
    for content, reason in (
        (None, "No such file"),
        (b"", "empty"),
        (b"PK\x03\x04", "The workbook is damaged"),
        (b"[]", "--type"),
        (b"hello,world\n", "--type"),
    ):
        if content is not None:
            file.write_bytes(content)
        status, printed, words = ingest(file)
        assert (status, printed) == (1, "")
        assert reason in words
    assert "directory" in ingest(tmp_path)[2]


def test_a_file_without_records_is_not_called_a_success(store: Redis, file: Path) -> None:
    file.write_text(as_csv(tutors(1)).splitlines()[0])
    status, _, words = ingest(file)
    assert (status, words) == (1, "The file holds no record.")


def test_a_file_that_breaks_off_tells_what_is_queued(store: Redis, file: Path) -> None:
    file.write_text(as_json(tutors(2500))[:-20])
    status, printed, words = ingest(file)
    assert status == 1
    assert printed == "tutors: 2,000 records read, 2,000 queued, 0 refused.\n"
    assert "Before that, 2,000 records were queued, up to line or record 2,000." in words
    assert store.llen(TUTORS.queue) == 2000


def test_a_store_that_takes_no_more_tells_what_is_queued(
    store: Redis, file: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.QUEUE_LIMIT = 1500
    monkeypatch.setattr(command, "_PATIENCE_SECONDS", 0.5)
    records = tutors(2500)
    records[10]["age"] = 7
    file.write_text(as_csv(records))
    status, printed, words = ingest(file)
    assert status == 1
    assert "min_value" in printed
    assert "queue is full" in words
    assert "Before that, 1,999 records were queued, up to line or record 2,001." in words
    assert store.llen(TUTORS.queue) == 1999


@pytest.mark.processes
def test_a_store_that_is_away_is_told_in_a_sentence(file: Path) -> None:
    file.write_text(as_ndjson(tutors(3)))
    done = manage("ingest", str(file), REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert done.returncode == 1
    assert "The store does not answer." in done.stderr
    assert "No record was queued before." in done.stderr
    assert "may be queued as well" not in done.stderr


# --- what passes -------------------------------------------------------------------------------


@contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join(60)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_a_line_to_the_store_that_is_cut_doubles_and_loses_nothing(
    store: Redis, proxy: Proxy, file: Path, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.MAX_BATCH_RECORDS = 40
    records = tutors(600)
    records[7]["age"] = 7
    file.write_text(as_ndjson(records))
    done = threading.Event()
    cut_at = [0]

    def cut_whenever_the_queue_has_grown() -> None:
        proxy.cuts = 3
        while not done.wait(0.01):
            depth = store.llen(TUTORS.queue)
            if depth > cut_at[-1] and not proxy.cuts and len(cut_at) < 8:
                proxy.cuts = 1
                cut_at.append(depth)

    with meanwhile(cut_whenever_the_queue_has_grown):
        status, printed, _ = ingest(file)
        done.set()
    assert len(cut_at) >= 4
    assert status == 2
    assert printed.endswith("tutors: 600 records read, 599 queued, 1 refused.\n")
    del records[7]
    assert [one["data"]["tutor_id"] for one in queued(store)] == [
        one["tutor_id"] for one in records
    ]
    told = "The connection to the store broke before its answer came. Trying again…"
    assert told in capsys.readouterr().err


@pytest.mark.processes
def test_a_store_that_is_killed_and_comes_back_has_every_record_once(
    use_store: Callable[[str], None], file: Path, tmp_path: Path, settings: Any
) -> None:
    settings.MAX_BATCH_RECORDS = 50
    file.write_text(as_ndjson(tutors(20_000)))
    use_store(embedded.url(tmp_path / "store"))
    ended: list[tuple[int, str, str]] = []
    thread = threading.Thread(target=lambda: ended.append(ingest(file)))
    for depth in (1000, 4000, 7000):
        with embedded.running(tmp_path / "store") as running, Redis.from_url(running.url) as store:
            if not thread.is_alive():
                thread.start()
            wait_for(lambda: store.llen(TUTORS.queue) >= depth)  # noqa: B023
            os.kill(running.pid, signal.SIGKILL)
            wait_for(running.has_ended)
    with embedded.running(tmp_path / "store") as running, Redis.from_url(running.url) as store:
        thread.join(100)
        assert ended == [(0, "tutors: 20,000 records read, 20,000 queued, 0 refused.\n", "")]
        assert [one["data"]["tutor_id"] for one in queued(store)] == [
            f"tutor_{n:05}" for n in range(20_000)
        ]


def test_a_queue_that_is_full_for_a_while_is_waited_for(
    store: Redis, file: Path, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.QUEUE_LIMIT = 1500
    file.write_text(as_ndjson(tutors(2500)))
    taken: list[bytes] = []

    def take() -> None:
        wait_for(lambda: "The queue is full. Trying again…\n" in capsys.readouterr().err)
        messages: Any = store.rpop(TUTORS.queue, 2000)
        taken.extend(messages)

    with meanwhile(take):
        assert ingest(file)[0] == 0
    assert (len(taken), store.llen(TUTORS.queue)) == (2000, 500)


def test_a_pause_is_told_with_its_reason_and_not_waited_for_if_nothing_is_queued_yet(
    store: Redis, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_PATIENCE_SECONDS", 3600.0)
    monkeypatch.setattr(command, "_FIRST_PATIENCE_SECONDS", 0.5)
    file.write_text(as_ndjson(tutors(3)))
    pause_queue(TUTORS.queue, Pause(reason="Stocktaking", by="ann", since=datetime.now(UTC)))
    status, printed, words = ingest(file)
    assert (status, printed) == (1, "tutors: 0 records read, 0 queued, 0 refused.\n")
    assert words == "The queue is paused: Stocktaking No record was queued before."


@pytest.mark.parametrize(("cuts", "may_be_queued"), [(1, True), (0, False)])
def test_ctrl_c_during_an_outage_tells_whether_more_may_be_queued(
    store: Redis,
    proxy: Proxy,
    file: Path,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    cuts: int,
    may_be_queued: bool,
) -> None:
    def press_ctrl_c(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tenacity.nap.time.sleep", press_ctrl_c)
    proxy.cuts = cuts
    settings.QUEUE_LIMIT = 0 if not cuts else 10
    file.write_text(as_ndjson(tutors(3)))
    status, _, words = ingest(file)
    assert status == 1
    assert words.startswith("Stopped. No record was queued before.")
    assert (" Up to 3 records after it may be queued as well." in words) is may_be_queued
    assert store.llen(TUTORS.queue) == 3 * may_be_queued
    assert ("--resume" in words) is may_be_queued
    if may_be_queued:
        monkeypatch.undo()
        again = shlex.split(words.splitlines()[-1])
        assert again[:3] == ["manage.py", "ingest", str(file)]
        settings.QUEUE_LIMIT = 10
        proxy.cuts = 0
        assert ingest(*again[2:])[0] == 0
        assert store.llen(TUTORS.queue) == 3


@pytest.mark.slow
@pytest.mark.parametrize("stop_after", [1000, 2000])
def test_a_stopped_run_prints_the_command_that_goes_on_and_queues_nothing_twice(
    store: Redis, file: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    records = tutors(2500)
    records[stop_after + 7]["age"] = 7
    file.write_text(as_csv(records))
    push = intake.queue

    def stopped(*arguments: Any, **options: Any) -> Receipt:
        if store.llen(TUTORS.queue) >= stop_after:
            push(*arguments, **options)  # it is queued, and Ctrl-C comes before that is known
            raise KeyboardInterrupt
        return push(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(intake, "queue", stopped)
        status, _, words = ingest(file)
    assert status == 1
    again = shlex.split(words.splitlines()[-1])
    status, printed, _ = ingest(*again[2:])
    assert status == 2
    left = 2500 - stop_after
    assert f"{left:,} records read after the first {stop_after:,}, {left - 1:,} queued" in printed
    assert f"\t{stop_after + 9}\t" in printed  # the line in the file; the header counts
    del records[stop_after + 7]
    assert [one["data"]["tutor_id"] for one in queued(store)] == [
        one["tutor_id"] for one in records
    ]
    assert ingest(*again[2:])[0] == 2  # another repetition does no harm
    assert store.llen(TUTORS.queue) == 2499


def test_another_file_is_not_continued(store: Redis, file: Path) -> None:
    file.write_text(as_csv(tutors(3)))
    place = f"0123456789ab-{file.stat().st_size + 1}:1"
    status, _, words = ingest(file, "--resume", place)
    assert (status, words) == (
        1,
        "This is not the file that the earlier run read: its size is different.",
    )
    for wrong in ("x", "0123456789ab-5", "0123456789ab-5:-1"):
        with pytest.raises(CommandError, match="as the earlier run printed it"):
            call_command("ingest", str(file), "--resume", wrong)
    assert store.llen(TUTORS.queue) == 0


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"a,b\n\0,1\n"])
def test_the_command_says_plainly_that_a_file_is_not_text(
    store: Redis, file: Path, content: bytes
) -> None:
    file.write_bytes(content)
    status, _, words = ingest(file)
    assert status == 1
    assert words == f"{file} cannot be read: it is no CSV, Excel (.xlsx), JSON or NDJSON file."


def test_a_file_that_cannot_be_read_for_a_known_reason_is_refused_with_this_reason(
    store: Redis, file: Path
) -> None:
    file.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504))
    assert "old Excel file" in ingest(file)[2]


@pytest.mark.skipif(not Path("/dev/urandom").exists(), reason="needs a device")
def test_a_device_is_not_copied_for_ever(store: Redis) -> None:
    assert ingest(Path("/dev/urandom"))[2] == "/dev/urandom is a device and no file."


# --- at a terminal -----------------------------------------------------------------------------


def start_at_terminal(*arguments: str) -> tuple[subprocess.Popen[bytes], list[bytes], Any]:
    """A command whose standard error is a terminal, and its output there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment(TERM="xterm"),
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    shown: list[bytes] = []

    def collect() -> None:
        with open(ours, "rb", buffering=0) as terminal:
            try:
                while content := terminal.read(4096):
                    shown.append(content)
            except OSError:  # how a terminal ends on Linux
                return

    reader = threading.Thread(target=collect)
    reader.start()
    return process, shown, reader


@pytest.mark.processes
def test_a_terminal_sees_a_bar_and_no_log_lines(store: Redis, file: Path) -> None:
    file.write_text(as_ndjson(tutors(2000)))
    process, shown, reader = start_at_terminal("ingest", str(file))
    printed, _ = process.communicate(timeout=120)
    reader.join(10)
    text = b"".join(shown).decode()
    assert process.returncode == 0
    assert printed == b"tutors: 2,000 records read, 2,000 queued, 0 refused.\n"
    assert "100%" in text
    assert "2,000 records" in text
    assert "records_judged" not in text


@pytest.mark.processes
def test_ctrl_c_ends_with_a_true_count(store: Redis, file: Path) -> None:
    file.write_text(as_ndjson(tutors(1000)) * 60)
    process, shown, reader = start_at_terminal("ingest", str(file))
    deadline = time.monotonic() + 120
    while not store.llen(TUTORS.queue):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=120)
    reader.join(10)
    depth = store.llen(TUTORS.queue)
    assert process.returncode == 1
    assert depth < 60_000
    told = int(printed.decode().split(" queued")[0].rpartition(" ")[2].replace(",", ""))
    words = b"".join(shown).decode()
    assert told == depth or (told == depth - 1000 and "Up to 1,000 records after it" in words)
    assert "Traceback" not in words
    assert "Stopped." in words
