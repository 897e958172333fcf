"""Files read in a separate process: only that process pays, whatever a file costs."""

from __future__ import annotations

import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ingestion import file_rows
from ingestion.columns import our_names
from ingestion.files import limited, registry
from ingestion.files.limited import ChildFaultError, Limits
from ingestion.files.look import Look
from ingestion.files.raw_rows import Problem, RawRow
from ingestion.files.shape import Shape, UnreadableFileError
from ingestion.outcomes import PayloadError
from ingestion.processes import start_bound
from tests import odd_files
from tests.hostile_files import hostile_files

pytestmark = pytest.mark.processes

MIB = 2**20
NAMES = our_names()
SMALL = Limits(memory_bytes=128 * MIB, cpu_seconds=10, unpacked_bytes=256 * MIB)
JSON = Shape(file_format="json")
CSV = Shape(file_format="csv")


def unheard(_: int) -> None:
    """A caller that does not ask for progress."""


class Reader:
    """Reads contents in a limited process, and knows the processes that it used."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._path = folder / "file"
        self.processes: list[subprocess.Popen[bytes]] = []

        def start_and_note(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
            self.processes.append(start_bound(*arguments, **options))
            return self.processes[-1]

        monkeypatch.setattr(limited, "start_bound", start_and_note)

    def look(self, content: bytes, limits: Limits = SMALL) -> Look:
        self._path.write_bytes(content)
        with self._path.open("rb") as file:
            return limited.look(file.fileno(), NAMES, limits, unheard)

    @contextmanager
    def rows(
        self, content: bytes, shape: Shape, limits: Limits = SMALL, tick: limited.Tick = unheard
    ) -> Iterator[Iterator[RawRow]]:
        self._path.write_bytes(content)
        with (
            self._path.open("rb") as file,
            limited.rows(file.fileno(), shape, limits, tick) as rows,
        ):
            yield rows

    def read(self, content: bytes, limits: Limits = SMALL) -> int:
        """The number of rows, as an upload finds it: after a look."""
        shape = self.look(content, limits).shape
        with self.rows(content, shape, limits) as rows:
            return sum(1 for _ in rows)


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    return Reader(tmp_path, monkeypatch)


def test_a_limited_process_reads_the_same_as_this_process(reader: Reader, tmp_path: Path) -> None:
    content = 'tutor_id;name\n1;Zoë\n\n2;"a\nb"\n3;M\udcffller\n"broken\n'.encode(
        errors="surrogateescape"
    )
    found = reader.look(content)
    with (tmp_path / "file").open("rb") as file:
        assert file_rows.look(file) == found
        here = list(registry.rows(file, found.shape, most_unpacked_bytes=MIB))
    with reader.rows(content, found.shape) as rows:
        assert list(rows) == here
    assert here[4].texts == ["3", "M\udcffller"]


@pytest.mark.parametrize(("name", "content"), hostile_files(size=1).items())
def test_a_file_made_to_cost_stays_within_its_limits(
    name: str, content: bytes, reader: Reader
) -> None:
    try:
        count = reader.read(content)
    except UnreadableFileError as refusal:
        assert refusal.advice.endswith(".")
    else:
        assert name in ("far.xlsx", "empty-objects.json", "empty-lists.ndjson")
        assert count <= 400


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (odd_files.many_sheets(101), "more than 100 sheets"),
        (odd_files.many_sheets(1, name="x" * 300), "name is longer than 255"),
        (odd_files.many_relations(5001), "too many parts"),
        (odd_files.many_columns(501), "more than 500 columns"),
        (odd_files.many_values(4_000_000), "more memory than the 128 MiB"),
    ],
)
def test_beyond_a_limit_the_reason_is_told(content: bytes, words: str, reader: Reader) -> None:
    with pytest.raises(UnreadableFileError) as refusal:
        reader.read(content)
    assert words in refusal.value.advice


def test_control_without_the_limit_the_same_file_takes_what_it_wants(reader: Reader) -> None:
    much = Limits(memory_bytes=4096 * MIB, cpu_seconds=60, unpacked_bytes=256 * MIB)
    content = odd_files.many_values(4_000_000)
    with reader.rows(content, JSON, much) as rows:
        (row,) = rows
    assert row.problem is Problem.TOO_LONG


def test_a_file_that_takes_too_long_ends_its_process_alone(reader: Reader) -> None:
    quick = Limits(memory_bytes=512 * MIB, cpu_seconds=1, unpacked_bytes=MIB)
    content = odd_files.much_space(80 * MIB)
    with (
        pytest.raises(UnreadableFileError) as refusal,
        reader.rows(content, JSON, quick) as rows,
    ):
        list(rows)
    assert "takes too long" in refusal.value.advice
    assert reader.processes[-1].returncode == -signal.SIGXCPU


@pytest.mark.parametrize(
    ("word", "advice"), [(signal.SIGABRT, "damaged"), (signal.SIGKILL, "more memory")]
)
def test_a_process_that_dies_is_a_refused_file(
    word: signal.Signals, advice: str, reader: Reader
) -> None:
    content = b"name\n" + b"x\n" * 500_000
    with (
        pytest.raises(UnreadableFileError) as refusal,
        reader.rows(content, CSV) as rows,
    ):
        next(rows)
        reader.processes[-1].send_signal(word)
        list(rows)
    assert advice in refusal.value.advice


def test_the_process_ends_if_its_reader_stops_reading(reader: Reader) -> None:
    class StopError(Exception):
        pass

    def stop(_: int) -> None:
        raise StopError

    with pytest.raises(StopError), reader.rows(b"name\nx\n", CSV, tick=stop) as rows:
        list(rows)
    with reader.rows(b"name\n" + b"x\n" * 500_000, CSV) as rows:
        next(rows)  # and no more
    assert all(process.returncode is not None for process in reader.processes)


def test_the_process_has_nothing_at_hand_but_the_file(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "canary")
    with reader.rows(b"name\n" + b"x\n" * 500_000, CSV) as rows:
        next(rows)
        process = Path(f"/proc/{reader.processes[-1].pid}")
        environment = process.joinpath("environ").read_bytes()
        opened = {link.readlink().name for link in process.joinpath("fd").iterdir()}
    assert environment in (b"", b"LC_CTYPE=C.UTF-8\x00")  # Python's own, in the C locale
    assert {name for name in opened if not name.startswith("pipe:")} == {"file", "null"}


def test_a_mistake_of_ours_is_no_fault_of_the_file(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limited, "_encoded", lambda _: "{}")
    with pytest.raises(ChildFaultError), reader.rows(b"x", CSV) as rows:
        list(rows)


@pytest.mark.parametrize("seed", range(200))
def test_odd_files_are_rows_or_refusals_and_nothing_else(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(odd_files.odd(random.Random(seed)))
    with path.open("rb") as file:
        try:
            found = file_rows.look(file)
            rows = list(registry.rows(file, found.shape, most_unpacked_bytes=MIB))
        except PayloadError:
            return
    assert all(len(row.cells) <= 500 for row in rows)
