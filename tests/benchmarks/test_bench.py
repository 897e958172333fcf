"""`make bench` in short: what it needs works. No time is asserted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import which

import pytest

from tests.benchmarks import data, load, results
from tests.benchmarks.__main__ import measure, rows
from tests.benchmarks.contenders import EMPTY, FASTAPI, PEERS, PORTAL, Contender, Site
from tests.benchmarks.data import Files
from tests.benchmarks.load import Sender
from tests.benchmarks.results import Result
from tests.benchmarks.row import Row, Sizes

_PAGE = results.PAGE.read_text()

runs = pytest.mark.xdist_group("bench")


class SharedSite(Site):
    """Starts each server only once, and empties its store each time: that is fast."""

    def __init__(self, folder: Path, started: ExitStack) -> None:
        super().__init__(folder)
        self._kept: dict[str, Contender] = {}
        self._all = started

    @contextmanager
    def running(self, name: str, *, workers: int = 1, **settings: str) -> Iterator[Contender]:
        if name not in self._kept:
            self._kept[name] = self._all.enter_context(super().running(name))
        self._kept[name].store.flushall()
        yield self._kept[name]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as started:
        yield SharedSite(tmp_path_factory.mktemp("site"), started)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    def few(*, connections: int, seconds: float) -> Sender:
        return load.client(requests=3)  # no other program is needed

    files = Files(tmp_path_factory.mktemp("files"), lines=1500, csv_rows=300, xlsx_rows=30)
    return {row.name: row for row in rows(Sizes(scale=0.001, sender=few), files)}


def measured(row: Row, case: str, site: Site) -> dict[str, float]:
    only = {case: row.cases[case]}
    (result,) = measure([replace(row, cases=only, baseline="", goals=())], 1, site)
    assert not result.missing
    return result.medians()[case]


@runs
@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, peer in PEERS.items() if not peer.needs])
def test_a_server_that_needs_no_other_package_takes_sessions(name, known, site):
    for row in ("single", "batch"):
        assert measured(known[row], name, site)["per_second"] > 0


@runs
@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "case"),
    [
        ("ndjson", PORTAL),
        ("bad", "one of 20 is bad"),
        ("tutors", f"{PORTAL}, batch"),
        ("feedback", f"{PORTAL}, batch"),
        ("csv", PORTAL),
        ("xlsx", PORTAL),
        ("ingest", PORTAL),
        ("consume", PORTAL),
        ("pages", "Queue"),
    ],
)
def test_each_work_can_be_done(row, case, known, site):
    first, *_ = known[row].figures
    assert measured(known[row], case, site)[first] > 0


@runs
@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.skipif(not which("wrk"), reason="`apt-get install wrk` brings it")
def test_wrk_sends_each_request_with_a_value_of_its_own(site):
    with site.running(PORTAL) as portal:
        # Of two requests with one Idempotency-Key, one would be missing on the queue.
        found = load.wrk(connections=2, seconds=1)(portal, data.single())
    assert found["per_second"] > 0


def result(row: Row, **speeds: Sequence[float]) -> Result:
    return Result(
        row=replace(row, cases={name: row.cases[name] for name in (PORTAL, FASTAPI, EMPTY)}),
        samples={
            case: [{"per_second": speed, "server_cores": 0.5} for speed in speeds[name]]
            for name, case in (("ours", PORTAL), ("theirs", FASTAPI))
        },
        missing={EMPTY: "left out"},
    )


def test_a_run_becomes_a_table_and_a_drawing(known, tmp_path, monkeypatch):
    page, drawing = tmp_path / "page.md", tmp_path / "drawing.svg"
    page.write_text("before\n<!-- figures -->\nold\n<!-- /figures -->\nafter\n")
    monkeypatch.setattr(results, "PAGE", page)
    monkeypatch.setattr(results, "DRAWING", drawing)
    monkeypatch.setattr(results, "KEPT", tmp_path / "kept.json")
    speeds: dict[str, list[float]] = {"ours": [90, 100, 110], "theirs": [10, 10, 10]}
    done = [result(known[name], **speeds) for name in ("single", "batch")]
    for one in done:
        results.keep(one)
    assert results.kept([known["single"]]) == []  # it has other cases by now
    assert results.kept(one.row for one in done) == done
    results.write(done, absent=["csv"])
    text = page.read_text()
    assert "The row `csv` is not measured yet." in text
    assert text.startswith("before\n<!-- figures -->\n![")
    assert text.endswith("<!-- /figures -->\nafter\n") and "old" not in text
    assert f"| {PORTAL} | 100 | 90 - 110 | 10 |" in text
    assert "| ≥ 5 times | 10 times | yes | server 0.50" in text
    assert (
        "| ≥ 20 times | 10 times | **no** | waiting for each other, or for the disk: server 0.50"
        in text
    )
    assert "not measured" in text
    assert drawing.read_text().count("<rect") == 4


def test_the_page_has_a_place_for_the_figures_and_names_every_row(known):
    assert re.findall("<!--.*?-->", _PAGE) == ["<!-- figures -->", "<!-- /figures -->"]
    section = _PAGE.partition("| row | work |")[2].partition("\n\n")[0]
    named = re.findall(r"`([a-z-]+)`", "".join(re.findall(r"^\|([^|]+)\|", section, re.MULTILINE)))
    assert named == list(known)
