"""A change that staff make in the store: made, noted in the activity log, and reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.contrib import messages as notices
from django.db import transaction
from django.http import HttpRequest

from ingestion.models import Activity, Upload
from ingestion.outcomes import StoreError
from ingestion.portal import activity
from ingestion.records import RecordType


@dataclass(kw_only=True, slots=True)
class StoreChange:
    """A change in progress. Its code sets what it knows at the end.

    `facts` are the counts and ids for the activity log. Set `happened` to False if nothing was
    changed: then nothing is noted.
    """

    facts: dict[str, Any]
    happened: bool = True
    _record: Callable[..., None]
    _noted: bool = False

    def note(self) -> None:
        """Write the entry now; without this it is written when the change is done."""
        self._record(facts=self.facts)
        self._noted = True

    def note_if_due(self) -> None:
        """Write the entry, if something happened that is not noted yet."""
        if self.happened and not self._noted:
            self.note()

    def note_unknown(self) -> None:
        """Write that nobody knows whether the change happened."""
        self._record(facts={**self.facts, "outcome": "unknown"})


@contextmanager
def store_change(
    request: HttpRequest,
    what: Activity.Action,
    *,
    record_type: RecordType | None = None,
    upload: Upload | None = None,
    reason: str = "",
    facts: Mapping[str, Any] | None = None,
    in_slices: bool = False,
) -> Iterator[StoreChange]:
    """Change something at the store in the `with` block, and note it in the activity log.

    The transaction for the entry is open before the store is asked, so a database that is away
    stops the change. If the store's answer is lost, the entry says that the outcome is unknown;
    if the store refused, nothing is noted. `StoreError` goes on to the caller in both cases.

    With `in_slices`, the store is asked many times. That takes long, so no transaction is held.
    """
    note = partial(activity.record, request, what, record_type=record_type, upload=upload)
    change = StoreChange(facts=dict(facts or {}), _record=partial(note, reason=reason))
    try:
        with nullcontext() if in_slices else transaction.atomic():
            yield change
            change.note_if_due()
    except StoreError as fault:
        fault.outcome_unknown |= in_slices  # of the slices before this one we know nothing
        if fault.outcome_unknown:
            change.note_unknown()
        raise


def tell_failure(request: HttpRequest, fault: StoreError, *, where: str) -> None:
    """Show on the next page why the store did not do it. `where` names what to look at."""
    if fault.outcome_unknown:
        words = f"It is unknown whether this was done: look at the {where} before you try again."
    else:
        words = "Nothing was changed. Try again later."
    notices.error(request, f"{fault.for_staff} {words}")
