"""The web server as a separate process: `python -m tutormax.web`.

`manage.py serve` starts it together with the store. It can also run alone, if the store runs and
`manage.py migrate` has been called.
"""

import multiprocessing
import os
import resource
import signal
import sys
from importlib import import_module
from typing import Any

import django
from django.conf import settings
from django.core.management.base import BaseCommand, SystemCheckError
from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels

from tutormax.edge.watchdog import watchdog

_CONNECTIONS = 4096


def main() -> None:
    """Check the settings, then serve."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tutormax.settings")
    django.setup()
    try:
        BaseCommand().check()
    except SystemCheckError as fault:
        sys.exit(str(fault))
    serve()


def serve() -> None:
    """Serve until a signal to stop, then finish running requests. The settings must be checked."""
    _application()  # once, before the workers are forked
    # Until a new worker sets its own SIGTERM handler it has the main process's handler, which would
    # ignore a SIGTERM to the worker.
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    server = Granian(
        "tutormax.rsgi:application",
        address=settings.HOST,
        port=settings.PORT,
        interface=Interfaces.RSGI,
        process_name="tutormax: web server",
        workers=settings.WEB_WORKERS,
        # Never uvloop, even if it is installed: it handles signals differently.
        loop=Loops.asyncio,
        # A body without a length, which HTTP/2 allows, would look like a broken one.
        http=HTTPModes.http1,
        websockets=False,
        # Each slow or idle client costs one socket: allow many, with little memory and a time-out.
        backlog=_CONNECTIONS,
        backpressure=_CONNECTIONS,
        http1_settings=HTTP1Settings(max_buffer_size=64 * 1024, header_read_timeout=10_000),
        # A worker that died is replaced; a worker that does not stop is killed.
        respawn_failed_workers=True,
        workers_kill_timeout=settings.SHUTDOWN_SECONDS,
        log_level=LogLevels.warning,
        log_dictconfig=settings.LOGGING,
    )
    if multiprocessing.get_start_method() == "fork":  # otherwise workers do not inherit the pipe
        watchdog.watch(
            silent_seconds=settings.WEB_SILENCE_SECONDS, stopping=lambda: server.interrupt_signal
        )
    server.serve(target_loader=_application)


def _application(_: object = None) -> Any:
    django.setup()  # a worker that is not a fork begins with nothing
    return import_module("tutormax.rsgi").application


if __name__ == "__main__":
    main()
