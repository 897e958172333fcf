"""How messages leave: claimed, acknowledged, given back, or buried as dead letters.

At least once: a message is on the queue, in the hands of one consumer, or a dead letter, and every
move between these is one atomic step of the store. `docs/consumers.md` is the protocol for programs
in any language.
"""

from ingestion.consumer.claims import (
    LEASE_SECONDS,
    MAX_ATTEMPTS,
    Claim,
    Claimed,
    Consumer,
    GivenBack,
)
from ingestion.consumer.dead_letters import (
    DeadLetter,
    dead_letters,
    discard,
    put_back,
    put_back_all,
)
from ingestion.consumer.loop import DeliveryError, DownstreamError, Tally, consume

__all__ = [
    "LEASE_SECONDS",
    "MAX_ATTEMPTS",
    "Claim",
    "Claimed",
    "Consumer",
    "DeadLetter",
    "DeliveryError",
    "DownstreamError",
    "GivenBack",
    "Tally",
    "consume",
    "dead_letters",
    "discard",
    "put_back",
    "put_back_all",
]
