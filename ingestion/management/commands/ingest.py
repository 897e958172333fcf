"""`manage.py ingest`: queues the records of a file."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import stat
import sys
from argparse import ArgumentTypeError
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from ingestion import file_rows, intake, queues, sources
from ingestion.decoding import Row
from ingestion.files import registry
from ingestion.files.format import Format, Head
from ingestion.management.command import add_record_type, aside, print_table
from ingestion.management.store_command import StoreCommand, in_words
from ingestion.outcomes import FieldError, IntakeError, Receipt, StoreError
from ingestion.queues import Once
from ingestion.records import RECORD_TYPES, RecordType
from ingestion.times import duration

_CHUNK_RECORDS = 1000
# How long a chunk is tried again. If the command ended in the middle of a file, somebody would have
# to find out which records are missing. If nothing is queued yet, it can simply be run again.
_PATIENCE_SECONDS = 300.0
_FIRST_PATIENCE_SECONDS = 5.0
_LONGEST_WAIT_SECONDS = 5.0
# The closing table is limited for any file: this many causes, and this many examples of each.
_MOST_CAUSES = 30
_MOST_EXAMPLES = 5


@dataclass(kw_only=True, slots=True)
class _Tally:
    """What became of the records so far. A place is a line, or a record's number in JSON.

    The store knows this reading of the file by `run`. With it and a number of records, the command
    can continue where it ended. `unsure` counts records that may be queued as well: they were sent
    to the store, and it did not answer.
    """

    run: str
    read: int = 0
    queued: int = 0
    unsure: int = 0
    last_place: int = 0
    causes: Counter[FieldError] = field(default_factory=Counter)
    examples: defaultdict[FieldError, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, rows: Sequence[Row], receipt: Receipt) -> None:
        """Count the rows of one chunk."""
        for rejection in receipt.rejections:
            place = rejection.line or self.read + rejection.index + 1
            for error in rejection.errors:
                self.causes[error] += 1
                if len(self.examples[error]) < _MOST_EXAMPLES:
                    self.examples[error].append(place)
        self.read += len(rows)
        self.queued += receipt.accepted
        self.unsure = 0
        self.last_place = rows[-1].line or self.read


class Command(StoreCommand):
    """Queues the records of a file, chunk by chunk, and reports what was refused and why.

    Each chunk is queued completely or not at all, and only once, however often it is tried. So all
    records that are reported as queued are queued. The command waits during short outages.
    """

    help = (
        f"Queues the records of a {registry.titles()} file; the content shows the format. "
        "If the store fails in the middle, the command waits some minutes for it. "
        "Exit status: 0 every record is queued; 1 the file could not be read to its end or the "
        "store failed, and the message says how much is queued; 2 some records were refused and "
        "the others are queued, or the command line is wrong."
    )

    examples = (
        "sessions.csv",
        "tutors.ndjson --type tutors",
        "- --type feedback < feedback.json",
        "sessions.csv --type sessions --resume 4f3a9c0e17d2-81920:12000",
    )
    may_begin_a_store = True

    def add_arguments(self, parser: CommandParser) -> None:
        """Which file, and which records it holds."""
        parser.add_argument("file", metavar="FILE", help="the file; - is standard input")
        add_record_type(
            parser, "--type", help="the type of the records; without it, their fields show it"
        )
        parser.add_argument(
            "--resume",
            metavar="PLACE",
            type=_place,
            help="continue a file where an earlier run ended: that run printed the place, and the "
            "records that it queued are not queued again",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Queue the file's records."""
        with _opened(options["file"]) as file:
            file_format = registry.recognise(file)
            if file_format.is_text and Head(file).has_nul:
                raise CommandError(
                    f"{options['file']} cannot be read: it is no {registry.titles()} file."
                )
            look = file_rows.look(file)
            if options["type"]:
                record_type = RECORD_TYPES[options["type"]]
            else:
                guess = file_rows.guess_record_type(look)
                if guess is None:
                    raise CommandError(
                        "The type of the records is not certain: name it with --type "
                        f"{', '.join(RECORD_TYPES)}."
                    )
                record_type = guess
            rows = file_rows.read(file, record_type, look)
            tally = _begun(file, options["resume"])
            begun_at = tally.read
            try:
                self._queue(file, rows, record_type, tally)
            except (IntakeError, OSError, KeyboardInterrupt) as fault:
                again = f"manage.py ingest {shlex.quote(options['file'])} --type {record_type.path}"
                raise CommandError(f"{_reason(fault)} {_done(tally, again)}") from fault
            finally:
                self._report(tally, record_type, file_format, begun_at)
        if not tally.read:
            raise CommandError("The file holds no record.")
        if tally.causes:
            raise CommandError("Correct the refused records and send them again.", returncode=2)

    def _queue(
        self, file: BinaryIO, rows: Iterator[Row], record_type: RecordType, tally: _Tally
    ) -> None:
        size_bytes = file.seek(0, os.SEEK_END)  # this must come before the first row is read
        for _ in islice(rows, tally.read):
            pass
        terminal = aside()
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[records]:,} records"),
            TimeRemainingColumn(),
            console=terminal,
            disable=not terminal.is_terminal,
            transient=True,
        ) as progress:
            bar = progress.add_task(record_type.path, total=size_bytes, records=0)
            while chunk := list(islice(rows, min(_CHUNK_RECORDS, settings.MAX_BATCH_RECORDS))):
                tally.add(chunk, _push(chunk, record_type, tally, terminal.print))
                progress.update(bar, completed=file.tell(), records=tally.read)

    def _report(
        self, tally: _Tally, record_type: RecordType, file_format: Format, begun_at: int
    ) -> None:
        if tally.causes:
            place = "Line" if file_format.has_lines else "Record"
            table = Table(title="Refused", title_justify="left")
            table.add_column("Field", no_wrap=True)
            for heading in ("Code", "Why", place):
                table.add_column(heading)
            table.add_column("Count", justify="right")
            for error, count in tally.causes.most_common(_MOST_CAUSES):
                examples = ", ".join(map(str, tally.examples[error]))
                more = ", …" if count > _MOST_EXAMPLES else ""
                table.add_row(
                    error.field, error.code, error.message, f"{examples}{more}", f"{count:,}"
                )
            print_table(self.stdout, table)
            if len(tally.causes) > _MOST_CAUSES:
                self.stdout.write(f"… and {len(tally.causes) - _MOST_CAUSES} causes more.")
        before = f" after the first {begun_at:,}" if begun_at else ""
        read = tally.read - begun_at
        self.stdout.write(
            f"{record_type.path}: {read:,} records read{before}, {tally.queued:,} queued, "
            f"{read - tally.queued:,} refused."
        )


def _push(
    chunk: Sequence[Row], record_type: RecordType, tally: _Tally, tell: Callable[[str], object]
) -> Receipt:
    """Queue a chunk, with as many tries as it needs. Raises `StoreError` after too long a time.

    The store knows the chunk by the run and its place in the file. So it is queued only once, even
    if the answer to a try is lost. The command waits for a paused or full queue as in an outage.
    """
    received = intake.receive(record_type, chunk)
    once = Once(
        request=f"command:{tally.run}:{tally.read}",
        fingerprint=tally.run,
        ttl_seconds=settings.IDEMPOTENCY_SECONDS,
        answer=b"%d" % received.receipt.accepted,
    )
    in_doubt = False
    told = ""

    def push() -> Receipt:
        nonlocal in_doubt
        tally.unsure = len(chunk)
        try:
            return intake.queue(received, source=sources.COMMAND, once=once)
        except StoreError as fault:
            in_doubt = in_doubt or fault.outcome_unknown
            tally.unsure = len(chunk) if in_doubt else 0
            raise

    def tell_once(state: RetryCallState) -> None:
        nonlocal told
        fault = state.outcome and state.outcome.exception()
        if isinstance(fault, StoreError) and told != fault.for_staff:
            told = fault.for_staff
            tell(f"{told} Trying again…")

    def patience_ends(state: RetryCallState) -> bool:
        patience = _PATIENCE_SECONDS if tally.read or in_doubt else _FIRST_PATIENCE_SECONDS
        return (state.seconds_since_start or 0) > patience

    return Retrying(
        retry=retry_if_exception_type(StoreError),
        wait=wait_random_exponential(multiplier=0.2, max=_LONGEST_WAIT_SECONDS),
        stop=patience_ends,
        before_sleep=tell_once,
        reraise=True,
    )(push)


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    """The file of this name, or standard input for `-`; one that cannot seek is copied to disk."""
    with ExitStack() as stack:
        try:
            file = sys.stdin.buffer if name == "-" else stack.enter_context(open(name, "rb"))
            kind = os.fstat(file.fileno()).st_mode
            if stat.S_ISBLK(kind) or (stat.S_ISCHR(kind) and not file.isatty()):
                raise CommandError(f"{name} is a device and no file.")
            if not file.seekable():
                pipe, file = file, stack.enter_context(TemporaryFile())
                shutil.copyfileobj(pipe, file)
        except OSError as fault:
            raise CommandError(f"{name} cannot be read: {fault.strerror}.") from fault
        yield file


def _reason(fault: BaseException) -> str:
    if isinstance(fault, StoreError):
        return queues.closed_to_us(fault) or fault.for_staff
    if isinstance(fault, IntakeError):
        return in_words(fault)
    if isinstance(fault, OSError):
        return f"The rest of the file cannot be read: {fault.strerror}."
    return "Stopped."


def _done(tally: _Tally, again: str) -> str:
    done = "No record was queued before."
    if tally.read:
        done = (
            f"Before that, {tally.queued:,} records were queued, up to line or record "
            f"{tally.last_place:,}."
        )
    unsure = f" Up to {tally.unsure:,} records after it may be queued as well."
    while_known = duration(settings.IDEMPOTENCY_SECONDS)
    resume = (
        f"\nTo continue there and queue nothing twice, run this within {while_known}:"
        f"\n{again} --resume {tally.run}:{tally.read}"
    )
    return f"{done}{unsure if tally.unsure else ''}{resume if tally.read or tally.unsure else ''}"


def _begun(file: BinaryIO, resume: tuple[str, int] | None) -> _Tally:
    """The tally of a new run, or of a continued one."""
    size_bytes = file.seek(0, os.SEEK_END)
    if resume is None:
        return _Tally(run=f"{secrets.token_hex(6)}-{size_bytes}")
    run, read = resume
    if run.partition("-")[2] != str(size_bytes):
        raise CommandError("This is not the file that the earlier run read: its size is different.")
    return _Tally(run=run, read=read)


def _place(text: str) -> tuple[str, int]:
    found = re.fullmatch(r"([0-9a-f]{12}-[0-9]+):([0-9]{1,15})", text)
    if found is None:
        raise ArgumentTypeError("write the place as the earlier run printed it")
    return found[1], int(found[2])
