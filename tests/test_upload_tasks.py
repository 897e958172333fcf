"""The background work on uploads: real worker processes, killed, stopped and replaced."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from ingestion import embedded
from tests.record_types import SESSIONS

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parent.parent
_BOUND_SECONDS = 300  # ends a hanging test: a busy machine takes long to start a process

# The real worker, but it notices a missing beat sooner.
_WORKER = """
import django; django.setup()
from django.core import management
from ingestion.management.commands import worker
from ingestion.uploads import tasks, work
tasks._TRIES = 1000  # a busy machine may look like a killed worker
work._BEAT_SECONDS = work._TELL_EVERY_SECONDS = 0.1
worker._HOUSEKEEPING_EVERY_SECONDS = 1
management.execute_from_command_line(["manage.py", "worker"])
"""

# The same, but it kills itself between the third push and the note of it.
_DYING_WORKER = _WORKER.replace(
    "management.execute_from_command_line",
    """
import itertools, os, signal
from ingestion.uploads import queueing
noted, pushes = queueing._noted, itertools.count(1)
def die_or_note(*arguments):
    if next(pushes) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return noted(*arguments)
queueing._noted = die_or_note
management.execute_from_command_line""".strip(),
    1,
)

# The same, but slow enough on any machine to be killed twice before a step is done.
_SLOW_WORKER = _WORKER.replace(
    "management.execute_from_command_line",
    """
import time
tell = work.Work.tell
def tell_slowly(*arguments, **fields):
    time.sleep(0.2)
    tell(*arguments, **fields)
work.Work.tell = tell_slowly
management.execute_from_command_line""".strip(),
    1,
)

_UPLOAD = """
import sys, django; django.setup()
from django.core.files import File
from ingestion.uploads import actions
with open(sys.argv[1], "rb") as file:
    print(actions.create(File(file), "many.csv", None).pk)
"""

_CONFIRM = """
import sys, django; django.setup()
from ingestion.models import Upload
from ingestion.uploads import actions
actions.confirm(Upload.objects.get(pk=sys.argv[1]))
"""


class Site:
    """A portal's folder with its store and database, and the workers that use it."""

    def __init__(self, data_dir: Path, store: Redis) -> None:
        self.data_dir = data_dir
        self.store = store
        self._workers: list[subprocess.Popen[bytes]] = []
        self._environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tutormax.settings",
            "DATA_DIR": str(data_dir),
            "ENV_FILE": os.devnull,
            "LOG_LEVEL": "INFO",
        }
        self.run(
            "-c",
            "import django; django.setup()\n"
            "from django.core.management import call_command; call_command('migrate', verbosity=0)",
        )

    def push_in_small_chunks(self) -> None:
        """Make queueing take some seconds, so that it can be disturbed."""
        self._environment["MAX_BATCH_RECORDS"] = "10"

    def run(self, *command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=self._environment,
            check=True,
            capture_output=True,
            timeout=_BOUND_SECONDS,
        )
        return done.stdout.decode().strip()

    def start_worker(self, code: str = _WORKER) -> subprocess.Popen[bytes]:
        with (self.data_dir / "worker.log").open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "-c", code],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        self._workers.append(worker)
        return worker

    def upload(self, content: str) -> int:
        path = self.data_dir / "file"
        path.write_text(content)
        return int(self.run("-c", _UPLOAD, str(path)))

    def confirm(self, number: int) -> None:
        self.run("-c", _CONFIRM, str(number))

    def row(self, number: int) -> dict[str, Any]:
        with sqlite3.connect(self.data_dir / "portal.sqlite3", timeout=10) as database:
            database.row_factory = sqlite3.Row
            query = "SELECT * FROM ingestion_upload WHERE id = ?"
            found = dict(database.execute(query, [number]).fetchone())
        database.close()
        return found

    def wait_for(self, number: int, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + _BOUND_SECONDS
        while not condition(found := self.row(number)):
            assert found["state"] != "failed", (found["failure"], self.log)
            assert time.monotonic() < deadline, (found, self.log)
            time.sleep(0.02)
        return found

    def queued_ids(self) -> list[str]:
        """The ids of all queued records, the oldest first."""
        raws = self.store.lrange(SESSIONS.queue, 0, -1)
        return [json.loads(raw)["data"]["session_id"] for raw in raws][::-1]

    @property
    def log(self) -> str:
        return (self.data_dir / "worker.log").read_text()[-5000:]

    def end(self) -> None:
        for worker in self._workers:
            worker.kill()
            worker.wait(_BOUND_SECONDS)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with embedded.running(tmp_path) as running, Redis.from_url(running.url) as store:
        site = Site(tmp_path, store)
        yield site
        site.end()


def many(count: int) -> tuple[str, list[str]]:
    """Sessions as CSV, every 50th of them refused, and the ids of the others."""
    example = {**SESSIONS.serializer_class.example}
    names = ",".join(example)
    lines, good = [], []
    for n in range(count):
        bad = n % 50 == 7
        cells = {**example, "session_id": f"s_{n}", "duration_minutes": 999 if bad else 60}
        lines.append(
            ",".join(
                str(value).lower() if value in (True, False) else str(value)
                for value in cells.values()
            )
        )
        if not bad:
            good.append(f"s_{n}")
    return "\n".join([names, *lines, ""]), good


def reached(state: str) -> Callable[[dict[str, Any]], bool]:
    return lambda row: row["state"] == state


def test_workers_killed_at_random_points_queue_every_good_row_exactly_once(site: Site) -> None:
    content, good = many(10_000)
    number = site.upload(content)
    kills: Counter[str] = Counter()
    at = random.Random(10_000)
    worker = site.start_worker(_SLOW_WORKER)
    while (state := site.row(number)["state"]) != "done":
        if state == "review":
            site.confirm(number)
        before = site.row(number)["progress_rows"]
        # Wait for some progress first, so that the end is reached even on a busy machine.
        site.wait_for(
            number,
            lambda row: row["state"] != state or row["progress_rows"] > before,  # noqa: B023
        )
        time.sleep(at.uniform(0, 0.4))
        if kills[state] < 2 and site.row(number)["state"] == state:
            worker.send_signal(signal.SIGKILL)
            worker.wait(_BOUND_SECONDS)
            kills[state] += 1
            worker = site.start_worker(_SLOW_WORKER)
    row = site.row(number)
    assert kills == {"reading": 2, "queueing": 2}
    assert site.queued_ids() == good
    assert (row["rows_read"], row["rows_ready"], row["rows_queued"]) == (10_000, 9_800, 9_800)
    assert sum(count for _, count in json.loads(row["places"])) == 9_800


def test_a_chunk_pushed_by_a_worker_that_died_before_it_could_note_it_is_not_pushed_again(
    site: Site,
) -> None:
    content, good = many(4_000)
    number = site.upload(content)
    worker = site.start_worker(_DYING_WORKER)
    site.wait_for(number, reached("review"))
    site.confirm(number)
    assert worker.wait(_BOUND_SECONDS) == -signal.SIGKILL
    # The third chunk is on the queue, and nobody has noted it.
    assert site.row(number)["rows_queued"] == 2_000
    assert site.queued_ids() == good[:3_000]
    site.start_worker()
    site.wait_for(number, reached("done"))
    assert site.queued_ids() == good
    row = site.row(number)
    assert (row["rows_queued"], json.loads(row["places"])) == (3_920, [[0, 3_920]])


def test_a_worker_that_is_told_to_end_hands_its_file_on_at_once(site: Site) -> None:
    site.push_in_small_chunks()
    content, good = many(6_000)
    number = site.upload(content)
    worker = site.start_worker()
    site.wait_for(number, reached("review"))
    site.confirm(number)
    site.wait_for(number, lambda row: row["rows_queued"] > 0)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(_BOUND_SECONDS) == 0, site.log
    row = site.row(number)
    assert (row["state"], row["claim"]) == ("queueing", "")
    assert row["rows_queued"] < len(good)
    site.start_worker()
    site.wait_for(number, reached("done"))
    assert site.queued_ids() == good


def test_a_worker_that_was_taken_for_dead_disturbs_nobody(site: Site) -> None:
    site.push_in_small_chunks()
    content, good = many(6_000)
    number = site.upload(content)
    stopped = site.start_worker()
    site.wait_for(number, reached("review"))
    site.confirm(number)
    site.wait_for(number, lambda row: row["rows_queued"] > 0)
    stopped.send_signal(signal.SIGSTOP)
    claim = site.row(number)["claim"]
    site.start_worker()
    site.wait_for(number, lambda row: row["claim"] != claim)
    stopped.send_signal(signal.SIGCONT)
    site.wait_for(number, lambda _: "upload_step_lost" in site.log)
    site.wait_for(number, reached("done"))
    assert site.queued_ids() == good
    assert site.row(number)["rows_queued"] == len(good)


def test_two_workers_on_one_folder_do_not_share_a_file(site: Site) -> None:
    content, good = many(3_000)
    number = site.upload(content)
    for _ in range(2):
        site.start_worker()
    site.wait_for(number, reached("review"))
    site.confirm(number)
    site.wait_for(number, reached("done"))
    assert site.queued_ids() == good


def test_a_store_that_goes_away_is_waited_for(tmp_path: Path) -> None:
    content, good = many(2_000)
    with embedded.running(tmp_path) as running, Redis.from_url(running.url) as store:
        site = Site(tmp_path, store)
        number = site.upload(content)
        site.start_worker()
        site.wait_for(number, reached("review"))
    try:
        site.confirm(number)
        waiting = site.wait_for(number, lambda row: bool(row["waiting"]))
        assert waiting["state"] == "queueing"
        assert "store" in waiting["waiting"]
        with embedded.running(tmp_path) as running, Redis.from_url(running.url) as store:
            site.store = store
            assert site.wait_for(number, reached("done"))["waiting"] == ""
            assert site.queued_ids() == good
    finally:
        site.end()
