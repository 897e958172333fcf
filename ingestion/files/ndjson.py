"""NDJSON: a record of JSON on each line."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Sequence, Set
from typing import BinaryIO

from ingestion.files.format import Column, Head, Option
from ingestion.files.json import JsonWriter
from ingestion.files.look import Look, look_at_records
from ingestion.files.raw_rows import Problem, RawRow, json_row
from ingestion.files.shape import LONGEST_RECORD, Shape


class Ndjson:
    """The format."""

    name = "ndjson"
    title = "NDJSON"
    media_type = "application/x-ndjson"
    is_table = False
    has_lines = True
    is_text = True
    options: Sequence[Option] = ()

    def recognises(self, head: Head) -> bool:
        """Lines, and a record on any of the first.

        Not on the first alone: that very one may be broken, or too long. And one record alone is
        JSON: its lines do not stand for themselves.
        """
        if not head.text or head.text.startswith("["):
            return False
        lines = list(head.lines())
        return len(lines) > 1 and any(map(_is_record, lines))

    def look(
        self, file: BinaryIO, names: Set[str], shape: Shape | None, most_unpacked_bytes: int
    ) -> Look:
        """The first records."""
        shape = shape or Shape(file_format=self.name)
        return look_at_records(self.rows(file, shape, most_unpacked_bytes), shape)

    def rows(self, file: BinaryIO, shape: Shape, most_unpacked_bytes: int) -> Iterator[RawRow]:
        """The lines."""
        file.seek(0)
        line = 0
        while content := file.readline(LONGEST_RECORD + 1):
            line += 1
            if line == 1:
                content = content.removeprefix(codecs.BOM_UTF8)
            if len(content) > LONGEST_RECORD:
                while content and not content.endswith(b"\n"):
                    content = file.readline(LONGEST_RECORD)
                yield RawRow(line, problem=Problem.TOO_LONG)
            elif content.strip(b" \t\r\n"):
                yield json_row(line, content)
            else:
                yield RawRow(line)

    def words(self, shape: Shape) -> list[str]:
        """Nothing is left open."""
        return []

    def writer(self, file: BinaryIO, shape: Shape, columns: Sequence[Column]) -> JsonWriter:
        """A line for each record."""
        return JsonWriter(file, b"", b"\n", b"\n")


def _is_record(line: bytes) -> bool:
    try:
        return line.startswith(b"{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
