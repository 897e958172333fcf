"""What all our commands share: their help, their output, and their end."""

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
        # Examples are lines that can be typed as they are.
        return text if text.startswith(_EXAMPLES) else super()._fill_text(text, width, indent)


class PortalCommand(BaseCommand):
    """A command of the portal; `examples` are its arguments as a person would type them.

    On a terminal its log starts at warnings, because the screen shows what it does. If its reader
    goes away or its output cannot be written, it ends with one sentence at most, without a trace.
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
    """An argument that takes a record type's path, or the name of its queue."""
    parser.add_argument(*names, type=record_type, choices=list(RECORD_TYPES), **options)


def record_type(text: str) -> str:
    """The path of the record type whose queue has this name; any other text is unchanged."""
    return _TYPES.get(text, text)


def print_table(out: OutputWrapper, table: Table) -> None:
    """Print the table: drawn on a terminal, elsewhere one line for each row, with tabs.

    No text is cut, even on a narrow terminal.
    """
    if not out.isatty():
        if table.title:
            out.write(str(table.title))
        columns = [[column.header, *column.cells] for column in table.columns]
        for row in zip(*columns, strict=True):
            out.write("\t".join(map(str, row)))
        return
    table.box, table.pad_edge = None, False  # without lines, much more fits into eighty columns
    for column in table.columns:
        column.overflow = "fold"
    console = Console(markup=False, highlight=False)
    with console.capture() as printed:
        console.print(table)
    out.write(printed.get())


def aside() -> Console:
    """The console for messages beside the output: on standard error, written at once."""
    return Console(stderr=True, markup=False, highlight=False, soft_wrap=True)


def printable(text: str) -> str:
    """Text that cannot harm a terminal, or break a table of lines and tabs."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def _forget_output() -> None:
    """Drop what standard output still holds: it cannot be written, and is not tried at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
