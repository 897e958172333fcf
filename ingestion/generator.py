"""Synthetic tutoring data: tutors of five archetypes, their sessions, the feedback on these.

Everything follows from the seed. The records are for people who try the system, and for load tests.
Names, addresses and comments are invented; the e-mail domains are reserved for examples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import count, pairwise
from random import Random
from types import MappingProxyType
from typing import Any, TypeVar
from uuid import UUID

from ingestion import generator_tables as tables

Record = dict[str, Any]
T = TypeVar("T")

PATHS = ("tutors", "sessions", "feedback")
"""The record types that `generate` makes, by their path."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """Generated records by the path of their record type: tutors, sessions, feedback.

    If the paths are sent in the order of the mapping, a record comes after those that it refers to.
    """

    by_path: Mapping[str, tuple[Record, ...]]


def copies(
    example: Mapping[str, Any], id_field: str, *, number: int, seed: str
) -> tuple[Record, ...]:
    """Return this many copies of the example, with their own ids, which follow from the seed.

    For a record type that the generator does not know. Raises ValueError if `number` is negative.
    """
    if number < 0:
        raise ValueError("The number of records must not be negative.")
    draw = _Draw(seed)
    return tuple({**example, id_field: draw.uuid()} for _ in range(number))


class _Draw:
    """Random choices from one seed, the same on every machine and every Python.

    The seed is a text: `Random` takes its SHA-512, which does not change from process to process.
    All choices use `Random.random()`, the only method whose sequence Python promises to keep, and
    arithmetic that every platform rounds alike (no logarithms, and no `sum` of floats, because
    Python 3.12 changed it).
    """

    def __init__(self, seed: str) -> None:
        self._random = Random(seed).random

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self._random() < probability

    def between(self, low: int, high: int) -> int:
        """Return a whole number from low to high, both included, all equally likely."""
        return low + int(self._random() * (high - low + 1))

    def near(self, middle: float, reach: float) -> float:
        """Return a number at most `reach` from the middle, usually within a third of it."""
        return middle + reach * (self._random() + self._random() + self._random() - 1.5) / 1.5

    def pick(self, items: Sequence[T]) -> T:
        """Return one of the items; an item that is listed twice is twice as likely."""
        return items[int(self._random() * len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return the items in random order."""
        return sorted(items, key=lambda _: self._random())

    def uuid(self) -> str:
        """Return a version 4 UUID; it takes three draws, because one has 53 bits."""
        high, middle, low = (int(self._random() * 2**bits) for bits in (48, 40, 40))
        return str(UUID(int=high << 80 | middle << 40 | low, version=4))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Window:
    """The time in which sessions begin.

    `openings` are all half hours of teaching, in time order. `popular` holds their indexes; a more
    popular half hour is listed more often.
    """

    days: int
    openings: Sequence[datetime]
    popular: Sequence[int]


def generate(
    *, seed: int, tutors: int, sessions: int, feedback: int | None, start: date, days: int
) -> Dataset:
    """Return this many tutors, sessions and feedback records, all valid under the contract.

    The same arguments give the same records, on every machine. Sessions are scheduled from
    `start` on, within this many days; profiles show the state at `start`. Sessions are sorted by
    `scheduled_start`, feedback by `submitted_at`. Times are naive wall clock times.

    If `feedback` is None, four out of five sessions that took place get feedback. With a number,
    some no-shows become sessions that took place if there are too few of those.

    Raises ValueError if the counts are impossible: a negative count, no day, sessions without a
    tutor, or more feedback than sessions.
    """
    if min(tutors, sessions, feedback or 0) < 0:
        raise ValueError("The numbers of tutors, sessions and feedback must not be negative.")
    if days < 1:
        raise ValueError("Sessions need at least one day: give 1 or more for days.")
    if sessions and not tutors:
        raise ValueError("Sessions need a tutor: ask for at least one tutor, or for no sessions.")
    if feedback is not None and feedback > sessions:
        raise ValueError(
            f"There is at most one feedback per session, so {sessions} sessions cannot have "
            f"{feedback}: ask for more sessions or for less feedback."
        )
    # Every argument is part of the seed, so that another day has other session ids.
    draw = _Draw(f"{seed} {tutors} {sessions} {feedback} {start} {days}")
    shares = _apportion(tutors, [archetype.percent for archetype in tables.ARCHETYPES.values()])
    names = [
        name for name, share in zip(tables.ARCHETYPES, shares, strict=True) for _ in range(share)
    ]
    profiles = [
        _tutor(draw, number, name, start) for number, name in enumerate(draw.shuffled(names), 1)
    ]
    archetypes = {
        profile["tutor_id"]: tables.ARCHETYPES[profile["behavioral_archetype"]]
        for profile in profiles
    }
    scheduled = sorted(
        _sessions(draw, profiles, sessions, _window(start, days)),
        key=lambda record: record["scheduled_start"],
    )
    held = _held(draw, scheduled, archetypes, at_least=feedback or 0)
    wanted = round(tables.FEEDBACK_SHARE * len(held)) if feedback is None else feedback
    given: list[Record] = []
    for position, session in enumerate(held):  # picks exactly as many as wanted, all equally likely
        if draw.chance((wanted - len(given)) / (len(held) - position)):
            given.append(_feedback(draw, session, archetypes[session["tutor_id"]]))
    given.sort(key=lambda record: record["submitted_at"])
    made = map(tuple, (profiles, scheduled, given))
    return Dataset(by_path=MappingProxyType(dict(zip(PATHS, made, strict=True))))


def _apportion(total: int, weights: Sequence[int]) -> list[int]:
    """Divide the total in proportion to the weights, by the method of the largest remainder."""
    whole = sum(weights)
    parts = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: -(total * weights[i] % whole))
    for index in by_remainder[: total - sum(parts)]:
        parts[index] += 1
    return parts


def _tutor(draw: _Draw, number: int, archetype_name: str, start: date) -> Record:
    archetype = tables.ARCHETYPES[archetype_name]
    first, last = draw.pick(tables.FIRST_NAMES), draw.pick(tables.LAST_NAMES)
    mailbox = f"{first}.{last}{number}".lower().translate(tables.ASCII_LETTERS)
    tenure_days = draw.between(*archetype.tenure_days)
    education, youngest, oldest = draw.pick(tables.EDUCATION)
    subject_type = draw.pick(tables.SUBJECT_TYPES)
    profiled = datetime.combine(start, time(draw.between(8, 17), draw.pick((0, 15, 30, 45))))
    onboarded = profiled - timedelta(days=tenure_days)
    return {
        "tutor_id": f"tutor_{number:05d}",
        "name": f"{first} {last}",
        "email": f"{mailbox}@{draw.pick(tables.DOMAINS)}",
        # nobody begins to tutor before the age of 18
        "age": draw.between(max(youngest, 19 + tenure_days // 365), oldest),
        "location": draw.pick(tables.LOCATIONS),
        "education_level": education,
        "subjects": draw.shuffled(tables.SUBJECTS[subject_type])[: draw.between(1, 4)],
        "subject_type": subject_type,
        "onboarding_date": onboarded.isoformat(),
        "tenure_days": tenure_days,
        "behavioral_archetype": archetype_name,
        "baseline_sessions_per_week": draw.between(*archetype.weekly_sessions),
        "status": draw.pick(archetype.statuses),
        "created_at": onboarded.isoformat(),
        "updated_at": profiled.isoformat(),
    }


def _window(start: date, days: int) -> _Window:
    openings: list[datetime] = []
    popular: list[int] = []
    for day in range(days):
        midnight = datetime.combine(start + timedelta(days=day), time())
        hours = tables.WEEKEND_HOURS if midnight.weekday() >= 5 else tables.WEEKDAY_HOURS
        for half_hour in range(tables.OPENINGS_PER_DAY):
            popular += [len(openings)] * hours[half_hour // 2]
            openings.append(midnight + timedelta(hours=tables.FIRST_HOUR, minutes=30 * half_hour))
    return _Window(days=days, openings=openings, popular=popular)


def _sessions(
    draw: _Draw, profiles: Sequence[Record], number: int, window: _Window
) -> Iterator[Record]:
    """Yield the sessions tutor by tutor, as if all took place.

    Only active tutors teach, in proportion to their baseline. There is always an active tutor: all
    tutors of the most frequent archetype are active.
    """
    student_ids = (f"student_{number:05d}" for number in count(1))
    baselines = [
        profile["baseline_sessions_per_week"] if profile["status"] == "active" else 0
        for profile in profiles
    ]
    for profile, share in zip(profiles, _apportion(number, baselines), strict=True):
        yield from _sessions_of(draw, profile, share, window, student_ids)


def _sessions_of(
    draw: _Draw, profile: Record, number: int, window: _Window, student_ids: Iterator[str]
) -> Iterator[Record]:
    """Yield one tutor's sessions in time order.

    The students take turns, once or twice a week. Most of them came before the first day. Now and
    then a student leaves and a new one takes the place.
    """
    archetype = tables.ARCHETYPES[profile["behavioral_archetype"]]
    chosen = _openings(draw, window, number, declines=archetype.decline > 0)
    starts = [window.openings[index] for index in chosen]
    day_after = window.openings[-1] + timedelta(days=1)
    seats = math.ceil(number / (1 + window.days // 7))
    roster: dict[int, tuple[str, int]] = {}
    for position, (begin, next_begin) in enumerate(pairwise([*starts, day_after])):
        seat = position % seats
        if draw.chance(archetype.newcomers):
            student_id, session_number = next(student_ids), 1
        elif seat in roster:
            student_id, session_number = roster[seat][0], roster[seat][1] + 1
        else:
            weeks = min(profile["tenure_days"] // 7, tables.LONGEST_COURSE_WEEKS)
            student_id, session_number = next(student_ids), 1 + draw.between(1, 1 + weeks)
        roster[seat] = student_id, session_number
        yield _session(
            draw,
            profile,
            student_id=student_id,
            number=session_number,
            begin=begin,
            room=next_begin - begin,
            progress=chosen[position] // tables.OPENINGS_PER_DAY / window.days,
        )


def _openings(draw: _Draw, window: _Window, number: int, *, declines: bool) -> list[int]:
    """Return the indexes of the openings at which one tutor teaches, in time order.

    No opening is used twice before all are used once. So a tutor has two sessions at one time only
    if there are more sessions than openings.
    """
    chosen = []
    taken: set[int] = set()
    for _ in range(number):
        if len(taken) == len(window.openings):
            taken.clear()
        index = draw.pick(window.popular)
        if declines:  # take the earlier of two days, so that later days have fewer sessions
            index = min(
                index, draw.pick(window.popular), key=lambda i: i // tables.OPENINGS_PER_DAY
            )
        while index in taken:
            index = (index + 1) % len(window.openings)
        taken.add(index)
        chosen.append(index)
    return sorted(chosen)


def _session(
    draw: _Draw,
    profile: Record,
    *,
    student_id: str,
    number: int,
    begin: datetime,
    room: timedelta,
    progress: float,
) -> Record:
    """Return a session that took place.

    `room` is the time until the tutor's next one; `progress` is the share of the days that is over.
    """
    archetype = tables.ARCHETYPES[profile["behavioral_archetype"]]
    fitting = [
        minutes for minutes in tables.DURATIONS_MINUTES if timedelta(minutes=minutes) <= room
    ]
    duration = draw.pick(fitting or tables.DURATIONS_MINUTES[:1])
    late = draw.between(1, archetype.late_minutes) if draw.chance(archetype.lateness) else 0
    technical_issues = draw.chance(archetype.technical_issues)
    usual = archetype.engagement - archetype.decline * progress - 0.15 * technical_issues
    engagement = round(min(max(draw.near(usual, 0.25), 0.0), 1.0), 2)
    actual = begin + timedelta(minutes=late)
    booked = begin - timedelta(minutes=draw.between(60, tables.BOOKED_AHEAD_MINUTES))
    noted = actual + timedelta(minutes=duration + draw.between(1, 10))
    return {
        "session_id": draw.uuid(),
        "tutor_id": profile["tutor_id"],
        "student_id": student_id,
        "session_number": number,
        "is_first_session": number == 1,
        "scheduled_start": begin.isoformat(),
        "actual_start": actual.isoformat(),
        "duration_minutes": duration,
        "subject": draw.pick(profile["subjects"]),
        "session_type": draw.pick(tables.SESSION_TYPES),
        "tutor_initiated_reschedule": draw.chance(archetype.reschedules),
        "no_show": False,
        "late_start_minutes": late,
        "engagement_score": engagement,
        "learning_objectives_met": draw.chance(engagement),
        "technical_issues": technical_issues,
        "created_at": booked.isoformat(),
        "updated_at": noted.isoformat(),
    }


def _held(
    draw: _Draw,
    sessions: Sequence[Record],
    archetypes: Mapping[str, tables.Archetype],
    *,
    at_least: int,
) -> list[Record]:
    """Turn some sessions into no-shows, in place, and return at least `at_least` others."""
    held = []
    may_be_missed = len(sessions) - at_least
    for session in sessions:
        if may_be_missed and draw.chance(archetypes[session["tutor_id"]].no_shows):
            may_be_missed -= 1
            given_up = datetime.fromisoformat(session["scheduled_start"]) + tables.NO_SHOW_WAIT
            session.update(
                actual_start=None,
                no_show=True,
                late_start_minutes=0,
                engagement_score=0.0,
                learning_objectives_met=False,
                technical_issues=False,
                updated_at=given_up.isoformat(),
            )
        else:
            held.append(session)
    return held


def _feedback(draw: _Draw, session: Record, archetype: tables.Archetype) -> Record:
    """Return the student's feedback on a session, given within two days after its end."""
    mood = archetype.rating + 2 * (session["engagement_score"] - archetype.engagement)
    overall = _rating(draw.near(mood, 2.2))
    first = session["is_first_session"]
    minutes_later = draw.between(5, draw.between(60, 2 * 24 * 60))  # most of them soon
    submitted = datetime.fromisoformat(session["actual_start"]) + timedelta(
        minutes=session["duration_minutes"] + minutes_later
    )
    return {
        "feedback_id": draw.uuid(),
        "session_id": session["session_id"],
        "student_id": session["student_id"],
        "tutor_id": session["tutor_id"],
        "overall_rating": overall,
        "is_first_session": first,
        **{
            aspect: _rating(overall + draw.pick((-1, 0, 0, 0, 1)))
            for aspect in tables.RATED_ASPECTS
        },
        "free_text_feedback": _comment(draw, session, overall),
        "submitted_at": submitted.isoformat(),
        "created_at": submitted.isoformat(),
        "would_recommend": draw.chance((overall - 1) / 4) if first else None,
        "improvement_areas": (
            draw.shuffled(tables.IMPROVEMENT_AREAS)[: draw.between(0, 5 - overall)]
            if first
            else None
        ),
    }


def _rating(value: float) -> int:
    return min(max(round(value), 1), 5)


def _comment(draw: _Draw, session: Record, overall: int) -> str:
    if draw.chance(tables.SILENT_SHARE):
        return ""
    sentences = [draw.pick(tables.COMMENTS[overall]).format(subject=session["subject"])]
    if session["late_start_minutes"] >= 10:
        sentences.append(f"We started {session['late_start_minutes']} minutes late.")
    if session["technical_issues"]:
        sentences.append("The connection kept dropping.")
    return " ".join(sentences)
