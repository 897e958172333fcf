"""How times and durations are written."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def utc_timestamp() -> str:
    """The current time in UTC, as answers and messages write it: `2024-05-14T10:00:00.123456Z`."""
    return datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def duration(seconds: float | None) -> str:
    """Seconds in words, in the two largest units: `4 min 10 s`, `3 h 5 min`, `2 d 1 h`.

    Empty for None. A negative number gives 0 s, because clocks differ.
    """
    if seconds is None:
        return ""
    rest = max(0, int(seconds))
    counts: list[tuple[int, str]] = []
    for length, unit in _UNITS:
        count, rest = divmod(rest, length)
        if count or counts:
            counts.append((count, unit))
    return " ".join(f"{count} {unit}" for count, unit in counts[:2] if count) or "0 s"
