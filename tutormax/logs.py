"""Logging: one line per event, a fixed event word with ids and counts, plain or as JSON."""

from __future__ import annotations

from typing import Any

import structlog
from structlog.typing import Processor

# Runs for our own events and for those of Django and the libraries alike.
_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]


def logging_config(*, level: str, as_json: bool) -> dict[str, Any]:
    """Django's LOGGING setting for this level and format; sets up structlog on the way."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    if as_json:
        rendering: list[Processor] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    else:
        rendering = [
            structlog.dev.ConsoleRenderer(
                colors=False, exception_formatter=structlog.dev.plain_traceback
            )
        ]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "events": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": _SHARED,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    *rendering,
                ],
            }
        },
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "events"}},
        "root": {"handlers": ["console"], "level": level},
        "filters": {
            "faults": {
                "()": "django.utils.log.CallbackFilter",
                "callback": lambda record: bool(record.exc_info),
            }
        },
        "loggers": {
            # Django's own handlers would print every event a second time, and its request logger
            # repeats what our request line says, but for the trace of a server error.
            "django": {"handlers": [], "level": level, "propagate": True},
            "django.request": {"level": "ERROR", "filters": ["faults"]},
            # It repeats the sender's Host header, with a trace; the request line says its name.
            "django.security.DisallowedHost": {"level": "CRITICAL"},
            # It repeats the address as it was sent; the request line has the one that is routed.
            "django.security.csrf": {"level": "CRITICAL"},
            # It tells of each try in sentences; the request line says when one was refused.
            "axes": {"level": "ERROR"},
            # It warns of every end that was asked for; our worker tells of its own.
            "django_tasks_db": {"level": "ERROR"},
            "django.server": {"handlers": [], "propagate": True},
        },
    }
