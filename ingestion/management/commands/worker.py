"""`manage.py worker`: the background work on uploads."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

import structlog
from django.db import close_old_connections, connection
from django.utils.crypto import get_random_string
from django_tasks_db.management.commands.db_worker import Worker

from ingestion import queues
from ingestion.management.command import PortalCommand
from ingestion.outcomes import StoreError
from ingestion.records import RECORD_TYPES
from ingestion.uploads import actions, stored_files, tasks, work

logger = structlog.get_logger(__name__)

_LOOK_EVERY_SECONDS = 0.5
_HOUSEKEEPING_EVERY_SECONDS = 10.0
_EXPIRE_EVERY_SECONDS = 600.0


class Command(PortalCommand):
    """Runs the tasks of the database's queue, one at a time, and the housekeeping beside them."""

    help = (
        "Reads and queues uploaded files in the background. SIGTERM ends it cleanly: the next "
        "worker continues the current file. Several may run, on several machines."
    )

    examples = ("",)
    logs_on_a_terminal = True

    def handle(self, *args: Any, **options: Any) -> None:
        """Work until told to stop."""
        worker = _Worker(
            queue_names=["default"],
            interval=_LOOK_EVERY_SECONDS,
            batch=False,
            backend_name="default",
            startup_delay=False,
            max_tasks=None,
            worker_id=get_random_string(32),
            excluded_queue_names=[],
        )
        worker.configure_signals()
        logger.info("worker_started", worker=worker.worker_id)
        leaving = threading.Event()
        housekeeping = threading.Thread(target=_housekeeping, args=(leaving,))
        housekeeping.start()
        try:
            worker.run()
        finally:
            # Wait for it: if the process ended a thread, the thread could still hold a lock that we
            # need.
            leaving.set()
            housekeeping.join()
            logger.info("worker_ended", worker=worker.worker_id)


class _Worker(Worker):
    """The package's worker, but its running task ends early when the worker is told to end."""

    def run(self) -> None:
        """Continue when the database is back: a worker that ended would only be started again."""
        while self.running:
            try:
                super().run()
            except work.DATABASE_AWAY as fault:
                logger.warning("worker_without_database", fault=type(fault).__name__)
                work.rest(_LOOK_EVERY_SECONDS)

    def shutdown(self, signum: int, frame: FrameType | None) -> None:
        work.stop()
        super().shutdown(signum, frame)

    def configure_signals(self) -> None:
        super().configure_signals()
        # Ctrl-C in a terminal is for the process that started the worker, if there is one.
        signal.signal(signal.SIGINT, self.shutdown)


def _housekeeping(leaving: threading.Event) -> None:
    expired_at = 0.0
    watch = work.Watch()
    while True:
        close_old_connections()
        try:
            tasks.requeue_abandoned(watch)
            if time.monotonic() - expired_at > _EXPIRE_EVERY_SECONDS or not expired_at:
                actions.expire()
                stored_files.delete_left_behind()
                tasks.forget_results()
                expired_at = time.monotonic()
        except Exception:  # after any failure, the next round must still run
            logger.exception("housekeeping_failed")
        finally:
            connection.close()
        try:
            queues.sample_depths(record_type.queue for record_type in RECORD_TYPES.values())
        except StoreError as fault:
            logger.warning("depths_not_sampled", code=fault.code.value)
        if leaving.wait(_HOUSEKEEPING_EVERY_SECONDS):
            return
