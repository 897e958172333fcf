"""`manage.py peek_queue`: the next messages of a queue, left where they are."""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.core.management.base import CommandParser
from rich.console import Console
from rich.table import Table

from ingestion import queues
from ingestion.management.store_command import StoreCommand, printable
from ingestion.records import RECORD_TYPES
from ingestion.stats import age_in_words

_MOST_MESSAGES = 1000


class Command(StoreCommand):
    """Prints messages without taking them; their payload only where it is asked for."""

    help = "Shows the next messages of a queue without taking them."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which queue, and what of it."""
        parser.add_argument("type", choices=list(RECORD_TYPES), help="whose queue to look at")
        parser.add_argument(
            "--count",
            metavar="N",
            type=_count,
            default=10,
            help=f"so many messages at most, up to {_MOST_MESSAGES} (default: %(default)s)",
        )
        parser.add_argument(
            "--newest", action="store_true", help="the newest first, not the next to be taken"
        )
        parser.add_argument(
            "--payload", action="store_true", help="show the records too: mind who can see them"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print a table, and the payloads below it."""
        queue = RECORD_TYPES[options["type"]].queue
        messages = queues.window(
            queue, first=0, count=options["count"], newest_first=options["newest"]
        )
        if not messages:
            self.stdout.write("The queue is empty.")
            return
        table = Table("#", "Id", "Age", "Source")
        table.add_column("Bytes", justify="right")
        payloads = []
        now = datetime.now(UTC)
        for number, message in enumerate(messages, start=1):
            described = (message.problem or "", "", "")
            payload = message.raw
            if message.queued_at is not None:
                age = age_in_words((now - message.queued_at).total_seconds())
                described = (printable(message.id or ""), age, printable(message.source or ""))
                payload = msgspec.json.encode(message.data)
            table.add_row(str(number), *described, f"{message.size_bytes:,}")
            payloads.append(f"{number}  {printable(payload.decode(errors='backslashreplace'))}")
        console = Console(markup=False, highlight=False)
        with console.capture() as printed:
            console.print(table)
        self.stdout.write(printed.get())
        if options["payload"]:
            self.stdout.write("\n".join(payloads))


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_MESSAGES:
        raise ArgumentTypeError(f"write a whole number from 1 to {_MOST_MESSAGES}")
    return int(text)
