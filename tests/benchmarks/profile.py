"""Where the time of a request goes: py-spy looks at the web server while it is under load."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from shutil import which
from sys import executable
from tempfile import TemporaryDirectory

from tests.benchmarks import processes
from tests.benchmarks.contenders import Contender, MissingError
from tests.benchmarks.load import Sample, Sender, Work

# The files of each step, as py-spy names them.
STEPS = {
    "validation": r"ingestion/(validation|compiled|decoding|strict_json|serializers|fields)",
    "the store's client": r"ingestion/queues|redis/|hiredis/|django_redis/",
    "messages": r"ingestion/intake",
    "log": r"structlog/|logging/|tutormax/(logs|edge/log_lines)",
    "fast lane": r"tutormax/edge/fast_lane",
    "API": r"ingestion/api",
    "edge": r"tutormax/(edge|rsgi)",
    "Django and REST framework": r"django/|rest_framework/|corsheaders/|whitenoise/|axes/",
    "event loop and threads": r"asyncio/|concurrent/|threading|granian/|selectors",
}
OTHER = "other Python"
REST = "outside Python"
_RATE = 500


def profiled(contender: Contender, work: Work, sender: Sender) -> Sample:
    """Microseconds a record by step, under this load; `REST` is the web server's own code.

    py-spy looks at the thread that runs Python. A look is counted for the innermost of our steps
    that is at work in it. Raises `MissingError`.
    """
    program = which("py-spy", path=Path(executable).parent)
    if program is None:
        raise MissingError("py-spy is not installed")
    before = {one: processes.own_cpu_seconds(one) for one in processes.tree(contender.server)}
    sender(contender, work)
    # The process that worked most meanwhile is the one that answers.
    server = max(before, key=lambda one: processes.own_cpu_seconds(one) - before[one])
    with TemporaryDirectory() as folder:
        file = Path(folder) / "looks"
        begin = time.monotonic()
        options = f"--nonblocking --gil --format raw --rate {_RATE} --duration 3600".split()
        spy = subprocess.Popen(
            [program, "record", *options, "--pid", str(server), "--output", str(file)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        sample = sender(contender, work)
        spy.send_signal(signal.SIGINT)
        seconds = time.monotonic() - begin
        _, said = spy.communicate(timeout=60)
        if not file.exists():
            raise RuntimeError(f"py-spy wrote nothing: {said}")
        looks = _by_step(file.read_text())
    # So many cores each step takes, and a record its share of that.
    steps = {
        step: count / _RATE / seconds / sample["per_second"] * 1e6 for step, count in looks.items()
    }
    return {
        **dict.fromkeys((*STEPS, OTHER), 0.0),
        **steps,
        REST: max(0.0, sample["server_us"] - sum(steps.values())),
    }


def _by_step(raw: str) -> Counter[str]:
    """Counts looks. A line has the frames from the outermost to the innermost, and their number."""
    looks: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        looks[_step(stack)] += int(count)
    return looks


def _step(stack: str) -> str:
    for frame in reversed(stack.split(";")):
        for step, pattern in STEPS.items():
            if re.search(rf"\((?:{pattern})", frame):
                return step
    return OTHER
