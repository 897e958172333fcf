"""What every command shares that works with the queues."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from ingestion import embedded
from ingestion.outcomes import ANSWERS, IntakeError, StoreError, trouble


class StoreCommand(BaseCommand):
    """A command with a store at hand.

    Without REDIS_URL that is the embedded one: the running portal's where there is one, else one
    started for the time of the command. A fault becomes one sentence and exit status 1.
    """

    def execute(self, *args: Any, **options: Any) -> Any:
        """Run the command over the store."""
        store = nullcontext() if settings.REDIS_URL else embedded.running(settings.DATA_DIR)
        try:
            with store:
                return super().execute(*args, **options)
        except embedded.EmbeddedStoreError as fault:
            raise CommandError(str(fault)) from fault
        except StoreError as fault:
            raise CommandError(f"{trouble(fault)} Try again shortly.") from fault
        except IntakeError as fault:
            raise CommandError(ANSWERS[fault.code].sentence) from fault


def printable(text: str) -> str:
    """Text that can do nothing to a terminal."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
