"""What all our commands share: how they are told, how they print, and how they end."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    DjangoHelpFormatter,
    OutputWrapper,
)
from rich.console import Console
from rich.table import Table

from ingestion.records import RECORD_TYPES

_TYPES = {record_type.queue_label: path for path, record_type in RECORD_TYPES.items()}
_EXAMPLES = "examples:\n"


class _HelpFormatter(DjangoHelpFormatter):
    def _fill_text(self, text: str, width: int, indent: str) -> str:
        # Examples are lines to be typed as they stand.
        return text if text.startswith(_EXAMPLES) else super()._fill_text(text, width, indent)


class PortalCommand(BaseCommand):
    """A command of the portal; `examples` are its arguments as somebody would type them.

    On a terminal its log starts at warnings: what it does is on the screen. A reader that goes
    away, and an output that takes no more, end it with a sentence at most, never with a trace.
    """

    examples: tuple[str, ...] = ()
    logs_on_a_terminal = False

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        """The parser, with the examples below its help."""
        lines = [f"  ./manage.py {f'{subcommand} {one}'.strip()}" for one in self.examples]
        options |= {"formatter_class": _HelpFormatter, "epilog": _EXAMPLES + "\n".join(lines)}
        return super().create_parser(prog_name, subcommand, **options)

    def execute(self, *args: Any, **options: Any) -> Any:
        """Run the command."""
        if sys.stderr is not None and sys.stderr.isatty() and not self.logs_on_a_terminal:
            for name in ("ingestion", "tutormax"):
                logger = logging.getLogger(name)
                logger.setLevel(max(logger.level, logging.WARNING))
        try:
            result = super().execute(*args, **options)
            self.stdout.flush()
        except BrokenPipeError:
            _forget_output()
            raise SystemExit(1) from None
        except OSError as fault:
            _forget_output()
            place = f" ({fault.filename})" if fault.filename else ""
            raise CommandError(f"The system refused: {fault.strerror}{place}.") from fault
        return result


def add_record_type(parser: Any, *names: str, **options: Any) -> None:
    """An argument that is a record type's path; the name of its queue is as good."""
    parser.add_argument(*names, type=record_type, choices=list(RECORD_TYPES), **options)


def record_type(text: str) -> str:
    """The path of the record type that has a queue of this name; any other text as it is."""
    return _TYPES.get(text, text)


def print_table(out: OutputWrapper, table: Table) -> None:
    """The table: drawn on a terminal; elsewhere a line for each row, its cells separated by tabs.

    Nothing is cut, however narrow the terminal is.
    """
    if not out.isatty():
        if table.title:
            out.write(str(table.title))
        columns = [[column.header, *column.cells] for column in table.columns]
        for row in zip(*columns, strict=True):
            out.write("\t".join(map(str, row)))
        return
    table.box, table.pad_edge = None, False  # without lines, eighty columns hold much more
    for column in table.columns:
        column.overflow = "fold"
    console = Console(markup=False, highlight=False)
    with console.capture() as printed:
        console.print(table)
    out.write(printed.get())


def aside() -> Console:
    """The console for what is told beside the output: on standard error, as it is written."""
    return Console(stderr=True, markup=False, highlight=False, soft_wrap=True)


def printable(text: str) -> str:
    """Text that can do nothing to a terminal, nor to a table of lines and tabs."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def _forget_output() -> None:
    """Whatever standard output still holds cannot be written, and is not tried at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
