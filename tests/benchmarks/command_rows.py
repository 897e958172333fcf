"""Files from staff, and the commands for files and queues."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks import data
from tests.benchmarks.contenders import (
    PORTAL,
    Contender,
    MissingError,
    Site,
    manage,
    output,
)
from tests.benchmarks.data import Files
from tests.benchmarks.load import Sample, cores
from tests.benchmarks.row import Goal, Row, Sizes, at_least


def commands(sizes: Sizes, files: Files) -> Iterator[Row]:
    """From a file onto a queue, and from a queue into a file."""
    yield Row(
        name="csv",
        title="An uploaded CSV file of 200,000 sessions",
        figures=("read_per_second", "queued_per_second", "cores"),
        cases={PORTAL: lambda site: _read(site, files.csv)},
        goals=(
            at_least("csv", "read_per_second", 40_000, "rows/s reading"),
            at_least("csv", "queued_per_second", 60_000, "rows/s queueing"),
        ),
    )
    readers = ("calamine", "openpyxl")
    yield Row(
        name="xlsx",
        title="An uploaded XLSX file of 50,000 sessions: reading and validating",
        figures=("seconds",),
        baseline=readers[0],
        cases={
            PORTAL: lambda site: _read(site, files.xlsx),
            **{reader: partial(_cells, reader, files) for reader in readers},
        },
        goals=(
            Goal(
                text="time against that of the fastest safe reader for the cells alone",
                wanted=1.3,
                unit="times",
                at_most=True,
                found=lambda all_of: (
                    all_of["xlsx"][PORTAL]["seconds"]
                    / min(all_of["xlsx"][reader]["seconds"] for reader in readers)
                ),
            ),
        ),
    )
    yield Row(
        name="ingest",
        title="`manage.py ingest` of 1,000,000 lines of NDJSON",
        figures=("per_second", "seconds", "cores"),
        cases={PORTAL: lambda site: _ingest(site, files.ndjson)},
        goals=(at_least("ingest", "per_second", 60_000, "records/s"),),
    )
    yield Row(
        name="consume",
        title="`manage.py consume --batch-size 1000` of 1,000,000 messages into a file",
        figures=("per_second", "seconds", "cores"),
        cases={PORTAL: partial(_consume, sizes.of(1_000_000))},
        goals=(at_least("consume", "per_second", 60_000, "records/s"),),
    )


def _read(site: Site, file: Path) -> Sample:
    with site.running(PORTAL) as contender, _watched(contender) as sample:
        sample.update(_file_step("portal", file, contender.environment))
    return sample


def _cells(reader: str, files: Files, site: Site) -> Sample:
    try:
        return _file_step(reader, files.xlsx, {})
    except RuntimeError as fault:
        if "ModuleNotFoundError" in str(fault):
            raise MissingError(f"{reader} is not installed") from fault
        raise


def _file_step(reader: str, file: Path, environment: Mapping[str, str]) -> Sample:
    words = (sys.executable, "-m", "tests.benchmarks.file_steps", reader, str(file))
    sample: Sample = json.loads(output(words, environment))
    return sample


def _ingest(site: Site, file: Path) -> Sample:
    with site.running(PORTAL) as contender:
        with _watched(contender) as sample:
            manage(contender.environment, "ingest", str(file), "--type", "sessions")
        with file.open("rb") as lines:
            return _per_second(sample, contender.depth("sessions"), sum(1 for _ in lines))


def _consume(messages: int, site: Site) -> Sample:
    with site.running(PORTAL) as contender, TemporaryDirectory() as folder:
        data.fill(contender.store, messages, real=True)
        file = Path(folder) / "consumed.ndjson"
        with _watched(contender) as sample:
            words = ("--batch-size", "1000", "--drain", "--output", str(file))
            manage(contender.environment, "consume", "sessions", *words)
        with file.open("rb") as lines:
            return _per_second(sample, sum(1 for _ in lines), messages)


def _per_second(sample: Sample, done: int, wanted: int) -> Sample:
    if done != wanted:
        raise RuntimeError(f"{done} of {wanted} are there")
    return sample | {"per_second": done / sample["seconds"]}


@contextmanager
def _watched(contender: Contender) -> Iterator[Sample]:
    """Notes how long the block takes, unless that is noted in it, and who keeps the cores busy."""
    sample: Sample = {}
    begin = time.perf_counter()
    with cores(server=contender.server, store=contender.store_process) as used:
        yield sample
    used["command_cores"] = used.pop("load_cores")
    sample |= {"seconds": time.perf_counter() - begin} | used | sample
