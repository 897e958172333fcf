"""The process in which a file is read: `python -m ingestion.files.child <request>`.

It has the file as an open descriptor, and standard output as a pipe. It has no settings, no
database, no store, and no secret in its environment. It sets its limits before it reads the first
byte, and reports what it finds in frames: four bytes for the length, then the message. `limited` is
the other end.
"""

from __future__ import annotations

import io
import os
import resource
import sys
from collections.abc import Iterable
from typing import Any, BinaryIO

import msgspec

from ingestion.files import registry
from ingestion.files.look import Look
from ingestion.files.raw_rows import RawRow
from ingestion.files.shape import Shape, UnreadableFileError
from ingestion.outcomes import PayloadError

OUT_OF_MEMORY = 71
"""The exit status if the allowed memory was not enough."""

_OUTPUT = 1
_BATCH_BYTES = 2**18
_BATCH_ROWS = 500


class Request(msgspec.Struct, frozen=True):
    """The task: a look at the file if `names` are given, otherwise all its rows."""

    descriptor: int
    memory_bytes: int
    cpu_seconds: int
    most_unpacked_bytes: int
    shape: Shape | None = None
    names: list[str] | None = None


class Rows(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The next rows, and how many bytes of the file were read so far."""

    read_bytes: int
    rows: list[RawRow]


class Looked(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The result of the look."""

    look: Look


class Refused(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The file cannot be read further; one of our codes says why, sometimes with advice."""

    code: str
    advice: str = ""


class Faulty(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """An error of ours: the exception and its place. The exception's text may quote the file."""

    exception: str
    place: str


class Ended(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The end of the report."""


Frame = Rows | Looked | Refused | Faulty | Ended


def main(request: Request) -> None:
    """Do the task."""
    _limit(request)
    file = _Counted(request.descriptor, "rb")
    try:
        _answer(request, file, io.BufferedReader(file))
    except MemoryError:
        os._exit(OUT_OF_MEMORY)  # any other step might need memory
    except PayloadError as fault:
        advice = fault.advice if isinstance(fault, UnreadableFileError) else ""
        _say(Refused(fault.code.value, advice))
    except BrokenPipeError:
        return
    except Exception as fault:  # noqa: BLE001 (the process that started this one is told)
        _say(Faulty(type(fault).__name__, _place(fault)))


def _answer(request: Request, file: _Counted, buffered: BinaryIO) -> None:
    most_unpacked_bytes = request.most_unpacked_bytes
    if request.names is not None:
        names = frozenset(request.names)
        found = registry.look(
            buffered, names, most_unpacked_bytes=most_unpacked_bytes, shape=request.shape
        )
        _say(Looked(found))
    elif request.shape is not None:
        _tell(file, registry.rows(buffered, request.shape, most_unpacked_bytes=most_unpacked_bytes))
    _say(Ended())


def _tell(file: _Counted, rows: Iterable[RawRow]) -> None:
    batch: list[RawRow] = []
    size = 0
    try:
        for row in rows:
            batch.append(row)
            size += row.size
            if size > _BATCH_BYTES or len(batch) >= _BATCH_ROWS:
                _say(Rows(file.read_bytes, batch))
                batch, size = [], 0
    except PayloadError:
        _say(Rows(file.read_bytes, batch))  # the rows before the place that cannot be read
        raise
    _say(Rows(file.read_bytes, batch))


def _limit(request: Request) -> None:
    """Limit the resources of this process: above a limit only this process ends."""
    limits = {
        resource.RLIMIT_AS: request.memory_bytes,
        resource.RLIMIT_CPU: request.cpu_seconds,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 32,
    }
    for limit, most in limits.items():
        _, hard = resource.getrlimit(limit)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (most, most + 1 if limit == resource.RLIMIT_CPU else most))


def _say(frame: Frame) -> None:
    content = msgspec.msgpack.encode(frame)
    left = memoryview(len(content).to_bytes(4, "big") + content)
    while left:
        left = left[os.write(_OUTPUT, left) :]


def _place(fault: BaseException) -> str:
    at = fault.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return f"{os.path.basename(at.tb_frame.f_code.co_filename)}:{at.tb_lineno}" if at else ""


class _Counted(io.FileIO):
    """A file that knows how much of it was read."""

    read_bytes = 0

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer) or 0
        self.read_bytes += count
        return count


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Request))
