"""`manage.py dead_letters`: messages that failed too often, and how to put them back."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import CommandParser
from rich.table import Table

from ingestion.management.command import add_record_type, print_table, printable
from ingestion.management.store_command import StoreCommand
from ingestion.queues import (
    MAX_ATTEMPTS,
    DeadLetter,
    consumption,
    dead_letters,
    put_back_all_dead,
    put_back_dead,
)
from ingestion.records import RECORD_TYPES
from ingestion.times import duration

_SHOWN = 50
_SHOWN_AS_JSON = 1000
_MOST_PUT_BACK = 1000


class Command(StoreCommand):
    """Lists dead letters without their content, and puts them back."""

    help = (
        f"Shows the messages that failed {MAX_ATTEMPTS} times, the oldest first, or puts them back "
        "on their queue, where they are taken next."
    )

    examples = ("sessions", "sessions --json", "sessions --put-back 10", "sessions --put-back all")

    def add_arguments(self, parser: CommandParser) -> None:
        """Whose dead letters, and what to do with them."""
        add_record_type(parser, "type", help="whose dead letters")
        form = parser.add_mutually_exclusive_group()
        form.add_argument(
            "--put-back",
            metavar="N|all",
            type=_how_many,
            help=f"put the N oldest (up to {_MOST_PUT_BACK}) or all back on the queue",
        )
        form.add_argument(
            "--json", action="store_true", help=f"print up to {_SHOWN_AS_JSON} as JSON"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """List them, or put them back and say how many are left."""
        queue = RECORD_TYPES[options["type"]].queue
        if options["put_back"]:
            count = _put_back(queue, options["put_back"])
            (now,) = consumption([queue])
            self.stdout.write(f"{options['type']}: {count:,} put back, {now.dead:,} left.")
            return
        (now,) = consumption([queue])
        letters = dead_letters(queue, first=0, count=_SHOWN_AS_JSON if options["json"] else _SHOWN)
        if options["json"]:
            document = {"queue": queue, "dead": now.dead, "dead_letters": list(map(_told, letters))}
            self.stdout.write(json.dumps(document))
        elif letters:
            print_table(self.stdout, _table(letters))
            if now.dead > len(letters):
                self.stdout.write(f"… and {now.dead - len(letters):,} newer ones.")
        else:
            self.stdout.write("There are no dead letters.")


def _put_back(queue: str, how_many: int | str) -> int:
    if how_many == "all":
        return put_back_all_dead(queue)
    oldest = dead_letters(queue, first=0, count=int(how_many))
    return put_back_dead(queue, [one.message.raw for one in oldest])


def _table(letters: list[DeadLetter]) -> Table:
    table = Table("Id", "Source", "Dead for")
    table.add_column("Attempts", justify="right")
    table.add_column("Why")
    now = datetime.now(UTC)
    for one in letters:
        table.add_row(
            printable(one.message.problem or one.message.id or ""),
            printable(one.message.source or ""),
            duration((now - one.died_at).total_seconds()) if one.died_at else "",
            f"{one.attempts:,}" if one.attempts else "",
            printable(one.reason or ""),
        )
    return table


def _told(one: DeadLetter) -> dict[str, Any]:
    queued_at = one.message.queued_at
    return {
        "id": one.message.id,
        "source": one.message.source,
        "queued_at": queued_at.isoformat() if queued_at else None,
        "problem": one.message.problem,
        "size_bytes": one.message.size_bytes,
        "died_at": one.died_at.isoformat() if one.died_at else None,
        "attempts": one.attempts,
        "reason": one.reason,
    }


def _how_many(text: str) -> int | str:
    if text == "all":
        return text
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_PUT_BACK:
        raise ArgumentTypeError(f"write all, or a whole number from 1 to {_MOST_PUT_BACK}")
    return int(text)
