"""Messages as lines of NDJSON, to standard output or to the end of a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from io import FileIO

import msgspec
from django.core.management.base import CommandError

from ingestion.consumer import DeliveryError

Delivery = Callable[[Sequence[bytes]], object]


@contextmanager
def standard_output() -> Iterator[Delivery]:
    """Writes messages to standard output. What it yields raises `DeliveryError` if it cannot,
    and anything else if a message is no JSON; then no line of that call is written."""
    # Unbuffered: nothing may be left over to be written after it was given back.
    with open(sys.stdout.fileno(), "wb", buffering=0, closefd=False) as file:
        yield partial(_print, file)


@contextmanager
def end_of_file(name: str) -> Iterator[Delivery]:
    """Appends messages to a file, and returns once they are on the disk; otherwise as above.

    The file is locked: a second one that appends is refused with a `CommandError`.
    """
    import fcntl  # not on Windows, where the other ways must still work

    with ExitStack() as stack:
        try:
            # Looked at first: to open a pipe waits for its other end, and a device is no file that
            # a line can be taken back from.
            if os.path.exists(name) and not os.path.isfile(name):
                raise CommandError(
                    f"{name} is no plain file. Name one, or leave out --output: standard output "
                    "may lead anywhere."
                )
            file = stack.enter_context(open(name, "a+b", buffering=0))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _mend_last_line(file)
        except BlockingIOError as fault:
            raise CommandError(
                f"Another consumer writes to {name}: give each a file of its own."
            ) from fault
        except OSError as fault:
            raise CommandError(f"{name} cannot be appended to: {fault.strerror}.") from fault
        yield partial(_append, file)


def _mend_last_line(file: FileIO) -> None:
    """Cut off a line that a consumer was killed over: its message was not taken, and comes again.

    What cannot be such a line is left as it is, and ended.
    """
    start = end = file.seek(0, os.SEEK_END)
    tail = b""
    while start and b"\n" not in tail:
        size = min(start, 2**20)
        start = file.seek(start - size)
        tail = file.read(size) + tail
    last = tail.rpartition(b"\n")[2]
    if last.startswith(b"{") and not _is_json(last):
        file.truncate(end - len(last))
    elif last:
        file.write(b"\n")


def _append(file: FileIO, messages: Sequence[bytes]) -> None:
    lines = _lines(messages)
    try:
        start = file.seek(0, os.SEEK_END)
        try:
            _write(file, lines)
            os.fsync(file.fileno())
        except OSError:
            file.truncate(start)
            raise
    except OSError as fault:
        raise DeliveryError(
            f"{file.name} cannot be written: {fault.strerror}. The messages in hand are on the "
            "queue again."
        ) from fault


def _print(file: FileIO, messages: Sequence[bytes]) -> None:
    lines = _lines(messages)
    try:
        _write(file, lines)
    except OSError as fault:
        raise DeliveryError(
            f"Standard output takes no more: {fault.strerror}. The messages in hand are on the "
            "queue again."
        ) from fault


def _write(file: FileIO, lines: bytes) -> None:
    rest = memoryview(lines)
    while rest:
        rest = rest[file.write(rest) :]


def _lines(messages: Sequence[bytes]) -> bytes:
    for one in messages:
        msgspec.json.decode(one)  # `format` alone lets broken UTF-8 pass
    return b"".join(msgspec.json.format(one, indent=-1) + b"\n" for one in messages)


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
