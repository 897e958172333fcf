"""`manage.py queue_stats`: the numbers of the queues, once or repeatedly."""

from __future__ import annotations

import json
import logging
import time
from argparse import ArgumentTypeError
from contextlib import suppress
from typing import Any

import msgspec
from django.core.management.base import CommandParser
from rich.table import Table

from ingestion.management.command import print_table
from ingestion.management.store_command import StoreCommand
from ingestion.outcomes import StoreError
from ingestion.queues import QueueSummary, consumption
from ingestion.stats import queue_stats, queue_summaries
from ingestion.times import duration


class Command(StoreCommand):
    """Prints the queues' numbers; with `--watch` until Ctrl-C, through outages of the store."""

    help = (
        "Shows each queue's depth, the age of its oldest message, whether it is paused, what "
        "consumers have in flight, dead letters, and the totals since the first record."
    )
    examples = ("", "--watch 5", "--json | jq .queues")

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
            "--json",
            action="store_true",
            help="print what GET /api/queue/stats answers, with the state of each queue",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the numbers once, or again and again."""
        if options["json"]:
            self.stdout.write(json.dumps(_document()))
            return
        if options["watch"] is None:
            print_table(self.stdout, _table())
            return
        # The screen reports an outage; log lines in between would break the table.
        logging.getLogger("ingestion").setLevel(logging.CRITICAL)
        with suppress(KeyboardInterrupt):
            while True:
                self._show_again()
                time.sleep(options["watch"])

    def _show_again(self) -> None:
        try:
            shown: Table | str = _table()
        except StoreError as fault:
            shown = fault.for_staff
        if self.stdout.isatty():
            self.stdout.write("\x1b[2J\x1b[H", ending="")  # an empty screen
        self.stdout.write(time.strftime("%H:%M:%S"))
        if isinstance(shown, Table):
            print_table(self.stdout, shown)
        else:
            self.stdout.write(shown)
        self.stdout.flush()


def _document() -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(queue_stats())
    summaries = queue_summaries()
    taken = consumption(record_type.queue for record_type in summaries)
    for (record_type, one), now in zip(summaries.items(), taken, strict=True):
        document["detail"][record_type.queue_label] |= {
            "paused": one.pause is not None,
            "consumers": len(now.consumers),
            "in_flight": now.in_flight,
            "dead": now.dead,
        }
    return document


def _table() -> Table:
    table = Table("Queue")
    for heading in ("Depth", "Oldest", "State", "In flight", "Dead", "Accepted", "Rejected"):
        table.add_column(heading, justify="right")
    summaries = queue_summaries()
    taken = consumption(record_type.queue for record_type in summaries)
    for (record_type, one), now in zip(summaries.items(), taken, strict=True):
        state = "open" if one.pause is None else "paused"
        numbers = (f"{n:,}" for n in (now.in_flight, now.dead, one.accepted, one.rejected))
        table.add_row(record_type.queue_label, f"{one.depth:,}", _oldest(one), state, *numbers)
    return table


def _oldest(one: QueueSummary) -> str:
    if not one.depth:
        return "none"
    return "unknown" if one.oldest_age_seconds is None else duration(one.oldest_age_seconds)


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0.1 <= float(text) <= 3600:
            return float(text)
    raise ArgumentTypeError("write a number of seconds from 0.1 to 3600")
