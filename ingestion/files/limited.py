"""Reads files in a separate process, which may die without harm to this one.

Whatever a file was made to cost, it costs at most these limits, in that process. Whatever it makes
a parser do, no database, store or secret is within reach.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ingestion.files.child import (
    OUT_OF_MEMORY,
    Ended,
    Faulty,
    Frame,
    Looked,
    Refused,
    Request,
    Rows,
)
from ingestion.files.look import Look
from ingestion.files.raw_rows import RawRow
from ingestion.files.shape import Shape, UnreadableFileError
from ingestion.outcomes import Code, PayloadError
from ingestion.processes import start_bound

_ROOT = Path(__file__).resolve().parent.parent.parent
_CHILD = "ingestion.files.child"
_LONGEST_FRAME_BYTES = 2**26
_TICK_SECONDS = 0.5
# Waiting for a slow disk costs no CPU time, so the limit by the clock is this many times higher.
_CLOCK_FACTOR = 10

Tick = Callable[[int], None]
"""Called with the number of bytes read so far, about twice a second and after every batch of rows.
If it raises, the reading ends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The limits for reading one file."""

    memory_bytes: int
    cpu_seconds: int
    unpacked_bytes: int


class ChildFaultError(Exception):
    """The reading process failed because of an error of ours: which exception, and where."""


def look(
    descriptor: int, names: Set[str], limits: Limits, tick: Tick, shape: Shape | None = None
) -> Look:
    """`registry.look` at an open file. Raises `PayloadError`, `ChildFaultError`."""
    request = _request(descriptor, limits, shape, names)
    with _frames(request, tick) as frames:
        for frame in frames:
            if isinstance(frame, Looked):
                return frame.look
    raise ChildFaultError("nothing found")


@contextmanager
def rows(descriptor: int, shape: Shape, limits: Limits, tick: Tick) -> Iterator[Iterator[RawRow]]:
    """`registry.rows` of an open file. Raises `PayloadError`, `ChildFaultError`."""
    with _frames(_request(descriptor, limits, shape), tick) as frames:
        yield (row for frame in frames if isinstance(frame, Rows) for row in frame.rows)


def _request(
    descriptor: int, limits: Limits, shape: Shape | None, names: Set[str] | None = None
) -> Request:
    return Request(
        descriptor=descriptor,
        memory_bytes=limits.memory_bytes,
        cpu_seconds=limits.cpu_seconds,
        most_unpacked_bytes=limits.unpacked_bytes,
        shape=shape,
        names=None if names is None else sorted(names),
    )


@contextmanager
def _frames(request: Request, tick: Tick) -> Iterator[Iterator[Frame]]:
    reading_end, writing_end = os.pipe()
    with open(reading_end, "rb", buffering=0) as output:
        try:
            process = start_bound(
                [sys.executable, "-B", "-m", _CHILD, _encoded(request)],
                cwd=_ROOT,
                env={},
                stdout=writing_end,
                stderr=subprocess.DEVNULL,
                pass_fds=(request.descriptor,),
            )
        finally:
            os.close(writing_end)
        try:
            yield _received(process, output.fileno(), request, tick)
        finally:
            process.kill()
            process.wait()


def _encoded(request: Request) -> str:
    return msgspec.json.encode(request).decode()


def _received(
    process: subprocess.Popen[bytes], output: int, request: Request, tick: Tick
) -> Iterator[Frame]:
    """The frames of the child until it ends; raises what the child reports or its death means."""
    pipe = _Pipe(output, request.cpu_seconds * _CLOCK_FACTOR, tick)
    while head := pipe.take(4):
        length = int.from_bytes(head, "big")
        if length > _LONGEST_FRAME_BYTES:
            raise ChildFaultError("a frame that is too long")
        content = pipe.take(length)
        if not content:
            break
        match frame := _decoder.decode(content):
            case Rows():
                pipe.read_bytes = frame.read_bytes
                tick(frame.read_bytes)
                yield frame
            case Looked():
                yield frame
            case Refused(advice=""):
                raise PayloadError(Code(frame.code))
            case Refused():
                raise UnreadableFileError(frame.advice)
            case Faulty():
                raise ChildFaultError(f"{frame.exception} at {frame.place}")
            case Ended():
                return
    status = process.wait()
    if status > 0 and status != OUT_OF_MEMORY:
        raise ChildFaultError(f"exit status {status}")
    raise _death(status, request)


class _Pipe:
    """The child's output; while it waits, it calls `tick`."""

    def __init__(self, descriptor: int, most_seconds: float, tick: Tick) -> None:
        self.read_bytes = 0
        self._descriptor = descriptor
        self._most_seconds = most_seconds
        self._tick = tick
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def take(self, count: int) -> bytes:
        """This many bytes, or none at all if the child has ended."""
        content = bytearray()
        waits_since = time.monotonic()
        while len(content) < count:
            if not self._poll.poll(_TICK_SECONDS * 1000):
                self._tick(self.read_bytes)
                if time.monotonic() - waits_since > self._most_seconds:
                    raise _too_slow()
                continue
            piece = os.read(self._descriptor, count - len(content))
            if not piece:
                return b""
            content += piece
        return bytes(content)


def _death(status: int, request: Request) -> PayloadError:
    """Why a child ended without a report. If it was killed and not by us, the kernel had too little
    memory."""
    if status in (OUT_OF_MEMORY, -signal.SIGKILL):
        most = request.memory_bytes // 2**20
        return UnreadableFileError(
            f"The file needs more memory than the {most} MiB that reading one may take. Split it, "
            "or save the records as CSV, and upload that."
        )
    if status == -signal.SIGXCPU:
        return _too_slow()
    return UnreadableFileError(
        "The file cannot be read: it is damaged. Save it again, best as CSV, and upload that."
    )


def _too_slow() -> PayloadError:
    return UnreadableFileError(
        "Reading the file takes too long. Split it, or save the records as CSV, and upload that."
    )


_decoder = msgspec.msgpack.Decoder(Frame)
