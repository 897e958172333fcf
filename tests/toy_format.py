"""A format for tests, and the limited process that knows it too: `python -m tests.toy_format`.

Its files begin with a line `%toy`. Then come a table's header row and its rows, with cells that are
separated by a mark.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence, Set
from typing import Any, BinaryIO

import msgspec

from ingestion.files import child
from ingestion.files.format import Column, Head, Option, Writer
from ingestion.files.look import Look, look_at_table
from ingestion.files.raw_rows import RawRow, table_row
from ingestion.files.registry import FORMATS
from ingestion.files.shape import Shape

MARK = Option(
    name="mark",
    label="The mark of toys",
    choices={"~": "Wave", "^": "Roof"},
    question="Which mark parts the cells of a toy.",
)


class Toy:
    name = "toy"
    title = "Toy"
    media_type = "application/x-toy"
    is_table = True
    has_lines = True
    is_text = True
    options: Sequence[Option] = (MARK,)

    def recognises(self, head: Head) -> bool:
        return head.text.startswith("%toy")

    def look(
        self, file: BinaryIO, names: Set[str], shape: Shape | None, most_unpacked_bytes: int
    ) -> Look:
        unsure = [] if shape else [MARK.name]
        shape = shape or Shape(file_format=self.name, header_line=2, options={MARK.name: "~"})
        return look_at_table(self.rows(file, shape, most_unpacked_bytes), shape, unsure=unsure)

    def rows(self, file: BinaryIO, shape: Shape, most_unpacked_bytes: int) -> Iterator[RawRow]:
        file.seek(0)
        for line, content in enumerate(file, start=1):
            if line >= shape.header_line:
                cells = content.decode().rstrip("\n").split(shape.options[MARK.name])
                yield table_row(line, cells)

    def words(self, shape: Shape) -> list[str]:
        return [f"separated by {MARK.choices[shape.options[MARK.name]].lower()}"]

    def writer(self, file: BinaryIO, shape: Shape, columns: Sequence[Column]) -> Writer:
        file.write(b"%toy\n")
        writer = _Writer(file, shape.options.get(MARK.name, "~"))
        writer.add([column.name for column in columns])
        return writer


class _Writer:
    def __init__(self, file: BinaryIO, mark: str) -> None:
        self._file = file
        self._mark = mark

    def add(self, row: Any, *, is_unread: bool = False) -> None:
        self._file.write(f"{self._mark.join(row)}\n".encode())

    def finish(self) -> None:
        pass


if __name__ == "__main__":
    FORMATS[Toy.name] = Toy()
    child.main(msgspec.json.decode(sys.argv[1], type=child.Request))
