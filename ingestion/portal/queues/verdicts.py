"""The state of a queue in words for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ingestion.queues import ConsumerSummary, Minute, QueueSummary
from ingestion.times import duration

PROMISE_SECONDS = 3600
"""Every message should be read within one hour."""

# Rates in and out are taken over this many minutes, including the current one.
JUDGED_MINUTES = 5
# If no message waits longer than this, all is well.
_SHORT_SECONDS = 120


class Verdict(StrEnum):
    """The verdicts, by their names in the stylesheet."""

    FLOWING = "flowing"
    BUILDING = "building"
    STOPPED = "stopped"
    PAUSED = "paused"
    UNREACHABLE = "unreachable"

    @property
    def words(self) -> str:
        """The words for people."""
        return _WORDS[self]


_WORDS = {
    Verdict.FLOWING: "Flowing",
    Verdict.BUILDING: "Building up",
    Verdict.STOPPED: "Nothing is reading",
    Verdict.PAUSED: "Paused",
    Verdict.UNREACHABLE: "Unreachable",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """A verdict and what it means, in one or two sentences."""

    verdict: Verdict
    meaning: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """Messages in and out in the last minutes, including the current one.

    `minutes` is the length of this time; `taken` is None if it is not known.
    """

    accepted: int
    taken: int | None
    minutes: float

    @property
    def in_per_minute(self) -> float:
        """The average of the last minutes."""
        return self.accepted / self.minutes

    @property
    def out_per_minute(self) -> float | None:
        """The average of the last minutes; None if it is not known."""
        return None if self.taken is None else self.taken / self.minutes


UNREACHABLE = Judgement(
    verdict=Verdict.UNREACHABLE,
    meaning="The store does not answer. Senders get an error and send again later. Messages on "
    "the queue are not touched.",
)


def flow(minutes: Sequence[Minute], *, now: datetime) -> Flow:
    """What went in and out in the last minutes. The newest minute is last, and `now` is in it."""
    judged = minutes[-JUDGED_MINUTES:]
    known = [minute.taken for minute in judged if minute.taken is not None]
    return Flow(
        accepted=sum(minute.accepted for minute in judged),
        taken=sum(known) if known else None,
        # At least one second: `now` may be the exact beginning of a minute.
        minutes=max((now - judged[0].begins_at).total_seconds(), 1) / 60,
    )


def judge(
    summary: QueueSummary, moved: Flow, consumers: Sequence[ConsumerSummary] = ()
) -> Judgement:
    """The verdict on a queue, from its numbers, what went in and out, and its consumers.

    A live consumer may still take nothing: if messages wait and none leaves, its work hangs.
    Consumers that take with a plain `RPOP` are not among `consumers`.
    """
    if summary.broken:
        return Judgement(
            verdict=Verdict.UNREACHABLE,
            meaning=f"Something that is not a list is at the key {summary.queue}: nothing can be "
            "queued or read until somebody removes it from the store.",
        )
    if summary.pause is not None:
        return Judgement(
            verdict=Verdict.PAUSED,
            meaning=f"{summary.pause.by} paused it: “{summary.pause.reason}”. Senders must wait.",
        )
    if not summary.depth:
        return _judge_empty(consumers)
    age = summary.oldest_age_seconds
    if age is not None and age < _SHORT_SECONDS:
        return Judgement(
            verdict=Verdict.FLOWING, meaning=f"No message waits longer than {duration(age)}."
        )
    if not moved.taken:
        waits = "" if age is None else f" The oldest has waited {duration(age)}."
        return Judgement(
            verdict=Verdict.STOPPED,
            meaning=f"No message left the queue in the last {JUDGED_MINUTES} minutes.{waits} "
            f"{_where_to_look(consumers)}",
        )
    if consumers and not any(one.alive for one in consumers):
        held = sum(one.in_flight for one in consumers)
        if moved.taken <= held:
            return Judgement(
                verdict=Verdict.STOPPED,
                meaning=f"Dead consumers hold the messages that left the queue in the last "
                f"{JUDGED_MINUTES} minutes ({_messages(held)}). {_where_to_look(consumers)}",
            )
    if moved.taken < moved.accepted:
        return Judgement(
            verdict=Verdict.BUILDING,
            meaning=f"More comes in than is read: {moved.accepted:,} in and {moved.taken:,} out in "
            f"the last {JUDGED_MINUTES} minutes.",
        )
    if moved.taken == moved.accepted:
        meaning = "As much is read as comes in. The queue does not get shorter."
    else:
        left = summary.depth / (moved.taken - moved.accepted) * moved.minutes
        meaning = (
            "The queue gets shorter. At this speed it is empty in about "
            f"{duration(max(1, round(left)) * 60)}."
        )
    return Judgement(verdict=Verdict.FLOWING, meaning=meaning)


def _judge_empty(consumers: Sequence[ConsumerSummary]) -> Judgement:
    held = sum(one.in_flight for one in consumers)
    if not held:
        return Judgement(
            verdict=Verdict.FLOWING, meaning="No message waits: consumers have taken every message."
        )
    if any(one.alive for one in consumers):
        return Judgement(
            verdict=Verdict.FLOWING,
            meaning="No message waits: consumers have taken every message and still work on some.",
        )
    return Judgement(
        verdict=Verdict.STOPPED,
        meaning=f"Dead consumers hold {_messages(held)}. Start a consumer to continue the work.",
    )


def _where_to_look(consumers: Sequence[ConsumerSummary]) -> str:
    """What staff should check if messages wait and none leaves the queue."""
    alive = [one for one in consumers if one.alive]
    held = sum(one.in_flight for one in alive)
    if len(alive) == 1:
        holds = f"holds {_messages(held)}: see what it does" if held else "takes none"
        return f"The consumer {alive[0].name} is alive and {holds}."
    if alive:
        hold = f"hold {_messages(held)}: see what they do" if held else "take none"
        return f"{len(alive):,} consumers are alive and {hold}."
    if consumers:
        return "No known consumer is alive: start one."
    return "Is the consumer running?"


def _messages(count: int) -> str:
    return f"{count:,} message{'' if count == 1 else 's'}"
