"""What all commands that use the queues share."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from ingestion import embedded, queues
from ingestion.management.command import PortalCommand
from ingestion.outcomes import IntakeError, StoreError


class StoreCommand(PortalCommand):
    """A command that can use the store.

    Without REDIS_URL this is the embedded store: the running portal's if there is one, otherwise
    one that is started for the time of the command. Only a command that `may_begin_a_store` creates
    the first store of a folder: an empty store must not be confused with the portal's. A fault
    becomes one sentence and exit status 1.
    """

    may_begin_a_store = False

    def execute(self, *args: Any, **options: Any) -> Any:
        """Run the command with the store, after the settings were found valid."""
        if self.requires_system_checks and not options.get("skip_checks"):
            self.check()
        options["skip_checks"] = True
        data_dir = settings.DATA_DIR
        if not (settings.REDIS_URL or self.may_begin_a_store or embedded.is_begun(data_dir)):
            raise CommandError(
                f"There is no store in {data_dir}: DATA_DIR is not the folder of a portal that "
                "has run. Set DATA_DIR or REDIS_URL as the portal has it, or start it first."
            )
        store = nullcontext() if settings.REDIS_URL else embedded.running(data_dir)
        try:
            with store:
                return super().execute(*args, **options)
        except embedded.EmbeddedStoreError as fault:
            raise CommandError(str(fault)) from fault
        except StoreError as fault:
            closed = queues.closed_to_us(fault)
            raise CommandError(closed or f"{fault.for_staff} Try again shortly.") from fault
        except IntakeError as fault:
            raise CommandError(in_words(fault)) from fault


def in_words(fault: IntakeError) -> str:
    """Why nothing was taken: the fault's own words for people, or the meaning of its code."""
    return getattr(fault, "advice", "") or fault.code.sentence
