"""The figures of one queue as the pages show them: numbers, charts, a verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ingestion import queues
from ingestion.outcomes import StoreError
from ingestion.portal.queues import last_known, verdicts
from ingestion.portal.queues.sparklines import Sparkline, sparkline
from ingestion.portal.queues.verdicts import PROMISE_SECONDS, Flow, Judgement
from ingestion.queues import ConsumerSummary, Consumption, Minute, Overview, QueueSummary
from ingestion.records import RECORD_TYPES, RecordType

_SHOWN_MINUTES = 60
_MINUTES_PER_POINT_OF_A_DAY = 15


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """What happened in a few successive minutes: the numbers for one point of a line."""

    begins_at: datetime
    accepted: int
    taken: int | None
    rejected: int
    depth: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """Depth, and what went in and out, during a period; `points` has the newest first."""

    points: tuple[Point, ...]
    depth: Sparkline
    accepted: Sparkline
    taken: Sparkline
    deepest: int
    most: int

    @property
    def begins_at(self) -> datetime:
        """The beginning of the period."""
        return self.points[-1].begins_at


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsumerFigures:
    """A consumer, and the time since its last heartbeat; None if it does not say it."""

    consumer: ConsumerSummary
    silent_seconds: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """One queue at one moment; the summary is None if nothing is known of it.

    `consumers` are the consumers that hold or held a lease, the live ones first; `dead` is how many
    dead letters there are.
    """

    record_type: RecordType
    judgement: Judgement
    summary: QueueSummary | None = None
    flow: Flow | None = None
    hour: Chart | None = None
    consumers: tuple[ConsumerFigures, ...] = ()
    in_flight: int = 0
    dead: int = 0

    @property
    def promised_seconds(self) -> int:
        """The time within which every message should be read."""
        return PROMISE_SECONDS

    @property
    def age_seconds(self) -> float | None:
        """How long the oldest message has waited; None if none waits, or if it is unknown."""
        return self.summary.oldest_age_seconds if self.summary else None

    @property
    def promise(self) -> str:
        """How the age compares with the promise: `ok`, `warn` in the last quarter, or `bad`."""
        share = (self.age_seconds or 0) / PROMISE_SECONDS
        return "bad" if share > 1 else "warn" if share > 0.75 else "ok"

    @property
    def over_seconds(self) -> float:
        """How much longer than promised the oldest message has waited."""
        return max(0.0, (self.age_seconds or 0) - PROMISE_SECONDS)

    @property
    def alive(self) -> int:
        """How many consumers are alive."""
        return sum(one.consumer.alive for one in self.consumers)

    @property
    def lapsed(self) -> int:
        """How many consumers are treated as dead because their lease ran out."""
        return len(self.consumers) - self.alive


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """The overview now, or the last known one of `as_of` if the store is away for `reason`."""

    overview: Overview | None
    as_of: datetime | None = None
    reason: str = ""


def read() -> Reading:
    """All queues now, from one round trip, or the last known state."""
    try:
        found = queues.overview(
            [record_type.queue for record_type in RECORD_TYPES.values()], hours=1
        )
    except StoreError as fault:
        return away(fault)
    last_known.remember(found)
    return Reading(overview=found)


def away(fault: StoreError) -> Reading:
    """The last known state of the queues."""
    reason = fault.for_staff
    known = last_known.last_known()
    if known is None:
        return Reading(overview=None, reason=reason)
    return Reading(overview=known.overview, as_of=known.at, reason=reason)


def of_queues(reading: Reading) -> list[Figures]:
    """The figures of every record type's queue."""
    known = {}
    if reading.overview:
        rows = zip(
            reading.overview.summaries,
            reading.overview.histories,
            reading.overview.consumption,
            strict=True,
        )
        known = {
            summary.queue: (summary, history.minutes, consumption)
            for summary, history, consumption in rows
        }
    return [
        of_queue(record_type, *known[record_type.queue], as_of=reading.as_of)
        if record_type.queue in known
        else Figures(record_type=record_type, judgement=verdicts.UNREACHABLE)
        for record_type in RECORD_TYPES.values()
    ]


def of_queue(
    record_type: RecordType,
    summary: QueueSummary,
    minutes: Sequence[Minute],
    consumption: Consumption,
    *,
    as_of: datetime | None = None,
) -> Figures:
    """The figures of one queue; there is no verdict on old numbers, known at `as_of`."""
    now = as_of or datetime.now(UTC)
    flow = verdicts.flow(minutes, now=now)
    consumers = sorted(consumption.consumers, key=lambda one: (not one.alive, one.name))
    return Figures(
        record_type=record_type,
        judgement=verdicts.UNREACHABLE if as_of else verdicts.judge(summary, flow, consumers),
        summary=summary,
        flow=flow,
        hour=chart(minutes[-_SHOWN_MINUTES:]),
        consumers=tuple(
            ConsumerFigures(consumer=one, silent_seconds=_silence(one, now)) for one in consumers
        ),
        in_flight=consumption.in_flight,
        dead=consumption.dead,
    )


def _silence(one: ConsumerSummary, now: datetime) -> float | None:
    if one.last_heartbeat_at is None:
        return None
    # The store's clock sets the time of the heartbeat.
    return max(0.0, (now - one.last_heartbeat_at).total_seconds())


def chart_of_day(minutes: Sequence[Minute]) -> Chart:
    """The minutes of a day, in quarters of an hour."""
    return chart(minutes, step=_MINUTES_PER_POINT_OF_A_DAY)


def chart(minutes: Sequence[Minute], *, step: int = 1) -> Chart:
    """The lines for these minutes; a point has `step` of them."""
    points = tuple(_points(minutes, step))
    depths = list(_held(points))
    flows = [max(point.accepted, point.taken or 0) for point in points]
    most = max(flows, default=0)
    return Chart(
        points=points[::-1],
        depth=sparkline(depths),
        accepted=sparkline([point.accepted for point in points], most=most),
        taken=sparkline([point.taken for point in points], most=most),
        deepest=max((depth for depth in depths if depth is not None), default=0),
        most=most,
    )


def _points(minutes: Sequence[Minute], step: int) -> Iterator[Point]:
    # Only whole points are shown: if the minutes do not fill the first one, it is left out.
    for first in range(len(minutes) % step, len(minutes), step):
        some = minutes[first : first + step]
        taken = [minute.taken for minute in some if minute.taken is not None]
        depths = [minute.depth for minute in some if minute.depth is not None]
        yield Point(
            begins_at=some[0].begins_at,
            accepted=sum(minute.accepted for minute in some),
            taken=sum(taken) if taken else None,
            rejected=sum(minute.rejected for minute in some),
            depth=depths[-1] if depths else None,
        )


def _held(points: Sequence[Point]) -> Iterator[int | None]:
    """The depths; an unknown depth is replaced by the one before it."""
    depth = None
    for point in points:
        depth = depth if point.depth is None else point.depth
        yield depth
