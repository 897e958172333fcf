"""Records by REST: beside the peers, and how the cost grows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from tests.benchmarks import data, profile
from tests.benchmarks.contenders import (
    DRF,
    EMPTY,
    FASTAPI,
    LITESTAR,
    NINJA,
    PORTAL,
    TUNED,
    WEBDIS,
    WITHOUT_LANE,
    Site,
)
from tests.benchmarks.load import Sample, Sender, Work, bare_store, client
from tests.benchmarks.row import Goal, Medians, Row, Sizes, speed, times

STORE = "the bare store (redis-benchmark -P 64)"

_LOADED = ("per_second", "p50_ms", "p99_ms", "server_us", "store_us", "cores")
_SINGLES = (PORTAL, WITHOUT_LANE, FASTAPI, NINJA, DRF, LITESTAR, WEBDIS, EMPTY)
_BATCHES = (PORTAL, WITHOUT_LANE, FASTAPI, TUNED, NINJA, DRF, LITESTAR, EMPTY)


def intake(sizes: Sizes) -> Iterator[Row]:
    """The portal beside its peers."""
    few, many = sizes.load(4), sizes.load(32)

    def sent(name: str, work: Work, sender: Sender) -> Callable[[Site], Sample]:
        return partial(_sent, name, work, sender, workers=sizes.workers)

    yield Row(
        name="single",
        title="One session a request, 32 connections",
        figures=_LOADED,
        baseline=FASTAPI,
        cases={name: sent(name, data.single(), many) for name in _SINGLES},
        goals=(
            times("single", PORTAL, FASTAPI, 5),
            Goal(
                text="its p99 against the p50 of FastAPI",
                wanted=1,
                unit="times",
                at_most=True,
                found=lambda all_of: (
                    all_of["single"][PORTAL]["p99_ms"] / all_of["single"][FASTAPI]["p50_ms"]
                ),
            ),
            times("single", PORTAL, WEBDIS, 0.5),
        ),
    )
    yield Row(
        name="batch",
        title="Batches of 1,000 sessions, 4 connections",
        figures=_LOADED,
        baseline=FASTAPI,
        cases={
            **{name: sent(name, data.batch(), few) for name in _BATCHES},
            STORE: partial(_bare_store, sizes.of(1_000_000, least=10_000)),
        },
        goals=(times("batch", PORTAL, FASTAPI, 20), times("batch", PORTAL, STORE, 0.5)),
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
                    speed(all_of, "ndjson", PORTAL)
                    / max(speed(all_of, "ndjson", case) for case in best)
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
        goals=(times("bad", bad, good, 0.5),),
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
        data.fill(contender.store, waiting)
        return sender(contender, work)


def _bare_store(requests: int, site: Site) -> Sample:
    with site.store() as store:
        return bare_store(store.port, requests=requests)


def growth(sizes: Sizes) -> Iterator[Row]:
    """The portal alone, with more and more of one thing."""
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
            times("processes", f"{form}, processes: {workers}", f"{form}, processes: 1", 1)
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


def _ratio_kept(path: str, form: str) -> Goal:
    """The portal's lead over FastAPI is nearly that which it has with sessions."""

    def found(all_of: Medians) -> float:
        ours, theirs = (speed(all_of, path, f"{one}, {form}") for one in (PORTAL, FASTAPI))
        sessions = speed(all_of, form, PORTAL) / speed(all_of, form, FASTAPI)
        return ours / theirs / sessions

    return Goal(
        text=f"{form}: the ratio to FastAPI, against that of sessions",
        wanted=0.6,
        unit="times",
        case=f"{PORTAL}, {form}",
        found=found,
    )
