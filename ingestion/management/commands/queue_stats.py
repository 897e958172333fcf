"""`manage.py queue_stats`: how the queues stand, once or again and again."""

from __future__ import annotations

import json
import logging
import time
from argparse import ArgumentTypeError
from contextlib import suppress
from typing import Any

from django.core.management.base import CommandParser
from rich.console import Console
from rich.table import Table

from ingestion.management.store_command import StoreCommand
from ingestion.outcomes import StoreError, trouble
from ingestion.queues import QueueSummary
from ingestion.stats import age_in_words, queue_stats_document, queue_summaries


class Command(StoreCommand):
    """Prints the queues' numbers; with `--watch` until Ctrl-C, through outages of the store."""

    help = "Shows each queue's depth, the age of its oldest message, and its totals."

    def add_arguments(self, parser: CommandParser) -> None:
        """In which form, and how often."""
        form = parser.add_mutually_exclusive_group()
        form.add_argument(
            "--watch",
            metavar="SECONDS",
            type=_seconds,
            nargs="?",
            const=2.0,
            help="show them again every SECONDS (default: %(const)g) until Ctrl-C",
        )
        form.add_argument(
            "--json", action="store_true", help="print what GET /api/queue/stats answers"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the numbers of this moment, or of every moment to come."""
        if options["json"]:
            self.stdout.write(json.dumps(queue_stats_document()))
            return
        console = Console(markup=False, highlight=False)
        if options["watch"] is None:
            with console.capture() as printed:
                console.print(_table())
            self.stdout.write(printed.get())
            return
        # An outage is told on the screen; its traces in between would tear the table apart.
        logging.getLogger("ingestion").setLevel(logging.CRITICAL)
        with suppress(KeyboardInterrupt):
            while True:
                try:
                    shown: Table | str = _table()
                except StoreError as fault:
                    shown = trouble(fault)
                console.clear()
                console.print(time.strftime("%H:%M:%S"), shown, sep="\n")
                time.sleep(options["watch"])


def _table() -> Table:
    table = Table("Queue")
    for heading in ("Depth", "Oldest", "Accepted", "Rejected"):
        table.add_column(heading, justify="right")
    for kind, one in queue_summaries().items():
        numbers = (f"{number:,}" for number in (one.accepted, one.rejected))
        table.add_row(kind.queue_label, f"{one.depth:,}", _oldest(one), *numbers)
    return table


def _oldest(one: QueueSummary) -> str:
    if not one.depth:
        return "none"
    return "unknown" if one.oldest_age_seconds is None else age_in_words(one.oldest_age_seconds)


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0.1 <= float(text) <= 3600:
            return float(text)
    raise ArgumentTypeError("write a number of seconds from 0.1 to 3600")
