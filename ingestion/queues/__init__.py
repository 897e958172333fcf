"""How Redis is used. The rest of the product knows only the functions below.

A queue is a list: messages are pushed on the left and taken on the right, so the oldest is
rightmost.
"""

from ingestion.queues.claims import MAX_ATTEMPTS, Claim, Claimed, GivenBack, Holder
from ingestion.queues.consumers import ConsumerSummary, Consumption, consumption
from ingestion.queues.dead import (
    DeadLetter,
    dead_letters,
    discard_dead,
    put_back_all_dead,
    put_back_dead,
)
from ingestion.queues.health import (
    Breach,
    Durability,
    StoreHealth,
    address,
    closed_to_us,
    health,
)
from ingestion.queues.kept import KeptRejection, mark_fixed, rejections
from ingestion.queues.messages import (
    COPIES_TTL_SECONDS,
    REACH,
    Detail,
    Message,
    Search,
    Window,
    copies_left,
    detail,
    named,
    of_upload,
    put_back,
    take_off,
    window,
)
from ingestion.queues.numbers import (
    Minute,
    Overview,
    QueueHistory,
    QueueSummary,
    overview,
    sample_depths,
    summaries,
)
from ingestion.queues.push import (
    Once,
    Pause,
    Push,
    Pushed,
    pause_queue,
    push,
    push_together,
    resume_queue,
)
from ingestion.queues.quota import Quota, charge, charge_together

__all__ = [
    "COPIES_TTL_SECONDS",
    "MAX_ATTEMPTS",
    "REACH",
    "Breach",
    "Claim",
    "Claimed",
    "ConsumerSummary",
    "Consumption",
    "DeadLetter",
    "Detail",
    "Durability",
    "GivenBack",
    "Holder",
    "KeptRejection",
    "Message",
    "Minute",
    "Once",
    "Overview",
    "Pause",
    "Push",
    "Pushed",
    "QueueHistory",
    "QueueSummary",
    "Quota",
    "Search",
    "StoreHealth",
    "Window",
    "address",
    "charge",
    "charge_together",
    "closed_to_us",
    "consumption",
    "copies_left",
    "dead_letters",
    "detail",
    "discard_dead",
    "health",
    "mark_fixed",
    "named",
    "of_upload",
    "overview",
    "pause_queue",
    "push",
    "push_together",
    "put_back",
    "put_back_all_dead",
    "put_back_dead",
    "rejections",
    "resume_queue",
    "sample_depths",
    "summaries",
    "take_off",
    "window",
]
