"""`manage.py generate`: synthetic records, written to files or posted to a portal."""

from __future__ import annotations

import csv
import io
import json
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ingestion.addresses import http_url
from ingestion.api_keys import is_well_formed
from ingestion.cells import cell_text
from ingestion.client import Delivery, Portal, PortalError, Record
from ingestion.generator import PATHS, copies, generate
from ingestion.management.command import PortalCommand, add_record_type, aside, print_table
from ingestion.records import RECORD_TYPES
from ingestion.times import duration

# How many records of each type; a type without a number here follows from the others.
_SMALL = {"tutors": 15, "sessions": 30}
_DEMO = _SMALL | {"feedback": 25}
_DAY = {"tutors": 300, "sessions": 3000}
# The number of copies of the example, for a record type that the generator does not know.
_COPIES = 10

_SENT_SINGLY_IN_DEMO = 5


class Command(PortalCommand):
    """Makes records and writes or posts them.

    Exit status: 0 all were accepted, 2 some were refused, 1 the command failed.
    """

    help = (
        "Makes synthetic tutors, sessions and feedback: in files, or posted to a running portal. "
        "The same seed, sizes and dates give the same records."
    )

    examples = (
        "--demo",
        "--day --post --rate 100",
        "--day --output school --format csv",
        "--sessions 1000 --type sessions --output - --format ndjson",
        "--post https://portal.example.com --key tmx_…",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The target, the number of records, and how they are sent."""
        here = http_url(settings.HOST, settings.PORT)
        target = parser.add_mutually_exclusive_group(required=True)
        for option, what in (
            ("--demo", "15 tutors, 30 sessions and 25 feedback, and show the queues then"),
            ("--post", "the records"),
        ):
            target.add_argument(
                option,
                metavar="URL",
                nargs="?",
                const=here,
                help=f"send {what}; to the portal at URL (default: %(const)s)",
            )
        target.add_argument(
            "--output",
            metavar="DIR",
            help="write a file for each type; - is standard output, for one --type",
        )

        made = parser.add_argument_group("what is made")
        made.add_argument(
            "--day", action="store_true", help="300 tutors, 3,000 sessions and the feedback on them"
        )
        for path, record_type in RECORD_TYPES.items():
            default = _SMALL.get(path, "follows from the others")
            said = f"how many (default: {default})"
            if path not in PATHS:
                said = f"how many copies of its example (default: {_COPIES})"
            names = dict.fromkeys((f"--{path}", f"--{record_type.queue_label}"))
            made.add_argument(*names, dest=path, metavar="N", type=int, help=said)
        add_record_type(made, "--type", help="leave out the other types")
        made.add_argument("--seed", metavar="N", type=int, default=1, help="default: 1")
        made.add_argument(
            "--start",
            metavar="DATE",
            type=_date,
            default=timezone.localdate(),
            help="the first day of sessions, like 2024-05-14 (default: today)",
        )
        made.add_argument(
            "--days", metavar="N", type=int, default=1, help="the number of these days (default: 1)"
        )
        parser.add_argument(
            "--key", type=_key, help="the API key for --post or --demo to a portal elsewhere"
        )

        files = parser.add_argument_group("with --output")
        files.add_argument(
            "--format", choices=("json", "ndjson", "csv"), default="json", help="default: json"
        )

        posts = parser.add_argument_group("with --post")
        manner = posts.add_mutually_exclusive_group()
        manner.add_argument("--single", action="store_true", help="one record per request")
        manner.add_argument(
            "--batch-size", metavar="N", type=_positive, default=500, help="default: 500 records"
        )
        posts.add_argument(
            "--rate", metavar="N", type=_positive, help="not more than N records per second"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the records and write or post them."""
        records = _make(options)
        if options["output"] is not None:
            self._write(records, options["output"], options["format"])
            return
        self.aside = aside()
        is_demo = options["demo"] is not None
        try:
            portal = Portal(
                options["demo"] if is_demo else options["post"],
                api_prefix=settings.API_PREFIX,
                key=options["key"],
                tell=self.aside.print,
            )
            deliveries = (
                self._demo(portal, records) if is_demo else self._post(portal, records, options)
            )
        except PortalError as fault:
            raise CommandError(str(fault)) from fault
        except KeyboardInterrupt:
            raise CommandError(
                "Stopped before everything was sent. The records of one more request may be queued "
                "in addition to these."
            ) from None
        total = sum(deliveries.values(), Delivery())
        if total.accepted != total.sent:
            raise CommandError(
                f"{total.sent - total.accepted:,} of {total.sent:,} records were refused.",
                returncode=2,
            )

    def _write(
        self, records: Mapping[str, Sequence[Record]], output: str, file_format: str
    ) -> None:
        contents = {path: _encode(path, found, file_format) for path, found in records.items()}
        try:
            if output == "-":
                if len(contents) > 1:
                    raise CommandError("Standard output takes one type: name it with --type.")
                # As bytes: UTF-8 whatever the terminal's encoding, and line ends stay unchanged.
                with open(sys.stdout.fileno(), "wb", closefd=False) as stdout:
                    stdout.writelines(contents.values())
                return
            folder = Path(output)
            folder.mkdir(parents=True, exist_ok=True)
            for path, content in contents.items():
                file = folder / f"{path}.{file_format}"
                file.write_bytes(content)
                self.stdout.write(f"{file}: {len(records[path]):,} records")
        except OSError as fault:
            raise CommandError(f"Cannot write to {output}: {fault.strerror}.") from fault

    def _post(
        self, portal: Portal, records: Mapping[str, Sequence[Record]], options: Mapping[str, Any]
    ) -> dict[str, Delivery]:
        deliveries = {path: Delivery() for path in records}
        rate = options["rate"]
        sent = 0
        started = due = time.monotonic()
        try:
            with Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=self.aside,
                disable=not self.aside.is_terminal,
            ) as progress:
                for path, found in records.items():
                    bar = progress.add_task(path, total=len(found))
                    for delivery in (
                        portal.post_singly(path, found)
                        if options["single"]
                        else portal.post_batches(path, found, options["batch_size"])
                    ):
                        deliveries[path] += delivery
                        progress.advance(bar, delivery.sent)
                        sent += delivery.sent
                        if rate:
                            # After an outage, count from now: the lost time is not caught up in a
                            # burst.
                            due = max(due + delivery.sent / rate, time.monotonic())
                            time.sleep(max(0.0, due - time.monotonic()))
        finally:
            # The part that was sent is reported even if the rest could not be sent.
            if sent:
                self._print_deliveries(deliveries, time.monotonic() - started)
                self._print_rejections(deliveries)
        return deliveries

    def _demo(self, portal: Portal, records: Mapping[str, Sequence[Record]]) -> dict[str, Delivery]:
        self.stdout.write(f"Sending synthetic records to the portal at {portal.url}\n\n")
        deliveries = {}
        for path, found in records.items():
            singles, rest = found[:_SENT_SINGLY_IN_DEMO], found[_SENT_SINGLY_IN_DEMO:]
            one_by_one = portal.post_singly(path, singles)
            together = portal.post_batches(path, rest, max(len(rest), 1))
            deliveries[path] = delivery = sum(chain(one_by_one, together), Delivery())
            self.stdout.write(
                f"  {len(found)} {path}: {len(singles)} one by one, {len(rest)} as a batch; "
                f"{delivery.accepted} accepted"
            )
        table = _table("Queue", "Waiting", "Oldest", "Accepted", "Rejected")
        for queue in portal.queue_numbers():
            totals = (f"{number:,}" for number in (queue.accepted, queue.rejected))
            table.add_row(
                queue.queue, f"{queue.depth:,}", duration(queue.oldest_age_seconds), *totals
            )
        self.stdout.write("\nWhat the queues hold now; the totals count from the first record on:")
        print_table(self.stdout, table)
        self._print_rejections(deliveries)
        self.stdout.write(
            "Where to look next:\n"
            f"  {portal.url}/admin/   the staff portal\n"
            f"  {portal.url}/docs     every address of the API, to try out\n"
            f"  {portal.url}/metrics  the same numbers for Prometheus\n"
            "  manage.py generate --day --post   a whole day of records"
        )
        return deliveries

    def _print_deliveries(self, deliveries: Mapping[str, Delivery], seconds: float) -> None:
        table = _table("Type", "Sent", "Accepted", "Rejected", "Requests", "Retries", "Replayed")
        for path, one in deliveries.items():
            numbers = (
                one.sent,
                one.accepted,
                one.rejected,
                one.requests,
                one.retries,
                one.replayed,
            )
            table.add_row(path, *(f"{number:,}" for number in numbers))
        print_table(self.stdout, table)
        sent = sum(deliveries.values(), Delivery()).sent
        self.stdout.write(
            f"{sent:,} records in {seconds:.2f} seconds: {sent / seconds:,.0f} records/s."
        )

    def _print_rejections(self, deliveries: Mapping[str, Delivery]) -> None:
        table = Table("Type", "Field", "Code", "Count", title="Refused", title_justify="left")
        for path, one in deliveries.items():
            for (field, code), count in one.rejections.most_common():
                table.add_row(path, field, code, f"{count:,}")
        if table.rows:
            print_table(self.stdout, table)


def _make(options: Mapping[str, Any]) -> dict[str, Sequence[Record]]:
    """The requested records, by the path of their type."""
    preset: Mapping[str, int] = _DAY if options["day"] else _DEMO if options["demo"] else _SMALL
    counts: dict[str, Any] = {
        path: preset.get(path) if options[path] is None else options[path] for path in PATHS
    }
    seed, start, days = options["seed"], options["start"], options["days"]
    try:
        made = {**generate(seed=seed, start=start, days=days, **counts).by_path}
        for path, record_type in RECORD_TYPES.items():
            if path not in PATHS:
                number = _COPIES if options[path] is None else options[path]
                made[path] = copies(
                    record_type.serializer_class.example,
                    record_type.id_field,
                    number=number,
                    seed=f"{seed} {path} {number} {start} {days}",
                )
    except ValueError as fault:
        raise CommandError(str(fault)) from fault
    except OverflowError as fault:
        raise CommandError(
            "These days, or the tutors' days before them, lie outside of the years 1 to 9999: "
            "choose others with --start and --days."
        ) from fault
    paths = [options["type"]] if options["type"] else RECORD_TYPES
    return {path: made[path] for path in paths}


def _table(first: str, *numbers: str) -> Table:
    table = Table(first)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _encode(path: str, records: Sequence[Record], file_format: str) -> bytes:
    text = io.StringIO()
    if file_format == "json":
        json.dump(records, text, ensure_ascii=False, indent=2)
        text.write("\n")
    elif file_format == "ndjson":
        text.writelines(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records)
    else:
        writer = csv.DictWriter(text, list(RECORD_TYPES[path].fields))
        writer.writeheader()
        for record in records:
            writer.writerow({field: cell_text(value) for field, value in record.items()})
    return text.getvalue().encode()


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError("write a date like 2024-05-14") from None


def _key(text: str) -> str:
    if not is_well_formed(text):
        raise ArgumentTypeError("this is not a complete API key: copy all of it, from tmx_ on")
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError("write a whole number from 1 up")
    return int(text)
