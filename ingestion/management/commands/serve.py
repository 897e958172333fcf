"""`manage.py serve`: the whole portal, from an empty folder to a running server."""

from __future__ import annotations

import errno
import secrets
import socket
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError
from granian import Granian
from granian.constants import Interfaces
from granian.log import LogLevels

from ingestion.addresses import is_loopback
from ingestion.management.store_command import StoreCommand

_STAFF_NAME = "admin"


class Command(StoreCommand):
    """Starts the store (unless REDIS_URL names one), prepares database and files, and serves."""

    help = (
        "Runs the portal: the embedded store (unless REDIS_URL is set), migrations, static "
        "files, a staff account at the first start, and the web server. Ctrl-C stops all of it."
    )

    def execute(self, *args: Any, **options: Any) -> Any:
        """Refuse what can not work before anything is started."""
        if not (settings.OPEN_WITHOUT_KEY or is_loopback(settings.HOST)):
            raise CommandError(
                f"HOST={settings.HOST} can be reached from the network, and records are taken "
                "there only with API keys, which this version does not have yet. Keep "
                "HOST=127.0.0.1, or set OPEN_WITHOUT_KEY=true where everybody who can reach "
                "this server may queue records."
            )
        _check_port_is_free()
        return super().execute(*args, **options)

    def handle(self, *args: Any, **options: Any) -> None:
        """Prepare, say where things are, and serve until told to stop."""
        try:
            call_command("migrate", interactive=False, verbosity=0)
        except OperationalError as fault:
            raise CommandError(
                f"The database can not be used ({fault}). Check DATABASE_URL, or the rights on "
                f"{settings.DATA_DIR}."
            ) from fault
        call_command("collectstatic", interactive=False, verbosity=0)
        self._greet(_make_staff_account())
        Granian(
            "tutormax.rsgi:application",
            address=settings.HOST,
            port=settings.PORT,
            interface=Interfaces.RSGI,
            websockets=False,
            workers=settings.WEB_WORKERS,
            # A worker that died is replaced, and one that does not end is ended.
            respawn_failed_workers=True,
            workers_kill_timeout=settings.SHUTDOWN_SECONDS,
            log_level=LogLevels.warning,
            log_dictconfig=settings.LOGGING,
        ).serve()

    def _greet(self, password: str | None) -> None:
        host = f"[{settings.HOST}]" if ":" in settings.HOST else settings.HOST
        site = f"http://{host}:{settings.PORT}"
        store = settings.REDIS_URL and "the one that REDIS_URL names"
        keys = (
            "taken from everybody, without a key (OPEN_WITHOUT_KEY)"
            if settings.OPEN_WITHOUT_KEY
            else "taken from this machine alone, without a key"
        )
        lines = [
            "",
            f"TutorMax ingestion portal {settings.VERSION} is running.",
            "",
            f"  Staff portal  {site}/admin/",
            f"  Try the API   {site}/docs",
            f"  Send records  {site}{settings.API_PREFIX}/sessions",
            f"  Store         {store or f'embedded, its data in {settings.DATA_DIR}'}",
            f"  Records are   {keys}",
            "",
        ]
        if password:
            lines += [
                f"  Sign in as    {_STAFF_NAME}",
                f"  Password      {password}   (shown this once: note it down)",
                "",
            ]
        self.stdout.write("\n".join([*lines, "Ctrl-C stops it.", ""]))
        self.stdout.flush()


def _check_port_is_free() -> None:
    family = socket.AF_INET6 if ":" in settings.HOST else socket.AF_INET
    with socket.socket(family) as probe:
        # As the server itself does: a port that a former run has just left counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.HOST, settings.PORT))
        except OSError as fault:
            if fault.errno == errno.EADDRINUSE:
                advice = (
                    "Another program, perhaps another portal, uses this port: stop it, or set "
                    "PORT to a free one."
                )
            else:
                advice = f"{fault.strerror}. Check HOST and PORT."
            raise CommandError(
                f"Can not listen on {settings.HOST} port {settings.PORT}. {advice}"
            ) from fault


def _make_staff_account() -> str | None:
    """The password of a new staff account where there is none yet, else None."""
    users = get_user_model().objects
    if users.filter(is_superuser=True).exists():
        return None
    password = secrets.token_urlsafe(12)
    users.create_superuser(_STAFF_NAME, password=password)
    return password
