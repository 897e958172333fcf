"""The kept rejections: find one, and mark it when it is fixed."""

from __future__ import annotations

from ingestion import queues
from ingestion.outcomes import StoreError
from ingestion.queues import KeptRejection
from ingestion.records import RecordType


def to_fix(record_type: RecordType, rejection_id: str) -> KeptRejection | None:
    """The refused record for the entry form; None if it is no longer available."""
    try:
        return find(record_type, rejection_id)
    except StoreError:  # the form reports this itself when it is sent
        return None


def mark_fixed(record_type: RecordType, rejection_id: str, record_id: str) -> bool:
    """Note that the record was queued as `record_id`; False if that cannot be noted.

    It raises nothing, because the record is queued even if the mark fails.
    """
    try:
        known = find(record_type, rejection_id) is not None
        if known:
            queues.mark_fixed(record_type.queue, rejection_id, record_id)
    except StoreError:
        return False
    return known


def find(record_type: RecordType, rejection_id: str) -> KeptRejection | None:
    """The refused record; None if it is no longer kept. Raises `StoreError`."""
    kept = queues.rejections([record_type.queue])
    return next((one for one in kept if one.id == rejection_id), None)
