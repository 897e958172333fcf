"""The refused records that are kept: to be looked up, and marked once they are fixed."""

from __future__ import annotations

from ingestion import queues
from ingestion.outcomes import StoreError
from ingestion.queues import KeptRejection
from ingestion.records import RecordType


def to_fix(record_type: RecordType, rejection_id: str) -> KeptRejection | None:
    """The refused record to begin the entry form with; None where it cannot be had any more."""
    try:
        return find(record_type, rejection_id)
    except StoreError:  # the form says so by itself, once it is sent
        return None


def mark_fixed(record_type: RecordType, rejection_id: str, record_id: str) -> bool:
    """Note that the record is queued now, as `record_id`; False where that cannot be noted.

    It raises nothing: the record is queued, whatever becomes of the mark.
    """
    try:
        known = find(record_type, rejection_id) is not None
        if known:
            queues.mark_fixed(record_type.queue, rejection_id, record_id)
    except StoreError:
        return False
    return known


def find(record_type: RecordType, rejection_id: str) -> KeptRejection | None:
    """The refused record; None if it is not kept any more. Raises `StoreError`."""
    kept = queues.rejections([record_type.queue])
    return next((one for one in kept if one.id == rejection_id), None)
