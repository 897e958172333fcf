"""`manage.py serve`: the whole portal, even if the folder is still empty."""

from __future__ import annotations

import errno
import secrets
import signal
import socket
import threading
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from multiprocessing.process import BaseProcess
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.checks import Tags
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError, connections

from ingestion import embedded, queues
from ingestion.addresses import http_url, is_loopback
from ingestion.management.command import PortalCommand
from ingestion.models import ApiKey
from ingestion.outcomes import StoreError
from ingestion.processes import start_copy
from ingestion.records import RECORD_TYPES

logger = structlog.get_logger(__name__)

_STAFF_NAME = "admin"
_LOOK_EVERY_SECONDS = 0.5
# By name: the site uses this app, so the app imports nothing of the site.
_CHILDREN: Mapping[str, tuple[str, *tuple[object, ...]]] = {
    "web server": ("tutormax.web:serve",),
    "worker": (
        "django.core.management:execute_from_command_line",
        ["manage.py", "worker", "--skip-checks"],
    ),
}


class Command(PortalCommand):
    """Prepares everything, starts store, web server and worker, and keeps them running."""

    help = (
        "Runs the portal: the embedded store (unless REDIS_URL is set), migrations, a "
        "staff account at the first start, the web server, and the worker that reads uploaded "
        "files. Ctrl-C stops all of it."
    )

    examples = ("",)
    logs_on_a_terminal = True

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until told to stop. First refuses a configuration that cannot work."""
        _check_port_is_free()
        self._store = _store_in_words()
        _migrate()
        self.check(tags=[Tags.database], databases=["default"])
        _check_somebody_may_send()
        self._stopping = threading.Event()
        for word in (signal.SIGINT, signal.SIGTERM):
            signal.signal(word, lambda *_: self._stopping.set())
        self._children: dict[str, BaseProcess] = {}
        try:
            while not self._stopping.is_set():
                self._serve_while_the_store_lives()
        except embedded.EmbeddedStoreError as fault:
            raise CommandError(str(fault)) from fault
        finally:
            self._stop_children()

    def _serve_while_the_store_lives(self) -> None:
        """Return when told to stop, after the children have ended and before their store does. Or
        return when the embedded store is gone; then the children keep running and wait for it."""
        with nullcontext() if settings.REDIS_URL else embedded.running(settings.DATA_DIR) as store:
            if not self._children:
                password = _first_account()
                for name in _CHILDREN:
                    self._start(name)
                self._wait_for_web()
                self._greet(password)
            while not self._stopping.wait(_LOOK_EVERY_SECONDS):
                self._look_after_children()
                if store is not None and store.has_ended():
                    logger.error("embedded_store_ended", log=str(settings.DATA_DIR / "store.log"))
                    return
            self._stop_children()

    def _start(self, name: str) -> None:
        connections.close_all()  # two processes must not share a connection
        self._children[name] = start_copy(name, *_CHILDREN[name])

    def _look_after_children(self) -> None:
        for name, child in self._children.items():
            if not child.is_alive():
                logger.error("child_ended", child=name, status=child.exitcode)
                self._start(name)

    def _wait_for_web(self) -> None:
        web = self._children["web server"]
        while web.is_alive() and not self._stopping.wait(0.05):
            with suppress(OSError), socket.create_connection((settings.HOST, settings.PORT), 1):
                return
        if not self._stopping.is_set():
            raise CommandError("The web server does not start; its last lines say why.")

    def _stop_children(self) -> None:
        for child in self._children.values():
            child.terminate()
        for name, child in self._children.items():
            # A little longer than the server itself waits for its running requests.
            child.join(settings.SHUTDOWN_SECONDS + 5)
            if child.is_alive():
                logger.warning("child_killed", child=name)
                child.kill()
                child.join()

    def _greet(self, password: str | None) -> None:
        site = http_url(settings.HOST, settings.PORT)
        keys = (
            "taken from everybody, without a key (OPEN_WITHOUT_KEY)"
            if settings.OPEN_WITHOUT_KEY
            else "taken from this machine without a key, from others with one"
        )
        lines = [
            "",
            f"TutorMax ingestion portal {settings.VERSION} is running.",
            "",
            f"  Staff portal  {site}/admin/",
            f"  Try the API   {site}/docs",
            f"  Send records  {site}{settings.API_PREFIX}/sessions",
            f"  Store         {self._store}",
            f"  Records are   {keys}",
            "",
        ]
        if password:
            lines += [
                f"  Sign in as    {_STAFF_NAME}",
                f"  Password      {password}   (shown only now: note it down)",
                "",
            ]
        self.stdout.write("\n".join([*lines, "Ctrl-C stops it.", ""]))
        self.stdout.flush()


def _store_in_words() -> str:
    """The store in words. Refuses a store that refuses us; an unreachable one may come later."""
    if not settings.REDIS_URL:
        return f"embedded, its data in {settings.DATA_DIR}"
    try:
        of_all = [record_type.queue for record_type in RECORD_TYPES.values()]
        queues.summaries(of_all)
        queues.consumption(of_all)
    except StoreError as fault:
        if closed := queues.closed_to_us(fault):
            raise CommandError(closed) from fault
        return (
            f"{queues.address()}, which cannot be reached now. Records are refused with 503 until "
            "it answers; REDIS_URL names it."
        )
    return queues.address()


def _check_somebody_may_send() -> None:
    """Refuse an address on the network if no client has a key and keys are required."""
    if is_loopback(settings.HOST) or settings.OPEN_WITHOUT_KEY:
        return
    if not ApiKey.objects.live().exists():
        raise CommandError(
            f"HOST={settings.HOST} can be reached from the network, where records are taken with "
            "an API key, and there is no key yet. Make one with manage.py api_key create, or keep "
            "HOST=127.0.0.1. Where everybody who can reach this server may queue records, set "
            "OPEN_WITHOUT_KEY=true."
        )


def _migrate() -> None:
    """Create the database, or update it."""
    try:
        call_command("migrate", interactive=False, verbosity=0)
    except OperationalError as fault:
        raise CommandError(
            f"The database cannot be used ({fault}). Check DATABASE_URL, or the rights on "
            f"{settings.DATA_DIR}."
        ) from fault


def _first_account() -> str | None:
    """The staff account of a first start; returns its password if it is new."""
    users = get_user_model().objects
    if users.filter(is_superuser=True).exists():
        return None
    password = secrets.token_urlsafe(12)
    users.create_superuser(_STAFF_NAME, password=password)
    return password


def _check_port_is_free() -> None:
    family = socket.AF_INET6 if ":" in settings.HOST else socket.AF_INET
    with socket.socket(family) as probe:
        # As the server itself does: a port that an earlier run has just left counts as free.
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
                f"Cannot listen on {settings.HOST} port {settings.PORT}. {advice}"
            ) from fault
