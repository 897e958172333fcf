"""`manage.py queue_stats`: the numbers of the real queues, for people and for machines."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import Client
from redis import Redis

from ingestion import embedded, intake, queues
from ingestion.consumer import Consumer
from ingestion.decoding import Row
from ingestion.queues import MAX_ATTEMPTS
from ingestion.records import RECORD_TYPES, RecordType
from ingestion.sources import COMMAND
from tests.record_types import SESSIONS

ROOT = Path(__file__).resolve().parent.parent


def queue_stats(*options: str) -> str:
    printed = io.StringIO()
    call_command("queue_stats", *options, stdout=printed)
    return printed.getvalue()


def cells(printed: str, label: str) -> list[str]:
    (row,) = (line for line in printed.splitlines() if line.startswith(f"{label}\t"))
    return row.split("\t")


def fill(record_type: RecordType, good: int, bad: int) -> None:
    rows = [Row(value=dict(record_type.serializer_class.example))] * good + [Row(value={})] * bad
    intake.queue(intake.receive(record_type, rows), source=COMMAND)


def test_it_shows_depth_age_and_totals_of_every_queue(
    store: Redis, record_type: RecordType
) -> None:
    fill(record_type, good=3, bad=2)
    store.rpop(record_type.queue)
    printed = queue_stats()
    _, depth, oldest, *rest = cells(printed, record_type.queue_label)
    assert (depth, rest) == ("2", ["open", "0", "0", "3", "2"])
    assert oldest.endswith(" s")
    for other in RECORD_TYPES.values():
        if other is not record_type:
            assert cells(printed, other.queue_label)[1:] == ["0", "none", "open", *"0000"]


def test_it_shows_a_pause_what_is_in_flight_and_what_died(store: Redis) -> None:
    fill(SESSIONS, good=3, bad=0)
    with Consumer(SESSIONS.queue, lease_seconds=20) as consumer:
        for _ in range(MAX_ATTEMPTS):
            consumer.claim(1)
            consumer.give_back(reason="no")
        consumer.claim(1)
        queues.pause_queue(
            SESSIONS.queue, queues.Pause(reason="x", by="ann", since=datetime.now(UTC))
        )
        assert cells(queue_stats(), "sessions")[3:] == ["paused", "1", "1", "3", "0"]
        detail = json.loads(queue_stats("--json"))["detail"]["sessions"]
    for name, value in {"paused": True, "consumers": 1, "in_flight": 1, "dead": 1}.items():
        assert detail[name] == value


def test_a_terminal_gets_a_table_of_which_nothing_is_cut(store: Redis) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    printed = Terminal()
    call_command("queue_stats", stdout=printed)
    for record_type in RECORD_TYPES.values():
        assert record_type.queue_label in printed.getvalue()
    assert "…" not in printed.getvalue()


@pytest.mark.processes
def test_a_folder_that_no_portal_ran_on_gets_no_store(tmp_path: Path) -> None:
    for command in ("queue_stats", "peek_queue", "consume", "dead_letters"):
        arguments = () if command == "queue_stats" else ("tutors",)
        done = run(command, *arguments, data_dir=tmp_path / "nowhere")
        assert done.returncode == 1
        assert f"There is no store in {tmp_path / 'nowhere'}" in done.stderr
    assert not list((tmp_path / "nowhere").glob("store*"))


@pytest.mark.processes
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_disk_is_told_in_a_sentence(store: Redis) -> None:
    with open("/dev/full", "w") as full:
        done = run("queue_stats", "--json", stdout=full)
    assert done.returncode == 1
    assert done.stderr == "CommandError: The system refused: No space left on device.\n"


@pytest.mark.processes
def test_a_reader_that_has_gone_ends_it_without_a_word(store: Redis) -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as closed:
        done = run("queue_stats", stdout=closed)
    assert (done.returncode, done.stderr) == (1, "")


def run(
    *arguments: str, data_dir: Path = settings.DATA_DIR, stdout: Any = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    here = {"DJANGO_SETTINGS_MODULE": "tutormax.settings", "DATA_DIR": str(data_dir)}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=os.environ | here,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_message_that_is_not_ours_has_an_unknown_age(store: Redis) -> None:
    store.lpush(SESSIONS.queue, b"\xff not ours")
    assert cells(queue_stats(), "sessions")[1:3] == ["1", "unknown"]


def test_json_is_what_the_api_answers_and_each_queues_state(store: Redis, client: Client) -> None:
    fill(SESSIONS, good=2, bad=1)
    documents = [json.loads(queue_stats("--json")), client.get("/api/queue/stats").json()]
    ages = [one["detail"]["sessions"].pop("oldest_age_seconds") for one in documents]
    times = [one.pop("timestamp") for one in documents]
    for one in documents[0]["detail"].values():
        for name in ("paused", "consumers", "in_flight", "dead"):
            assert not one.pop(name)
    assert documents[0] == documents[1]
    assert times == sorted(times)
    assert ages == sorted(ages)
    empty = {record_type.queue_label: 0 for record_type in RECORD_TYPES.values()}
    assert empty.keys() >= {"tutors", "sessions", "feedbacks"}
    assert documents[0]["queues"] == empty | {"sessions": 2}


def watch(data_dir: Path, *options: str) -> subprocess.Popen[str]:
    here = {"DJANGO_SETTINGS_MODULE": "tutormax.settings", "DATA_DIR": str(data_dir)}
    return subprocess.Popen(
        [sys.executable, "manage.py", "queue_stats", "--watch", *options],
        cwd=ROOT,
        env=os.environ | here,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """The first line with these words; the test's own time limit ends the wait."""
    return next(line for line in process.stdout if words in line)


@pytest.mark.processes
def test_watch_shows_them_again_until_ctrl_c(store: Redis) -> None:
    process = watch(settings.DATA_DIR, "0.1")
    assert cells(read_until(process, "sessions"), "sessions")[1] == "0"
    fill(SESSIONS, good=4, bad=0)
    read_until(process, "sessions\t4\t")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")


@pytest.mark.processes
def test_watch_outlives_an_outage_of_the_store(tmp_path: Path) -> None:
    with embedded.running(tmp_path / "data"):
        process = watch(tmp_path / "data", "0.1")
        read_until(process, "sessions")
    read_until(process, "The store does not answer.")
    with embedded.running(tmp_path / "data"):
        read_until(process, "sessions")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("wrong", [["--watch", "0"], ["--watch", "nan"], ["--watch", "--json"]])
def test_options_that_make_no_sense_are_refused(wrong: list[str]) -> None:
    with pytest.raises(CommandError):
        call_command("queue_stats", *wrong)


def test_a_key_of_another_type_is_told_in_a_sentence(store: Redis) -> None:
    store.set(SESSIONS.queue, "of another type")
    with pytest.raises(CommandError) as fault:
        queue_stats()
    assert fault.value.returncode == 1
