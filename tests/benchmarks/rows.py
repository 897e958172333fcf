"""What `make bench` measures: each row is one work, with those who do it and the goals for it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TypeAlias
from urllib.parse import urlencode

import urllib3
from redis import Redis

from tests.benchmarks import data, processes, profile
from tests.benchmarks.contenders import (
    DRF,
    EMPTY,
    FASTAPI,
    LITESTAR,
    NINJA,
    PEERS,
    PORTAL,
    STAFF,
    TUNED,
    WEBDIS,
    WITHOUT_LANE,
    Contender,
    MissingError,
    Site,
    manage,
    output,
    portal_environment,
    started,
    wait_for,
)
from tests.benchmarks.data import Files
from tests.benchmarks.load import Sample, Sender, Work, bare_store, client, cores, wrk
from tests.benchmarks.peers.envelopes import SESSIONS, envelope, utc_now
from tests.portal_process import free_port

STORE = "the bare store (redis-benchmark -P 64)"
_LOAD_SECONDS = 8
_IDLE_SECONDS = 5
_PAGE_VIEWS = 20
_FILL_AT_ONCE = 1000

Medians: TypeAlias = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Row, case, figure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """What a row must come to.

    `found` takes it from the medians; a `KeyError` there means that something was not measured.
    `case` is whose CPU time tells what limits it.
    """

    text: str
    wanted: float
    unit: str
    found: Callable[[Medians], float]
    case: str = PORTAL
    at_most: bool = False

    def is_reached(self, value: float) -> bool:
        """Whether it is reached."""
        return value <= self.wanted if self.at_most else value >= self.wanted


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One work: its cases by name, each measured once a round, and the goals.

    `figures` are shown, the first of them with its spread and its ratio to that of `baseline`.
    """

    name: str
    title: str
    figures: tuple[str, ...]
    cases: Mapping[str, Callable[[Site], Sample]]
    baseline: str = ""
    goals: tuple[Goal, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """How much of everything; `scale` 1 is what the goals are set for."""

    scale: float = 1.0
    workers: int = 1
    sender: Callable[..., Sender] = wrk

    def of(self, whole: int, *, least: int = 1) -> int:
        """So many of something at this scale."""
        return max(least, int(whole * self.scale))

    def load(self, connections: int) -> Sender:
        """Some seconds of load on so many connections."""
        return self.sender(connections=connections, seconds=max(1.0, _LOAD_SECONDS * self.scale))


_LOADED = ("per_second", "p50_ms", "p99_ms", "server_us", "store_us", "cores")
_FILE = ("per_second", "seconds")
_SINGLES = (PORTAL, WITHOUT_LANE, FASTAPI, NINJA, DRF, LITESTAR, WEBDIS, EMPTY)
_BATCHES = (PORTAL, WITHOUT_LANE, FASTAPI, TUNED, NINJA, DRF, LITESTAR, EMPTY)


def rows(sizes: Sizes, files: Files) -> list[Row]:
    """All rows, in the order of the page."""
    return [*_intake(sizes), *_files(sizes, files), *_running(sizes), *_growth(sizes)]


# --- Records by REST ---------------------------------------------------------------------------


def _intake(sizes: Sizes) -> Iterator[Row]:
    few, many = sizes.load(4), sizes.load(32)

    def sent(name: str, work: Work, sender: Sender) -> Callable[[Site], Sample]:
        return partial(_sent, name, work, sender, workers=sizes.workers)

    yield Row(
        name="single",
        title="One session a request, 32 connections",
        figures=_LOADED,
        baseline=FASTAPI,
        cases={name: sent(name, data.single(), many) for name in _SINGLES if name in PEERS},
        goals=(
            _times("single", PORTAL, FASTAPI, 5),
            Goal(
                text="its p99 against the p50 of FastAPI",
                wanted=1,
                unit="times",
                at_most=True,
                found=lambda all_of: (
                    all_of["single"][PORTAL]["p99_ms"] / all_of["single"][FASTAPI]["p50_ms"]
                ),
            ),
            _times("single", PORTAL, WEBDIS, 0.5),
        ),
    )
    yield Row(
        name="batch",
        title="Batches of 1,000 sessions, 4 connections",
        figures=_LOADED,
        baseline=FASTAPI,
        cases={
            **{name: sent(name, data.batch(), few) for name in _BATCHES if name in PEERS},
            STORE: partial(_bare_store, sizes.of(1_000_000, least=10_000)),
        },
        goals=(_times("batch", PORTAL, FASTAPI, 20), _times("batch", PORTAL, STORE, 0.5)),
    )
    whole = sizes.of(1_000_000, least=10_000)
    lines = min(whole, 10_000)
    cases = {PORTAL: sent(PORTAL, data.ndjson(size=lines), client(requests=whole // lines))}
    best = []
    for name in (FASTAPI, TUNED):
        for size in (100, 1000, 10_000):
            if size <= lines:
                # The rate is compared: a few of the records show it.
                sender = client(requests=max(1, whole // 20 // size))
                case = f"{name}, {size:,} a batch"
                cases[case] = sent(name, data.batch(size=size), sender)
                best += [case] if name == FASTAPI else []
    yield Row(
        name="ndjson",
        title="1,000,000 sessions as NDJSON, 10,000 a batch, one client",
        figures=("per_second", "growth_mb", "server_us", "store_us", "cores"),
        cases=cases,
        baseline=best[-1],
        goals=(
            Goal(
                text="records/s against FastAPI at its best batch size",
                wanted=20,
                unit="times",
                found=lambda all_of: (
                    _speed(all_of, "ndjson", PORTAL)
                    / max(_speed(all_of, "ndjson", case) for case in best)
                ),
            ),
            Goal(
                text="growth of the server's memory",
                wanted=64,
                unit="MB",
                at_most=True,
                found=lambda all_of: all_of["ndjson"][PORTAL]["growth_mb"],
            ),
        ),
    )
    good, bad = "all are good", "one of 20 is bad"
    yield Row(
        name="bad",
        title="Batches of 1,000 sessions, 5 % of them bad, 4 connections",
        figures=_LOADED,
        baseline=good,
        cases={
            good: sent(PORTAL, data.batch(), few),
            bad: sent(PORTAL, data.batch(bad=True), few),
        },
        goals=(_times("bad", bad, good, 0.5),),
    )
    for path in ("tutors", "feedback"):
        works = {"single": (data.single(path), many), "batch": (data.batch(path), few)}
        yield Row(
            name=path,
            title={
                "tutors": "Tutor profiles, with an e-mail address",
                "feedback": "Feedback, with texts of 2,000 characters",
            }[path],
            figures=_LOADED,
            cases={
                f"{name}, {form}": sent(name, work, sender)
                for form, (work, sender) in works.items()
                for name in (PORTAL, FASTAPI)
            },
            goals=tuple(_ratio_kept(path, form) for form in works),
        )


def _sent(
    name: str, work: Work, sender: Sender, site: Site, *, workers: int = 1, waiting: int = 0
) -> Sample:
    with site.running(name, workers=workers) as contender:
        fill(contender.store, waiting)
        return sender(contender, work)


def _bare_store(requests: int, site: Site) -> Sample:
    with site.store() as store:
        return bare_store(store.port, requests=requests)


def _speed(all_of: Medians, row: str, case: str) -> float:
    return all_of[row][case]["per_second"]


def _times(row: str, case: str, other: str, wanted: float) -> Goal:
    return Goal(
        text=f"{case} against {other}",
        wanted=wanted,
        unit="times",
        case=case,
        found=lambda all_of: _speed(all_of, row, case) / _speed(all_of, row, other),
    )


def _ratio_kept(path: str, form: str) -> Goal:
    """The portal's lead over FastAPI is nearly that which it has with sessions."""

    def found(all_of: Medians) -> float:
        ours, theirs = (_speed(all_of, path, f"{one}, {form}") for one in (PORTAL, FASTAPI))
        sessions = _speed(all_of, form, PORTAL) / _speed(all_of, form, FASTAPI)
        return ours / theirs / sessions

    return Goal(
        text=f"{form}: the ratio to FastAPI, against that of sessions",
        wanted=0.6,
        unit="times",
        case=f"{PORTAL}, {form}",
        found=found,
    )


# --- Files and commands ------------------------------------------------------------------------


def _files(sizes: Sizes, files: Files) -> Iterator[Row]:
    yield Row(
        name="csv",
        title="An uploaded CSV file of 200,000 sessions",
        figures=("read_per_second", "queued_per_second", "cores"),
        cases={PORTAL: lambda site: _read(site, files.csv)},
        goals=(
            _at_least("csv", "read_per_second", 40_000, "rows/s reading"),
            _at_least("csv", "queued_per_second", 60_000, "rows/s queueing"),
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
        goals=(_at_least("ingest", "per_second", 60_000, "records/s"),),
    )
    yield Row(
        name="consume",
        title="`manage.py consume --batch-size 1000` of 1,000,000 messages into a file",
        figures=("per_second", "seconds", "cores"),
        cases={PORTAL: partial(_consume, sizes.of(1_000_000))},
        goals=(_at_least("consume", "per_second", 60_000, "records/s"),),
    )


def _at_least(row: str, figure: str, wanted: float, unit: str) -> Goal:
    return Goal(
        text=unit,
        wanted=wanted,
        unit="",
        found=lambda all_of: all_of[row][PORTAL][figure],
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
        fill(contender.store, messages, real=True)
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


def fill(store: Redis, messages: int, *, real: bool = False) -> None:
    """Put so many messages on the queue of sessions, whole ones or short ones.

    The append-only file is off meanwhile, and holds all of them afterwards.
    """
    if not messages:
        return
    record = data.records("sessions", 1)[0] if real else {}
    message = envelope(record, utc_now())
    store.config_set("appendonly", "no")
    left = messages
    while left:
        chunk = min(left, _FILL_AT_ONCE)
        store.lpush(SESSIONS, *[message] * chunk)
        left -= chunk
    store.config_set("appendonly", "yes")
    while any(
        store.info("persistence")[f"aof_rewrite_{word}"] for word in ("in_progress", "scheduled")
    ):
        time.sleep(0.05)


# --- The running portal ------------------------------------------------------------------------


def _running(sizes: Sizes) -> Iterator[Row]:
    first = "into an empty folder"
    yield Row(
        name="start",
        title="`manage.py serve` with the embedded store, installed, until the first answer",
        figures=("seconds", "memory_mb"),
        cases={first: partial(_start, False), "again": partial(_start, True)},
        goals=(
            Goal(
                text="until the first answer",
                wanted=2,
                unit="s",
                at_most=True,
                case=first,
                found=lambda all_of: all_of["start"][first]["seconds"],
            ),
            Goal(
                text="idle memory of web server, worker and store",
                wanted=250,
                unit="MB",
                at_most=True,
                case=first,
                found=lambda all_of: all_of["start"][first]["memory_mb"],
            ),
        ),
    )
    messages = sizes.of(1_000_000)
    pages = {"Overview": "/admin/", "Queue": "/admin/queues/sessions/"}
    yield Row(
        name="pages",
        title="Pages of the portal, 1,000,000 messages waiting, as a client on the machine sees it",
        figures=("p50_ms",),
        cases={name: partial(_page, path, messages) for name, path in pages.items()},
        goals=tuple(
            Goal(
                text=f"the page {name}",
                wanted=30,
                unit="ms",
                at_most=True,
                case=name,
                found=lambda all_of, name=name: all_of["pages"][name]["p50_ms"],  # type: ignore[misc]
            )
            for name in pages
        ),
    )


def _start(again: bool, site: Site) -> Sample:
    folder = site.new_folder()
    port = free_port()
    environment = {**portal_environment(folder / "var"), "PORT": str(port)}

    def start(*, idle: bool) -> Sample:
        begin = time.perf_counter()
        words, log = [sys.executable, "manage.py", "serve"], folder / "log"
        with started(words, environment, log) as process:
            wait_for(f"http://127.0.0.1:{port}", process, log)
            seconds = time.perf_counter() - begin
            used = processes.cpu_seconds(process.pid) / seconds
            if idle:
                time.sleep(_IDLE_SECONDS)
            return {
                "seconds": seconds,
                "server_cores": used,
                "memory_mb": processes.own_memory_bytes(process.pid) / 2**20,
            }

    if again:
        start(idle=False)
    return start(idle=True)


def _page(path: str, messages: int, site: Site) -> Sample:
    with site.running(PORTAL) as contender:
        fill(contender.store, messages, real=True)
        cookies = _signed_in(contender.address)
        with urllib3.PoolManager(headers={"Cookie": cookies}, retries=False) as browser:

            def view() -> float:
                begin = time.perf_counter()
                answer = browser.request("GET", contender.address + path)
                if answer.status != 200:
                    raise RuntimeError(f"{path}: {answer.status}")
                return (time.perf_counter() - begin) * 1000

            view()
            with cores(server=contender.server, store=contender.store_process) as used:
                times = [view() for _ in range(_PAGE_VIEWS)]
        return used | {"p50_ms": median(times)}


def _signed_in(address: str) -> str:
    """The cookies of somebody of the staff."""
    login = f"{address}/admin/login/"
    form = urllib3.request("GET", login, retries=False)
    cookies = _cookies(form)
    name, password = STAFF
    answer = urllib3.request(
        "POST",
        login,
        body=urlencode(
            {"username": name, "password": password, "csrfmiddlewaretoken": cookies["csrftoken"]}
        ),
        headers={
            "Cookie": f"csrftoken={cookies['csrftoken']}",
            "Content-Type": "application/x-www-form-urlencoded",
        },
        redirect=False,
        retries=False,
    )
    if answer.status != 302:
        raise RuntimeError(f"signing in: {answer.status}")
    return "; ".join(f"{key}={value}" for key, value in _cookies(answer).items())


def _cookies(answer: urllib3.BaseHTTPResponse) -> dict[str, str]:
    pairs = (one.partition(";")[0].split("=", 1) for one in answer.headers.getlist("Set-Cookie"))
    return {name: value for name, value in pairs}


# --- How it grows ------------------------------------------------------------------------------


def _growth(sizes: Sizes) -> Iterator[Row]:
    few, many = sizes.load(4), sizes.load(32)
    forms = {"single": (data.single(), many), "batch": (data.batch(), few)}
    cases = {
        f"{form}, processes: {workers}": partial(_sent, PORTAL, work, sender, workers=workers)
        for form, (work, sender) in forms.items()
        for workers in (1, 2, 4)
    }
    yield Row(
        name="processes",
        title="One, two and four server processes",
        figures=_LOADED,
        cases=cases,
        goals=tuple(
            _times("processes", f"{form}, processes: {workers}", f"{form}, processes: 1", 1)
            for form in forms
            for workers in (2, 4)
        ),
    )
    yield Row(
        name="batch-size",
        title="From 1 to 10,000 sessions a batch, 4 connections",
        figures=_LOADED,
        cases={
            f"records a batch: {size:,}": partial(_sent, PORTAL, data.batch(size=size), few)
            for size in (1, 10, 1000, 10_000)
        },
    )
    yield Row(
        name="depth",
        title="From an empty queue to 10,000,000 messages",
        figures=_LOADED,
        cases={
            f"{form}, waiting: {waiting:,}": partial(_sent, PORTAL, work, sender, waiting=waiting)
            for form, (work, sender) in forms.items()
            for waiting in (0, sizes.of(1_000_000), sizes.of(10_000_000))
        },
    )
    yield Row(
        name="connections",
        title="From 1 to 2,000 connections, one session a request",
        figures=_LOADED,
        cases={
            f"connections: {number:,}": partial(_sent, PORTAL, data.single(), sizes.load(number))
            for number in (1, 4, 32, 256, 1000, 2000)
        },
    )
    yield Row(
        name="profile",
        title="Where the server's CPU time goes, microseconds a record",
        figures=(*profile.STEPS, profile.OTHER, profile.REST),
        cases={form: partial(_profiled, work, sender) for form, (work, sender) in forms.items()},
    )


def _profiled(work: Work, sender: Sender, site: Site) -> Sample:
    with site.running(PORTAL) as contender:
        return profile.profiled(contender, work, sender)
