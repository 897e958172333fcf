"""The statements of docs/consumers.md are true, and its example is a working consumer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from ingestion import embedded
from ingestion.queues import consumption, dead_letters
from tests.test_consumer import KEYS, QUEUE, eventually, fill

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "consumers.md").read_text()


def test_the_page_names_the_keys_and_the_scripts_that_are_used():
    rows = re.findall(r"^\| `(\S+)` \| (?:list|string|hash|sorted set) \|", PAGE, re.MULTILINE)
    names = {row.replace("{Q}", f"{{{QUEUE}}}").replace("NAME", "me") for row in rows}
    keys = (KEYS.claimed("me"), KEYS.leases, KEYS.consumers, KEYS.pause, KEYS.attempts, KEYS.dead)
    assert names == {"Q", *keys, KEYS.reasons}
    for script in re.findall(r"`(\w+\.lua)`", PAGE):
        assert (ROOT / "ingestion/queues/lua" / script).exists()


@pytest.mark.processes
def test_the_python_consumer_of_the_page_takes_reaps_and_buries(store):
    (example,) = re.findall(r"### A consumer in.+?```python\n(.+?)```", PAGE, re.DOTALL)
    # Only its pace is changed: it beats five times a second, and does not rest after a failure.
    quick = example.replace("HEARTBEAT_SECONDS = 5", "HEARTBEAT_SECONDS = 0.2")
    quick = quick.replace("5000 * HEARTBEAT_SECONDS", "int(5000 * HEARTBEAT_SECONDS)")
    quick = quick.replace("time.sleep(1)\n            put_back", "put_back")
    store.zadd(KEYS.leases, {"dead": 1})
    store.lpush(KEYS.claimed("dead"), b'{"id": "left"}')
    fill(b'{"id": "1"}', b'{"no": "id"}', b'{"id": "2"}')
    process = subprocess.Popen(
        [sys.executable, "-c", quick],
        cwd=ROOT,
        env={**os.environ, "REDIS_URL": embedded.url(Path(settings.DATA_DIR))},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        printed = [process.stdout.readline().strip() for _ in range(3)]
        eventually(lambda: not consumption([QUEUE])[0].in_flight)
        (seen,) = consumption([QUEUE])[0].consumers
    finally:
        process.kill()
        process.communicate()
    assert sorted(printed) == ["1", "2", "left"]
    assert (seen.pid, seen.alive) == (process.pid, True)
    (letter,) = dead_letters(QUEUE, first=0, count=5)
    assert (letter.message.raw, letter.reason) == (b'{"no": "id"}', "KeyError('id')")
