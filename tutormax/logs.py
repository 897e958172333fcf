"""Logging: one line per event, a fixed event word with ids and counts, plain or as JSON.

A line contains only what is allowed: our own events with the fields in `FIELDS`. Other loggers
write sentences. A sentence, its arguments or the text of an exception may contain data from a
request. So for other loggers a line has only the logger, the level and the place in the code, and
for an exception its type and the place where it was raised.
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
"""The fields that a line may have: counts, ids and words that we chose."""

_OURS = ("ingestion.", "tutormax.")
_HOME = Path(__file__).parent.parent
_OUR_CODE = (str(_HOME / "ingestion"), str(_HOME / "tutormax"))
_LONGEST_CHAIN = 5

# Characters that end a line, move the cursor, reverse the text, or cannot be encoded.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def logging_config(*, level: str, as_json: bool) -> dict[str, Any]:
    """Django's LOGGING setting for this level and format; also configures structlog."""
    # A line that cannot be written (standard error is closed or full) is dropped: Python's own
    # report about it would show the arguments.
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
        # Without their sentences, lines of other loggers below WARNING are useless.
        "root": {
            "handlers": ["console"],
            "level": max(level, "WARNING", key=logging.getLevelNamesMapping().__getitem__),
        },
        "filters": {
            "faults": {
                "()": "django.utils.log.CallbackFilter",
                "callback": _has_fault,
            }
        },
        "loggers": {
            "ingestion": {"level": level},
            "tutormax": {"level": level},
            # Django's own handlers would print every event a second time. Its request logger
            # repeats our request line, except for the place of a server error.
            "django": {"handlers": [], "propagate": True},
            "django.request": {"level": "ERROR", "filters": ["faults"]},
            # The request line already reports both.
            "django.security.DisallowedHost": {"level": "CRITICAL"},
            "django.security.csrf": {"level": "CRITICAL"},
            # It logs each attempt; the request line says if one was refused.
            "axes": {"level": "ERROR"},
            # It warns of every requested stop; our worker logs its own stop.
            "django_tasks_db": {"level": "ERROR"},
            "django.server": {"handlers": [], "propagate": True},
        },
    }


def _has_fault(record: logging.LogRecord) -> bool:  # by name: a web worker may get it pickled
    return bool(record.exc_info)


def _listed(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Keep the allowed fields of our event; of other loggers' events, the logger and the place."""
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
    """The exception's type, its places in our own code, and the place that raised it."""
    frames = [(frame.f_code.co_filename, line) for frame, line in walk_tb(fault.__traceback__)]
    told = [one for one in frames if one[0].startswith(_OUR_CODE)]
    told += [one for one in frames[-1:] if one not in told]
    return " ".join([type(fault).__name__, *(_place(*one) for one in told)])


def _place(file: str, line: int) -> str:
    return f"{'/'.join(Path(file).parts[-3:])}:{line}"


def _printable(_: WrappedLogger, __: str, line: Any) -> str:
    """The line with all dangerous characters escaped, as JSON escapes them."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", str(line))
