"""Why the store cannot be used at present, in a sentence for staff."""

from __future__ import annotations

from ingestion import queues
from ingestion.outcomes import Code


def why_away(code: str) -> str:
    """Why nothing can be read from the store or queued, in a sentence for staff."""
    return {
        Code.STORE_LOADING.value: "The store is starting and still loads its data.",
        Code.STORE_READ_ONLY.value: "The store takes no writes: it has become a replica.",
        Code.STORE_ERROR.value: "The store refuses the question; the log says why.",
    }.get(code, "The store does not answer.")


def store_trouble() -> str:
    """Why the store can take nothing at present; nothing if it is well. One round trip."""
    reasons = queues.health().reasons
    return why_away(reasons[0]) if reasons else ""
