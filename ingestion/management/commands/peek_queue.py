"""`manage.py peek_queue`: shows the next messages of a queue without taking them."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.core.management.base import CommandParser
from rich.table import Table

from ingestion import queues
from ingestion.management.command import add_record_type, print_table, printable
from ingestion.management.store_command import StoreCommand
from ingestion.queues import Message
from ingestion.records import RECORD_TYPES
from ingestion.times import duration

_MOST_MESSAGES = 1000


class Command(StoreCommand):
    """Prints messages without taking them; prints their payload only on request."""

    help = "Shows the next messages of a queue without taking them."
    examples = (
        "sessions",
        "sessions --newest --count 3 --payload",
        "tutors --json | jq -r '.messages[].id'",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Which queue, and what to show of it."""
        add_record_type(parser, "type", help="whose queue to look at")
        parser.add_argument(
            "--count",
            metavar="N",
            type=_count,
            default=10,
            help=f"how many messages to show, up to {_MOST_MESSAGES} (default: %(default)s)",
        )
        parser.add_argument(
            "--newest", action="store_true", help="the newest first, not the next to be taken"
        )
        parser.add_argument(
            "--payload", action="store_true", help="show the records too: mind who can see them"
        )
        parser.add_argument("--json", action="store_true", help="print them as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print a table, and the payloads below it; or all of it as JSON."""
        queue = RECORD_TYPES[options["type"]].queue
        messages = queues.window(
            queue, first=0, count=options["count"], newest_first=options["newest"]
        )
        if options["json"]:
            told = [_told(one, payload=options["payload"]) for one in messages]
            self.stdout.write(json.dumps({"queue": queue, "messages": told}))
        elif not messages:
            self.stdout.write("The queue is empty.")
        else:
            print_table(self.stdout, _table(messages))
            if options["payload"]:
                for number, one in enumerate(messages, start=1):
                    payload = one.raw if one.problem else msgspec.json.encode(one.data)
                    text = printable(payload.decode(errors="backslashreplace"))
                    self.stdout.write(f"{number}  {text}")


def _table(messages: list[Message]) -> Table:
    table = Table("#", "Id", "Age", "Source")
    table.add_column("Bytes", justify="right")
    now = datetime.now(UTC)
    for number, one in enumerate(messages, start=1):
        age = duration((now - one.queued_at).total_seconds()) if one.queued_at else ""
        words = (one.problem or one.id or "", age, one.source or "")
        table.add_row(str(number), *map(printable, words), f"{one.size_bytes:,}")
    return table


def _told(one: Message, *, payload: bool) -> dict[str, Any]:
    told = {
        "id": one.id,
        "source": one.source,
        "queued_at": one.queued_at.isoformat() if one.queued_at else None,
        "problem": one.problem,
        "size_bytes": one.size_bytes,
    }
    if payload:
        # Bytes that are not JSON hold no record and are printed as text.
        raw = one.raw.decode(errors="backslashreplace")
        told |= {"raw": raw} if one.problem else {"data": one.data}
    return told


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_MESSAGES:
        raise ArgumentTypeError(f"write a whole number from 1 to {_MOST_MESSAGES}")
    return int(text)
