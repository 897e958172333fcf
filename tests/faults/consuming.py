"""A process that quickly starts consumers as separate processes: it has imported everything.

Each line of its input is one consumer to fork, as JSON; it answers with the pid. `Consuming` says
what a consumer does. When the input ends, the process kills the consumers that still live.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent


class Consumers:
    """Starts consumers that note each message in their own file before they acknowledge it.

    A line of the file is the time of the system's monotonic clock and the message. Every message
    takes `work_seconds`. A message that begins with `killer` kills its consumer. A message that
    begins with `wait:` takes until the file of this name exists.
    """

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._started = 0

    def start(self, queue: str, **how: Any) -> int:
        """A consumer's pid. `how`: plain, batch_size, lease_seconds, work_seconds, max_attempts."""
        self._started += 1
        notes = str(self._folder / f"{self._started}.notes")
        self._process.stdin.write(json.dumps({"queue": queue, "notes": notes, **how}) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def delivered(self) -> list[tuple[float, str]]:
        """All notes so far, the oldest first: the time and the message."""
        notes = []
        for file in self._folder.glob("*.notes"):
            for line in file.read_text().splitlines():
                at, _, message = line.partition(" ")
                notes.append((float(at), message))
        return sorted(notes)


@contextmanager
def consumers(folder: Path, data_dir: Path) -> Iterator[Consumers]:
    """Consumers of the embedded store on `data_dir`; all are dead at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.consuming"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tutormax.settings",
            "DATA_DIR": str(data_dir),
            "LOG_LEVEL": "CRITICAL",
        },
    )
    try:
        yield Consumers(process, folder)
    finally:
        process.communicate(timeout=20)


def end(pid: int, word: signal.Signals = signal.SIGKILL) -> None:
    """Kill a consumer, and return when it is gone."""
    os.kill(pid, word)
    deadline = time.monotonic() + 20
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        assert time.monotonic() < deadline
        time.sleep(0.001)


def _consume(how: dict[str, Any]) -> None:
    from threading import Event

    from django_redis import get_redis_connection

    from ingestion import consumer
    from ingestion.queues import claims

    claims.MAX_ATTEMPTS = how.get("max_attempts", claims.MAX_ATTEMPTS)
    consumer.MAX_ATTEMPTS = claims.MAX_ATTEMPTS  # type: ignore[attr-defined]
    notes = os.open(how["notes"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def deliver(messages: Any) -> None:
        for message in messages:
            text = message.decode()
            if text.startswith("killer"):
                os.kill(os.getpid(), signal.SIGKILL)
            while text.startswith("wait:") and not os.path.exists(text.removeprefix("wait:")):
                time.sleep(0.01)
            time.sleep(how.get("work_seconds", 0))
            os.write(notes, f"{time.monotonic()} {text}\n".encode())

    while how.get("plain"):
        message = get_redis_connection("store").rpop(how["queue"])
        if message is not None:
            deliver([message])
    consumer.consume(
        how["queue"],
        deliver,
        stopping=Event(),
        batch_size=how.get("batch_size", 1),
        lease_seconds=how["lease_seconds"],
    )


def _main() -> None:
    import django

    django.setup()
    import ingestion.consumer  # noqa: F401 (before the fork, so that each starts at once)

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # dead processes are removed at once
    pids = []
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _consume(json.loads(line))
        pids.append(pid)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    _main()
