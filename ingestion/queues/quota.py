"""How many records a client may send: counted in the store, so that all web processes agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from ingestion.outcomes import Code, StoreError
from ingestion.queues.connection import Script
from ingestion.queues.keys import quota_key

_charge = Script("charge")


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota:
    """A client's quota after a charge.

    `left` is how many records it may send now. `full_in_seconds` is when all of `per_minute` is
    free again. `wait_seconds` is 0 if the charge was made, otherwise the time until it is possible.
    """

    per_minute: int
    left: int
    full_in_seconds: int
    wait_seconds: int


def charge(client: str, records: int, *, per_minute: int) -> Quota:
    """Charge `client` for the records of one request; see `charge_together`."""
    (quota,) = charge_together(client, [records], per_minute=per_minute)
    return quota


def charge_together(client: str, records: Sequence[int], *, per_minute: int) -> list[Quota]:
    """Charge `client` for each of its requests, all or nothing, in order and in one round trip.

    `records` has the number of records of each request. The quota refills evenly. A request with
    more records than a minute's quota needs all of the quota, and delays the next request until it
    is paid off. Raises `StoreError`; nothing is queued then.
    """
    try:
        verdicts = _charge((quota_key(client),), (per_minute, *records))
    except StoreError as fault:
        if fault.outcome_unknown:  # only the charge is unknown: no record was sent yet
            raise StoreError(Code.STORE_UNREACHABLE, retry_after_seconds=1) from fault
        raise
    return [
        Quota(
            per_minute=per_minute,
            left=left,
            full_in_seconds=ceil(full / 1000),
            wait_seconds=ceil(wait / 1000),
        )
        for wait, left, full in verdicts
    ]
