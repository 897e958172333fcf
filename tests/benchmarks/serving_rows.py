"""The portal as it starts, rests and shows its pages."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from functools import partial
from statistics import median
from urllib.parse import urlencode

import urllib3

from tests.benchmarks import data, processes
from tests.benchmarks.contenders import (
    PORTAL,
    STAFF,
    Site,
    portal_environment,
    started,
    wait_for,
)
from tests.benchmarks.load import Sample, cores
from tests.benchmarks.row import Goal, Row, Sizes
from tests.portal_process import free_port

_IDLE_SECONDS = 5
_PAGE_VIEWS = 20


def serving(sizes: Sizes) -> Iterator[Row]:
    """The start, and two pages."""
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
        data.fill(contender.store, messages, real=True)
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
