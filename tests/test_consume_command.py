"""`manage.py consume`: delivers messages as lines, to files and to functions."""

from __future__ import annotations

import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from redis import Redis

from ingestion import intake, queues
from ingestion.consumer import Consumer, DeliveryError
from ingestion.decoding import Row
from ingestion.management.ndjson_output import end_of_file
from ingestion.queues import MAX_ATTEMPTS, consumption
from ingestion.queues.keys import Keys
from ingestion.records import RecordType
from ingestion.sources import COMMAND
from tests.record_types import TUTORS

ROOT = Path(__file__).resolve().parent.parent
HERE = "tests.test_consume_command"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr("ingestion.consumer._FIRST_BACKOFF_SECONDS", 0.001)


def fill(record_type: RecordType, number: int) -> None:
    records = [
        {**record_type.serializer_class.example, record_type.id_field: f"record-{n}"}
        for n in range(number)
    ]
    intake.queue(intake.receive(record_type, [Row(value=one) for one in records]), source=COMMAND)


def waiting(store: Redis, record_type: RecordType = TUTORS) -> list[bytes]:
    messages: list[Any] = store.lrange(record_type.queue, 0, -1)
    return messages[::-1]


def drain(*arguments: str) -> None:
    call_command("consume", *arguments, "--drain")


def told(*arguments: str) -> str:
    printed = io.StringIO()
    call_command("dead_letters", *arguments, stdout=printed)
    return printed.getvalue()


# --- Handlers, named on the command line -------------------------------------------------------

handled: list[Any] = []
no_function = 1


@pytest.fixture(autouse=True)
def _nothing_handled() -> Iterator[None]:
    handled.clear()
    yield
    handled.clear()


def collect(message: Any) -> None:
    handled.append(message)


def refuse_the_second(message: Any) -> None:
    if message["data"]["tutor_id"] == "record-1":
        raise ValueError("not this one")
    handled.append(message)


def end_the_process_at_the_second(message: Any) -> None:
    handled.append(message)
    if len(handled) == 2:
        os.kill(os.getpid(), signal.SIGTERM)


def interrupt_twice(message: Any) -> None:
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)


# --- To standard output and files --------------------------------------------------------------


def test_it_prints_each_message_as_a_line_in_the_order_of_the_queue(
    store: Redis, record_type: RecordType, capfdbinary: Any
) -> None:
    fill(record_type, 12)
    messages = waiting(store, record_type)
    drain(record_type.path)
    assert capfdbinary.readouterr().out.splitlines() == messages
    assert not store.exists(record_type.queue)
    assert consumption([record_type.queue])[0].in_flight == 0


def test_it_appends_to_a_file(store: Redis, tmp_path: Path, capfdbinary: Any) -> None:
    file = tmp_path / "tutors.ndjson"
    file.write_bytes(b'{"before": 1}\n')
    fill(TUTORS, 7)
    messages = waiting(store)
    drain("tutors", "--output", str(file), "--batch-size", "3")
    assert file.read_bytes().splitlines() == [b'{"before": 1}', *messages]
    assert capfdbinary.readouterr().out == b""


def test_a_message_of_several_lines_becomes_one_line(store: Redis, capfdbinary: Any) -> None:
    store.lpush(TUTORS.queue, b'{\n "data": {"n": 1.50},\r\n "x": "\xc3\xa9"}\n')
    drain("tutors")
    assert capfdbinary.readouterr().out == b'{"data":{"n":1.50},"x":"\xc3\xa9"}\n'


@pytest.mark.parametrize("bad", [b"", b"nope", b'{"a": ', b'"\xff"', b"[" * 100_000])
def test_a_message_that_is_not_json_becomes_a_dead_letter_and_the_rest_goes_on(
    store: Redis, capfdbinary: Any, bad: bytes
) -> None:
    store.lpush(TUTORS.queue, b"1", b"2", bad, b"3")
    drain("tutors", "--batch-size", "10")
    assert capfdbinary.readouterr().out == b"1\n2\n3\n"
    assert store.lrange(Keys(TUTORS.queue).dead, 0, -1) == [bad]


@pytest.mark.parametrize(
    ("left", "becomes"),
    [
        (b'{"a": 1}\n{"data": {"nam', b'{"a": 1}\n'),
        (b'{"data": {"nam', b""),
        (b'{"data": "' + b"x" * (2**21), b""),
        (b'{"a": 1}\n{"b": 2}', b'{"a": 1}\n{"b": 2}\n'),
        (b"somebody's notes", b"somebody's notes\n"),
        (b"", b""),
    ],
    ids=["torn", "torn alone", "torn and long", "whole", "not ours", "empty"],
)
def test_a_line_that_a_killed_consumer_left_is_mended(
    store: Redis, tmp_path: Path, left: bytes, becomes: bytes
) -> None:
    file = tmp_path / "out.ndjson"
    file.write_bytes(left)
    store.lpush(TUTORS.queue, b'{"c":3}')
    drain("tutors", "--output", str(file))
    assert file.read_bytes() == becomes + b'{"c":3}\n'


def test_two_consumers_do_not_write_to_one_file(store: Redis, tmp_path: Path) -> None:
    file = tmp_path / "out.ndjson"
    fill(TUTORS, 1)
    with file.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(CommandError, match="a file of its own"):
            drain("tutors", "--output", str(file))
    assert len(waiting(store)) == 1


def test_a_file_that_cannot_be_opened_is_told_and_nothing_is_taken(
    store: Redis, tmp_path: Path
) -> None:
    fill(TUTORS, 1)
    with pytest.raises(CommandError, match="cannot be appended to: No such file or directory"):
        drain("tutors", "--output", str(tmp_path / "no" / "file"))
    assert len(waiting(store)) == 1


@pytest.mark.parametrize("name", ["/dev/null", "/dev/full", "pipe", "."])
def test_an_output_that_is_not_a_plain_file_is_refused_before_anything_is_taken(
    store: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fill(TUTORS, 2)
    messages = waiting(store)
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with pytest.raises(CommandError, match="not a plain file"):
        drain("tutors", "--output", name)
    assert waiting(store) == messages


def test_a_file_that_cannot_even_be_cut_back_counts_for_no_message(tmp_path: Path) -> None:
    deliver: Any
    with end_of_file(str(tmp_path / "out")) as deliver:
        read, write = os.pipe()
        os.dup2(write, deliver.args[0].fileno())  # like a disk that is gone: every call is refused
        with pytest.raises(DeliveryError):
            deliver([b"{}"])
    os.close(read)
    os.close(write)


def test_a_full_disk_takes_nothing_off_and_counts_for_no_message(
    store: Redis, tmp_path: Path
) -> None:
    resource = pytest.importorskip("resource")
    file = tmp_path / "out.ndjson"
    fill(TUTORS, 5)
    messages = waiting(store)
    limit = len(messages[0]) * 2 + 100  # room for two lines and a part of the third
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(CommandError, match="cannot be written: File too large"):
            drain("tutors", "--output", str(file))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert file.read_bytes().splitlines() == messages[:2]
    assert waiting(store) == messages[2:]
    assert not store.exists(Keys(TUTORS.queue).attempts)


# --- To a function -----------------------------------------------------------------------------


def test_a_handler_gets_message_after_message(store: Redis) -> None:
    fill(TUTORS, 3)
    messages = [json.loads(one) for one in waiting(store)]
    drain("tutors", "--handler", f"{HERE}:collect")
    assert handled == messages
    assert set(handled[0]) == {"data", "queued_at", "queue", "id", "source"}


def test_with_a_batch_size_a_handler_gets_lists(store: Redis) -> None:
    fill(TUTORS, 5)
    messages = [json.loads(one) for one in waiting(store)]
    drain("tutors", "--handler", f"{HERE}:collect", "--batch-size", "2")
    assert handled == [messages[:2], messages[2:4], messages[4:]]


def test_a_message_that_its_handler_refuses_is_a_dead_letter_with_the_reason(store: Redis) -> None:
    fill(TUTORS, 3)
    _, refused, _ = waiting(store)
    drain("tutors", "--handler", f"{HERE}:refuse_the_second")
    assert [one["data"]["tutor_id"] for one in handled] == ["record-0", "record-2"]
    document = json.loads(told("tutors", "--json"))
    (letter,) = document["dead_letters"]
    assert (document["queue"], document["dead"]) == (TUTORS.queue, 1)
    assert letter["id"] == json.loads(refused)["id"]
    assert letter["reason"] == "ValueError: not this one"
    assert (letter["attempts"], letter["size_bytes"]) == (MAX_ATTEMPTS, len(refused))


def test_max_stops_after_this_many_messages(store: Redis) -> None:
    fill(TUTORS, 10)
    call_command(
        "consume", "tutors", "--handler", f"{HERE}:collect", "--max", "5", "--batch-size", "3"
    )
    assert [len(batch) for batch in handled] == [3, 2]
    assert len(waiting(store)) == 5


def test_a_term_signal_finishes_the_message_in_hand(store: Redis) -> None:
    fill(TUTORS, 4)
    before = signal.getsignal(signal.SIGTERM)
    call_command("consume", "tutors", "--handler", f"{HERE}:end_the_process_at_the_second")
    assert [one["data"]["tutor_id"] for one in handled] == ["record-0", "record-1"]
    assert len(waiting(store)) == 2
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_interrupt_does_not_wait_and_the_message_goes_back_uncounted(
    store: Redis,
) -> None:
    fill(TUTORS, 2)
    with pytest.raises(CommandError, match="on the queue again"):
        call_command("consume", "tutors", "--handler", f"{HERE}:interrupt_twice")
    assert len(waiting(store)) == 2
    assert not store.exists(Keys(TUTORS.queue).attempts)


def test_a_paused_queue_is_not_drained(store: Redis) -> None:
    fill(TUTORS, 2)
    pause = queues.Pause(reason="repairs", by="ann", since=datetime.now(UTC))
    queues.pause_queue(TUTORS.queue, pause)
    with pytest.raises(CommandError, match="paused"):
        drain("tutors", "--handler", f"{HERE}:collect")
    assert handled == []


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["tutor"],
        ["tutors", "--batch-size", "0"],
        ["tutors", "--batch-size", "1001"],
        ["tutors", "--max", "0"],
        ["tutors", "--handler", "no.such.module:f"],
        ["tutors", "--handler", f"{HERE}:no_such_function"],
        ["tutors", "--handler", f"{HERE}:no_function"],
        ["tutors", "--handler", ":"],
        ["tutors", "--handler", f"{HERE}:collect", "--output", "x"],
    ],
    ids=" ".join,
)
def test_arguments_that_make_no_sense_are_refused(store: Redis, wrong: list[str]) -> None:
    fill(TUTORS, 1)
    with pytest.raises(CommandError):
        call_command("consume", *wrong, "--drain")
    assert len(waiting(store)) == 1


def test_a_key_of_another_type_is_told_in_a_sentence(store: Redis) -> None:
    store.set(TUTORS.queue, "of another type")
    with pytest.raises(CommandError) as fault:
        call_command("consume", "tutors")
    assert fault.value.returncode == 1


# --- As a process ------------------------------------------------------------------------------


@pytest.fixture
def start(store: Redis) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts the command as a separate process, with the store of the tests."""
    started = []

    def consume(*arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "consume", *arguments],
            cwd=ROOT,
            env=os.environ | {"DJANGO_SETTINGS_MODULE": "tutormax.settings"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield consume
    for process in started:
        process.kill()
        process.communicate()


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.processes
@pytest.mark.parametrize("word", [signal.SIGTERM, signal.SIGINT])
def test_a_consumer_that_waits_ends_when_it_is_told_to(store, start, word) -> None:
    process = start("tutors")
    eventually(lambda: consumption([TUTORS.queue])[0].consumers)
    fill(TUTORS, 1)
    message = process.stdout.readline()
    eventually(lambda: not consumption([TUTORS.queue])[0].in_flight)
    process.send_signal(word)
    out, log = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, b""), log
    assert b"consumer_stopped" in log
    assert json.loads(message)["source"] == "command"
    assert not consumption([TUTORS.queue])[0].consumers


@pytest.mark.processes
def test_a_reader_that_goes_away_loses_no_message(store, start) -> None:
    process = start("tutors")
    process.stdout.close()
    fill(TUTORS, 2)
    assert process.wait(30) == 1
    log = process.stderr.read()
    assert b"Standard output takes no more: Broken pipe" in log
    assert b"Traceback" not in log
    assert len(waiting(store)) == 2


@pytest.mark.processes
def test_a_consumer_killed_over_its_file_leaves_every_message_in_it(store, start, tmp_path) -> None:
    file = tmp_path / "out.ndjson"
    fill(TUTORS, 2000)
    messages = waiting(store)
    for size in (0, 20_000):
        process = start("tutors", "--output", str(file), "--batch-size", "10")
        eventually(lambda: file.exists() and file.stat().st_size > size)  # noqa: B023
        process.kill()
        process.wait()
    leases = Keys(TUTORS.queue).leases
    store.zadd(leases, dict.fromkeys(store.zrange(leases, 0, -1), 1))  # their leases have ended
    with Consumer(TUTORS.queue, lease_seconds=0.3):
        eventually(lambda: not consumption([TUTORS.queue])[0].in_flight)
    process = start("tutors", "--output", str(file), "--batch-size", "500")
    eventually(lambda: not waiting(store) and not consumption([TUTORS.queue])[0].in_flight)
    process.terminate()
    assert process.wait(30) == 0
    assert set(file.read_bytes().splitlines()) == set(messages)
