"""The promised life of an upload in plain Python: who may do what, and what that does."""

from __future__ import annotations

from dataclasses import dataclass, field

RUNNING = ("inspecting", "reading", "queueing", "cancelling")

# Only these states can follow a state, by any action.
FOLLOWS = {
    "inspecting": {"check", "reading", "failed", "cancelled"},
    "check": {"inspecting", "reading", "cancelled"},
    "reading": {"review", "failed", "cancelled"},
    "review": {"inspecting", "check", "reading", "queueing", "cancelled"},
    "queueing": {"done", "failed", "cancelling"},
    "cancelling": {"cancelled", "done"},
    "done": set(),
    "cancelled": set(),
    "failed": {"inspecting", "check", "reading", "queueing"},
}


@dataclass
class Model:
    """One file: its rows by line, and what was done to it."""

    number: int
    rows: dict[int, str]  # "good", "bad", or "twice" for the id of the first good row again
    state: str = "reading"
    confirmed: bool = False
    expired: bool = False
    fixed: set[int] = field(default_factory=set)

    @property
    def ready(self) -> list[int]:
        """The lines that must be queued, in order."""
        return [line for line, kind in self.rows.items() if kind == "good" or line in self.fixed]

    @property
    def bad(self) -> list[int]:
        return [
            line for line, kind in self.rows.items() if kind == "bad" and line not in self.fixed
        ]

    def after(self, act: str) -> str | None:
        """The state after an act of staff or of time; None if it is not possible now."""
        if self.expired:
            return self.state if act == "recall" and self.confirmed else None
        unconfirmed = self.state in ("inspecting", "check", "reading", "review")
        return {
            "confirm": "queueing" if self.state == "review" and self.ready else None,
            "cancel": "cancelled" if unconfirmed else {"queueing": "cancelling"}.get(self.state),
            "retry": ("queueing" if self.confirmed else "reading")
            if self.state == "failed"
            else None,
            "fix": ("reading" if self.bad else "review") if self.state == "review" else None,
            "recall": self.state if self.confirmed and self.state not in RUNNING else None,
            "expire": None
            if self.state in RUNNING
            else "cancelled"
            if self.state in ("check", "review")
            else self.state,
        }[act]
