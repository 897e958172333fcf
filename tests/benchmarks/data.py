"""What is sent: records from the generator, files of them, and messages on a queue."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from datetime import date, datetime
from functools import cached_property
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import msgspec
from openpyxl import Workbook
from redis import Redis

from ingestion.generator import Record, generate
from tests.benchmarks.load import Work
from tests.benchmarks.peers.envelopes import SESSIONS, envelope, utc_now

_LONG_TEXT = "We went through every exercise twice, and it was worth the time. "
_LONG_TEXT_CHARACTERS = 2000
_BLOCK = 10_000
_FILL_AT_ONCE = 1000
_BAD_EVERY = 20


def records(path: str, number: int) -> list[Record]:
    """Generated records of a type; texts of feedback are long."""
    sizes = {
        "tutors": {"tutors": number, "sessions": 0, "feedback": 0},
        "sessions": {"tutors": max(1, number // 20), "sessions": number, "feedback": 0},
        "feedback": {"tutors": max(1, number // 20), "sessions": number, "feedback": number},
    }[path]
    made = list(generate(seed=1, start=date(2024, 5, 14), days=30, **sizes).by_path[path])
    if path == "feedback":
        text = (_LONG_TEXT * _LONG_TEXT_CHARACTERS)[:_LONG_TEXT_CHARACTERS]
        made = [{**record, "free_text_feedback": text} for record in made]
    return made


def single(path: str = "sessions") -> Work:
    """One record."""
    return Work(path=path, body=msgspec.json.encode(records(path, 1)[0]))


def batch(path: str = "sessions", *, size: int = 1000, bad: bool = False) -> Work:
    """Many records; if `bad`, one of twenty breaks a rule."""
    made = records(path, size)
    wrong = made[::_BAD_EVERY] if bad else []
    for record in wrong:
        record["engagement_score"] = 1.5
    return Work(
        path=path,
        body=msgspec.json.encode(made),
        records=size,
        valid=size - len(wrong),
        batch=True,
    )


def ndjson(*, size: int) -> Work:
    """Many sessions, one a line."""
    lines = b"\n".join(map(msgspec.json.encode, records("sessions", size)))
    return Work(
        path="sessions",
        body=lines,
        records=size,
        valid=size,
        batch=True,
        content_type="application/x-ndjson",
    )


def fill(store: Redis, messages: int, *, real: bool = False) -> None:
    """Put so many messages on the queue of sessions, whole ones or short ones.

    The append-only file is off meanwhile, and holds all of them afterwards.
    """
    if not messages:
        return
    record = records("sessions", 1)[0] if real else {}
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


class Files:
    """Files of so many sessions with ids of their own, each made when it is first asked for."""

    def __init__(self, folder: Path, *, lines: int, csv_rows: int, xlsx_rows: int) -> None:
        self._folder = folder
        self._lines, self._csv_rows, self._xlsx_rows = lines, csv_rows, xlsx_rows

    @cached_property
    def ndjson(self) -> Path:
        """One record a line."""
        file = self._folder / "sessions.ndjson"
        with file.open("wb") as target:
            for record in _sessions(self._lines):
                target.write(msgspec.json.encode(record) + b"\n")
        return file

    @cached_property
    def csv(self) -> Path:
        """A table as text."""
        file = self._folder / "sessions.csv"
        with file.open("w", newline="") as target:
            rows = _sessions(self._csv_rows)
            first = next(rows)
            writer = csv.writer(target)
            writer.writerow(first)
            writer.writerow(map(_text, first.values()))
            writer.writerows(map(_text, record.values()) for record in rows)
        return file

    @cached_property
    def xlsx(self) -> Path:
        """A workbook, its dates and numbers as Excel has them."""
        file = self._folder / "sessions.xlsx"
        book = Workbook(write_only=True)
        sheet = book.create_sheet()
        rows = _sessions(self._xlsx_rows)
        first = next(rows)
        sheet.append(list(first))
        for record in (first, *rows):
            sheet.append(
                [
                    datetime.fromisoformat(value)
                    if name.endswith(("_at", "_start")) and value
                    else value
                    for name, value in record.items()
                ]
            )
        book.save(file)
        return file


def _sessions(number: int) -> Iterator[Record]:
    block = records("sessions", min(number, _BLOCK))
    for at, record in enumerate(islice(cycle(block), number)):
        yield {**record, "session_id": f"{at:08}{record['session_id'][8:]}"}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
