"""Where the time of a request goes: py-spy looks at the web server while it is under load."""

from __future__ import annotations

import re
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

STEPS = {
    "validation": r"ingestion/(validation|compiled|decoding|strict_json|serializers|fields)",
    "the store's client": r"ingestion/queues|site-packages/(redis|hiredis|django_redis)",
    "messages": r"ingestion/intake",
    "log": r"structlog|tutormax/logs|/logging/",
    "API": r"ingestion/api",
    "edge": r"tutormax/(edge|rsgi)",
    "Django and REST framework": r"/(django|rest_framework|corsheaders|whitenoise|axes)/",
    "event loop and threads": r"asyncio|concurrent|threading|granian|selectors",
}
OTHER = "other Python"
REST = "outside Python"
_RATE = 500


def profiled(contender: Contender, work: Work, sender: Sender) -> Sample:
    """Microseconds a record by step, under this load; `REST` is the web server's own code.

    A look is counted for the innermost of our steps that is at work in it. Raises `MissingError`.
    """
    program = which("py-spy", path=Path(executable).parent)
    if program is None:
        raise MissingError("py-spy is not installed")
    sender(contender, work)
    # The process that has worked most is the one that answers.
    server = max(processes.tree(contender.server), key=processes.own_cpu_seconds)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "looks"
        begin = time.monotonic()
        words = f"record --nonblocking -f raw -r {_RATE} -d 3600 -p {server} -o {file}".split()
        spy = subprocess.Popen(
            [program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        sample = sender(contender, work)
        spy.send_signal(2)
        seconds = time.monotonic() - begin
        spy.wait(60)
        looks = _by_step(file.read_text())
    # So many cores each step takes, and a record its share of that.
    steps = {
        step: count / _RATE / seconds / sample["per_second"] * 1e6 for step, count in looks.items()
    }
    return {
        **dict.fromkeys((*STEPS, OTHER), 0.0),
        **steps,
        REST: sample["server_us"] - sum(steps.values()),
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
            if re.search(pattern, frame):
                return step
    return OTHER
