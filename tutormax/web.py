"""The web server as a process of its own: `python -m tutormax.web`.

`manage.py serve` starts it beside the store; where that is run otherwise and `manage.py migrate`
has been called, it can be started by itself.
"""

import multiprocessing
import os
import resource
import signal
import sys
from importlib import import_module

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
    """Serve until told to stop; running requests are finished. The settings are checked already."""
    import_module("tutormax.rsgi")  # once, before the workers are forked
    # A new worker has the main process's answer to SIGTERM until it sets its own, and would be told
    # to end in vain.
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
        # Not uvloop when it happens to be installed: it passes on signals in a way of its own.
        loop=Loops.asyncio,
        # A body without a length, which HTTP/2 allows, would pass for one that broke off.
        http=HTTPModes.http1,
        websockets=False,
        # Slow and idle clients cost a socket each: room for many, little memory, not for long.
        backlog=_CONNECTIONS,
        backpressure=_CONNECTIONS,
        http1_settings=HTTP1Settings(max_buffer_size=64 * 1024, header_read_timeout=10_000),
        # A worker that died is replaced, and one that does not end is ended.
        respawn_failed_workers=True,
        workers_kill_timeout=settings.SHUTDOWN_SECONDS,
        log_level=LogLevels.warning,
        log_dictconfig=settings.LOGGING,
    )
    if multiprocessing.get_start_method() == "fork":  # else workers do not inherit the pipe
        watchdog.watch(
            silent_seconds=settings.WEB_SILENCE_SECONDS, stopping=lambda: server.interrupt_signal
        )
    server.serve()


if __name__ == "__main__":
    main()
