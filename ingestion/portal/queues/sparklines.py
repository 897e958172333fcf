"""Lines for inline SVG, made from numbers on the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

WIDTH, HEIGHT = 60, 20
"""The size of the drawing; the page stretches it."""

# Space above and below, so that a line at the edge is not cut in half.
_MARGIN = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Sparkline:
    """One line: the `d` of its path, and the `d` of the area below it."""

    line: str
    area: str


def sparkline(values: Sequence[float | None], *, most: float | None = None) -> Sparkline:
    """The line of `values`, the oldest first, from 0 to `most`, or to the largest value.

    The line has a gap at a value of None. A value between two gaps becomes a dot.
    """
    known = [value for value in values if value is not None]
    top = max(most if most is not None else max(known, default=0), 1)
    step = WIDTH / max(len(values) - 1, 1)
    points = [
        None if value is None else (round(at * step, 2), _height(min(value / top, 1)))
        for at, value in enumerate(values)
    ]
    runs = [list(run) for is_gap, run in groupby(points, lambda point: point is None) if not is_gap]
    line, area = [], []
    for run in runs:
        drawn = [point for point in run if point is not None]
        path = "L".join(f"{x:g} {y:g}" for x, y in drawn)
        # A line without length is drawn as a dot.
        line.append(f"M{path}" if len(drawn) > 1 else f"M{path}h0")
        area.append(f"M{drawn[0][0]:g} {HEIGHT}L{path}L{drawn[-1][0]:g} {HEIGHT}Z")
    return Sparkline(line="".join(line), area="".join(area))


def _height(share: float) -> float:
    return round(HEIGHT - _MARGIN - share * (HEIGHT - 2 * _MARGIN), 2)
