"""Logging: one line per event, a fixed event word with ids and counts, plain or as JSON.

What is written is a list of what may be, never of what may not: our own events with the fields of
`FIELDS`. Other loggers write sentences, and what is in a sentence of theirs, in its arguments or in
the text of an exception, may come from whoever sent the request. Of these a line tells who wrote
it, at which level and from which place in the code; of an exception its type and where it was
raised.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from traceback import walk_tb
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

# fmt: off
FIELDS = frozenset({
    # of every event
    "event", "level", "logger", "timestamp", "request_id", "raised", "at",
    # of a request
    "method", "path", "status", "duration_ms", "code", "fault", "client", "accepted", "rejected",
    # of records and queues
    "type", "source", "causes", "replayed", "queue", "consumer", "worker", "done", "failed", "dead",
    "count", "queued", "returned", "attempts", "chosen", "copies",
    # of uploads, keys and processes
    "upload", "state", "key", "child", "log",
})
# fmt: on
"""What a line of ours may hold beside its event: counts, ids and words that we chose."""

_OURS = ("ingestion.", "tutormax.")
_HOME = Path(__file__).parent.parent
_OUR_CODE = (str(_HOME / "ingestion"), str(_HOME / "tutormax"))
_LONGEST_CHAIN = 5

# Whatever could end a line, move the cursor, turn the text around, or not be encoded.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def logging_config(*, level: str, as_json: bool) -> dict[str, Any]:
    """Django's LOGGING setting for this level and format; sets up structlog on the way."""
    # A line that cannot be written, for a closed or full standard error, is dropped: the complaint
    # about it would show its arguments.
    logging.raiseExceptions = False
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "events": {
                "()": structlog.stdlib.ProcessorFormatter,
                "use_get_message": False,
                "foreign_pre_chain": shared,
                "processors": [_listed, renderer, _printable],
            }
        },
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "events"}},
        # Below a warning, others have nothing to tell without their sentences.
        "root": {
            "handlers": ["console"],
            "level": max(level, "WARNING", key=logging.getLevelNamesMapping().__getitem__),
        },
        "filters": {
            "faults": {
                "()": "django.utils.log.CallbackFilter",
                "callback": lambda record: bool(record.exc_info),
            }
        },
        "loggers": {
            "ingestion": {"level": level},
            "tutormax": {"level": level},
            # Django's own handlers would print every event a second time, and its request logger
            # repeats what our request line says, but for the place of a server error.
            "django": {"handlers": [], "propagate": True},
            "django.request": {"level": "ERROR", "filters": ["faults"]},
            # The request line says of both that they happened.
            "django.security.DisallowedHost": {"level": "CRITICAL"},
            "django.security.csrf": {"level": "CRITICAL"},
            # It tells of each try; the request line says when one was refused.
            "axes": {"level": "ERROR"},
            # It warns of every end that was asked for; our worker tells of its own.
            "django_tasks_db": {"level": "ERROR"},
            "django.server": {"handlers": [], "propagate": True},
        },
    }


def _listed(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """The event with what may be told of it; of others' events, who told it and where."""
    record: logging.LogRecord = event["_record"]
    fault = event.get("exc_info")
    if isinstance(fault, tuple):
        fault = fault[1]
    elif fault and not isinstance(fault, BaseException):
        fault = sys.exception()
    if isinstance(fault, BaseException):
        event["raised"] = " from ".join(map(_where, islice(_chain(fault), _LONGEST_CHAIN)))
    if not (event["_from_structlog"] and record.name.startswith(_OURS)):
        event["event"] = "library_event"
        event["at"] = _place(record.pathname, record.lineno)
        event["level"] = record.levelname.lower()
    return {name: value for name, value in event.items() if name in FIELDS}


def _chain(fault: BaseException | None) -> Iterator[BaseException]:
    while fault is not None:
        yield fault
        fault = fault.__cause__ or (None if fault.__suppress_context__ else fault.__context__)


def _where(fault: BaseException) -> str:
    """Its type, the places of our own code on its way, and the one that raised it."""
    frames = [(frame.f_code.co_filename, line) for frame, line in walk_tb(fault.__traceback__)]
    told = [one for one in frames if one[0].startswith(_OUR_CODE)]
    told += [one for one in frames[-1:] if one not in told]
    return " ".join([type(fault).__name__, *(_place(*one) for one in told)])


def _place(file: str, line: int) -> str:
    return f"{'/'.join(Path(file).parts[-3:])}:{line}"


def _printable(_: WrappedLogger, __: str, line: Any) -> str:
    """The whole line with every character escaped that could do something to it, as JSON does."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", str(line))
