"""`manage.py consume`: takes messages off a queue, to a file, to a pipe, or to a function."""

from __future__ import annotations

import signal
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from threading import Event
from types import FrameType
from typing import Any

import msgspec
from django.core.management.base import CommandError, CommandParser

from ingestion.consumer import DeliveryError, consume
from ingestion.management.command import add_record_type
from ingestion.management.ndjson_output import Delivery, end_of_file, standard_output
from ingestion.management.store_command import StoreCommand
from ingestion.queues import MAX_ATTEMPTS
from ingestion.records import RECORD_TYPES

_LARGEST_BATCH = 1000


class Command(StoreCommand):
    """Delivers each message at least once, and takes it off only after it is delivered."""

    help = (
        "Takes messages off a queue and writes them as NDJSON to standard output, to a file, or "
        "gives them to a Python function. A message leaves the queue only when its line is written "
        "or the function has returned. The messages that a killed consumer held come again within "
        f"half a minute. A message that fails {MAX_ATTEMPTS} times becomes a dead letter (see the "
        "command dead_letters). After SIGTERM or Ctrl-C the command finishes its message and ends; "
        "after a second one it ends at once. While the queue is paused, nothing is taken."
    )

    examples = (
        "sessions > sessions.ndjson",
        "sessions --output sessions.ndjson --drain",
        "feedback --handler mypackage.ratings:store --batch-size 100",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Which queue, where to, how many."""
        add_record_type(parser, "type", help="whose queue to take from")
        target = parser.add_mutually_exclusive_group()
        target.add_argument(
            "--output",
            metavar="FILE",
            help="append to this file (a plain one, no pipe or device), not to standard output",
        )
        target.add_argument(
            "--handler",
            metavar="PACKAGE.MODULE:FUNCTION",
            type=_handler,
            help="call this with each message, a dict; with --batch-size, with a list of them. "
            "Raising anything gives them back",
        )
        parser.add_argument(
            "--batch-size",
            metavar="N",
            type=_batch_size,
            help=f"take up to N messages at once, up to {_LARGEST_BATCH} (default: one by one)",
        )
        parser.add_argument(
            "--max", metavar="N", type=_count, help="stop after N messages are delivered"
        )
        parser.add_argument(
            "--drain", action="store_true", help="stop when the queue is empty, do not wait"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Consume until told to stop."""
        with _stopped_by_signals() as stopping, _delivery(options) as deliver:
            try:
                tally = consume(
                    RECORD_TYPES[options["type"]].queue,
                    deliver,
                    stopping=stopping,
                    batch_size=options["batch_size"] or 1,
                    most=options["max"],
                    drain=options["drain"],
                )
            except DeliveryError as fault:
                raise CommandError(str(fault)) from fault
            except KeyboardInterrupt as fault:
                raise CommandError(
                    "Stopped in the middle of a message; it is on the queue again."
                ) from fault
        if tally.pause is not None:
            raise CommandError(
                "The queue is paused: resume it in the portal, or leave out --drain to wait."
            )


@contextmanager
def _stopped_by_signals() -> Iterator[Event]:
    """An event that the first SIGTERM or SIGINT sets; the second has its usual effect."""
    stopping = Event()
    before = {word: signal.getsignal(word) for word in (signal.SIGTERM, signal.SIGINT)}

    def stop(word: int, frame: FrameType | None) -> None:
        stopping.set()
        restore()

    def restore() -> None:
        for word, handler in before.items():
            signal.signal(word, handler)

    for word in before:
        signal.signal(word, stop)
    try:
        yield stopping
    finally:
        restore()


def _delivery(options: dict[str, Any]) -> AbstractContextManager[Delivery]:
    """The function for claimed messages, inside its block."""
    handler = options["handler"]
    if handler and options["batch_size"]:
        return nullcontext(lambda messages: handler([msgspec.json.decode(one) for one in messages]))
    if handler:
        return nullcontext(lambda messages: handler(msgspec.json.decode(messages[0])))
    return end_of_file(options["output"]) if options["output"] else standard_output()


def _handler(path: str) -> Callable[[Any], object]:
    module, _, name = path.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as fault:
        raise ArgumentTypeError(f"there is no {path}: {fault}") from fault
    if not callable(found):
        raise ArgumentTypeError(f"{path} is not a function")
    handler: Callable[[Any], object] = found
    return handler


def _batch_size(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _LARGEST_BATCH:
        raise ArgumentTypeError(f"write a whole number from 1 to {_LARGEST_BATCH}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError("write a whole number from 1 on")
    return int(text)
