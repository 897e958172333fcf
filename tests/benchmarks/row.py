"""What is measured: a row is one work, with those who do it and the goals for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from tests.benchmarks.contenders import PORTAL, Site
from tests.benchmarks.load import Sample, Sender, wrk

_LOAD_SECONDS = 8

Medians: TypeAlias = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Row, case, figure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """What a row must come to.

    `found` takes it from the medians; a `KeyError` there means that something was not measured.
    `case` is whose CPU time tells what limits it.
    """

    text: str
    wanted: float
    unit: str
    found: Callable[[Medians], float]
    case: str = PORTAL
    at_most: bool = False

    def is_reached(self, value: float) -> bool:
        """Whether it is reached."""
        return value <= self.wanted if self.at_most else value >= self.wanted


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One work: its cases by name, each measured once a round, and the goals.

    `figures` are shown, the first of them with its spread and its ratio to that of `baseline`.
    """

    name: str
    title: str
    figures: tuple[str, ...]
    cases: Mapping[str, Callable[[Site], Sample]]
    baseline: str = ""
    goals: tuple[Goal, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """How much of everything; `scale` 1 is what the goals are set for."""

    scale: float = 1.0
    workers: int = 1
    sender: Callable[..., Sender] = wrk

    def of(self, whole: int, *, least: int = 1) -> int:
        """So many of something at this scale."""
        return max(least, int(whole * self.scale))

    def load(self, connections: int) -> Sender:
        """Some seconds of load on so many connections."""
        return self.sender(connections=connections, seconds=max(3.0, _LOAD_SECONDS * self.scale))


def speed(all_of: Medians, row: str, case: str) -> float:
    """How many a second. Raises `KeyError` if it was not measured."""
    return all_of[row][case]["per_second"]


def times(row: str, case: str, other: str, wanted: float) -> Goal:
    """One case is so many times as fast as another."""
    return Goal(
        text=f"{case} against {other}",
        wanted=wanted,
        unit="times",
        case=case,
        found=lambda all_of: speed(all_of, row, case) / speed(all_of, row, other),
    )


def at_least(row: str, figure: str, wanted: float, unit: str) -> Goal:
    """A figure of the portal is so large."""
    return Goal(
        text=unit,
        wanted=wanted,
        unit="",
        found=lambda all_of: all_of[row][PORTAL][figure],
    )
