"""NDJSON: a record of JSON on each line."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from ingestion.files.format import Column, Head
from ingestion.files.json import Json, JsonWriter
from ingestion.files.raw_rows import Problem, RawRow, json_row
from ingestion.files.shape import LONGEST_RECORD, Shape


class Ndjson(Json):
    """The format: like JSON, except for what this class changes."""

    name = "ndjson"
    title = "NDJSON"
    media_type = "application/x-ndjson"
    has_lines = True

    def recognises(self, head: Head) -> bool:
        """A file of lines, with a record on any of the first.

        The first line may be broken or too long, so the next ones count as well. A file with only
        one record is JSON.
        """
        if not head.text or head.text.startswith("["):
            return False
        lines = list(head.lines())
        return len(lines) > 1 and any(map(_is_record, lines))

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

    def writer(self, file: BinaryIO, shape: Shape, columns: Sequence[Column]) -> JsonWriter:
        """A line for each record."""
        return JsonWriter(file, b"", b"\n", b"\n")


def _is_record(line: bytes) -> bool:
    try:
        return line.startswith(b"{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
