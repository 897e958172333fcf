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
    """Writes messages to standard output. The yielded function raises `DeliveryError` if it cannot,
    and another error if a message is not JSON; then it writes no line of that call."""
    # Unbuffered: no line may remain in memory and be written after its message was given back.
    with open(sys.stdout.fileno(), "wb", buffering=0, closefd=False) as file:
        yield partial(_print, file)


@contextmanager
def end_of_file(name: str) -> Iterator[Delivery]:
    """Appends messages to a file, and returns when they are on the disk; otherwise as above.

    The file is locked: a second process that appends to it is refused with a `CommandError`.
    """
    import fcntl  # not on Windows, where the other ways must still work

    with ExitStack() as stack:
        try:
            # Checked first: opening a pipe would wait for its other end, and a device is not a file
            # from which a line can be removed.
            if os.path.exists(name) and not os.path.isfile(name):
                raise CommandError(
                    f"{name} is not a plain file. Name one, or leave out --output and redirect "
                    "standard output."
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
    """Cut off an incomplete line of a killed consumer: its message will be delivered again.

    If the last line cannot be such a line, it stays and gets a line end.
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
            f"{file.name} cannot be written: {fault.strerror}. The messages are back on the queue."
        ) from fault


def _print(file: FileIO, messages: Sequence[bytes]) -> None:
    lines = _lines(messages)
    try:
        _write(file, lines)
    except OSError as fault:
        raise DeliveryError(
            f"Standard output takes no more: {fault.strerror}. The messages are back on the queue."
        ) from fault


def _write(file: FileIO, lines: bytes) -> None:
    rest = memoryview(lines)
    while rest:
        rest = rest[file.write(rest) :]


def _lines(messages: Sequence[bytes]) -> bytes:
    for one in messages:
        msgspec.json.decode(one)  # `format` alone would accept broken UTF-8
    return b"".join(msgspec.json.format(one, indent=-1) + b"\n" for one in messages)


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
