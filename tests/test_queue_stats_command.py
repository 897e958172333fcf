"""`manage.py queue_stats`: the numbers of the real queues, for people and for machines."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import Client
from redis import Redis

from ingestion import embedded, intake
from ingestion.decoding import Row
from ingestion.records import RECORD_TYPES, RecordType
from ingestion.stats import age_in_words

ROOT = Path(__file__).resolve().parent.parent
SESSIONS = RECORD_TYPES["sessions"]


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


def queue_stats(*options: str) -> str:
    printed = io.StringIO()
    call_command("queue_stats", *options, stdout=printed)
    return printed.getvalue()


def cells(printed: str, label: str) -> list[str]:
    (row,) = (line for line in printed.splitlines() if f" {label} " in line)
    return [cell.strip() for cell in row.split("│")[1:-1]]


def fill(kind: RecordType, good: int, bad: int) -> None:
    rows = [Row(value=dict(kind.serializer_class.example))] * good + [Row(value={})] * bad
    intake.accept(kind, rows, source="command")


def test_it_shows_depth_age_and_totals_of_every_queue(
    store: Redis, record_type: RecordType
) -> None:
    fill(record_type, good=3, bad=2)
    store.rpop(record_type.queue)
    printed = queue_stats()
    _, depth, oldest, accepted, rejected = cells(printed, record_type.queue_label)
    assert (depth, accepted, rejected) == ("2", "3", "2")
    assert "second" in oldest
    for other in RECORD_TYPES.values():
        if other is not record_type:
            assert cells(printed, other.queue_label) == [other.queue_label, "0", "none", "0", "0"]


def test_a_message_that_is_not_ours_has_an_unknown_age(store: Redis) -> None:
    store.lpush(SESSIONS.queue, b"\xff not ours")
    assert cells(queue_stats(), "sessions")[1:3] == ["1", "unknown"]


def test_json_is_what_the_api_answers(store: Redis, client: Client) -> None:
    fill(SESSIONS, good=2, bad=1)
    documents = [json.loads(queue_stats("--json")), client.get("/api/queue/stats").json()]
    ages = [one["detail"]["sessions"].pop("oldest_age_seconds") for one in documents]
    times = [one.pop("timestamp") for one in documents]
    assert documents[0] == documents[1]
    assert times == sorted(times)
    assert ages == sorted(ages)
    assert documents[0]["queues"] == {"tutors": 0, "sessions": 2, "feedbacks": 0}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "under a second"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (60, "1 minute"),
        (61, "1 minute 1 second"),
        (7_500, "2 hours 5 minutes"),
        (86_405, "1 day"),
        (8 * 86_400 + 3_600, "8 days 1 hour"),
    ],
)
def test_ages_are_told_in_words(seconds: float, words: str) -> None:
    assert age_in_words(seconds) == words


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
    """The first line that has the words; the test's own time limit bounds the wait."""
    return next(line for line in process.stdout if words in line)


def test_watch_shows_them_again_until_ctrl_c(store: Redis) -> None:
    process = watch(settings.DATA_DIR, "0.1")
    assert cells(read_until(process, "sessions"), "sessions")[1] == "0"
    fill(SESSIONS, good=4, bad=0)
    read_until(process, "│     4 │")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")


def test_watch_outlives_an_outage_of_the_store(tmp_path: Path) -> None:
    with embedded.running(tmp_path / "data"):
        process = watch(tmp_path / "data", "0.1")
        read_until(process, "sessions")
    read_until(process, "cannot be reached")
    with embedded.running(tmp_path / "data"):
        read_until(process, "sessions")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
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
