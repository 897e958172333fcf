"""Environment variables in, settings out; a wrong value becomes a problem to report, not a crash.

Every setting that can be changed from outside is read through `Environment`, which keeps
the list of their names: `.env.example` and the documentation are held against it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import environ

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A variable whose value can not be used, and what it must be instead."""

    variable: str
    must_be: str


class Environment:
    """The process's environment over a `.env` file (the process wins)."""

    def __init__(self, env_file: Path) -> None:
        self.variables: list[str] = []
        self.problems: list[Problem] = []
        if env_file.is_file():
            environ.Env.read_env(env_file, parse_comments=True)

    def is_set(self, variable: str) -> bool:
        """Whether somebody gave the variable a value."""
        return bool(os.environ.get(variable, "").strip())

    def text(self, variable: str, default: str) -> str:
        """The variable as it stands."""
        return self._read(variable, default, str, "text")

    def flag(self, variable: str, *, default: bool) -> bool:
        """True for true, on, yes, 1; False for false, off, no, 0."""
        return self._read(variable, default, _flag, "true or false")

    def number(self, variable: str, default: int, *, least: int = 0, most: int = 2**31 - 1) -> int:
        """A whole number from `least` to `most`."""

        def parse(value: str) -> int:
            number = int(value)
            if not least <= number <= most:
                raise ValueError
            return number

        return self._read(variable, default, parse, f"a whole number from {least} to {most}")

    def choice(self, variable: str, default: str, choices: Sequence[str]) -> str:
        """One of `choices`, in any case."""

        def parse(value: str) -> str:
            return {choice.lower(): choice for choice in choices}[value.lower()]

        return self._read(variable, default, parse, f"one of {', '.join(choices)}")

    def words(self, variable: str, default: Sequence[str]) -> list[str]:
        """A list, separated by commas."""
        return self._read(
            variable,
            list(default),
            lambda value: [w.strip() for w in value.split(",") if w.strip()],
            "a list separated by commas",
        )

    def database(self, variable: str, default: str) -> dict[str, Any]:
        """A database address as Django's setting, like postgresql://user:password@host/name."""
        return self._read(
            variable,
            environ.Env.db_url_config(default),
            _database,
            "a database address like postgresql://user:password@host:5432/name",
        )

    def _read(self, variable: str, default: T, parse: Callable[[str], T], must_be: str) -> T:
        self.variables.append(variable)
        value = os.environ.get(variable, "").strip()
        if not value:  # set but empty counts as not set
            return default
        try:
            return parse(value)
        except (ValueError, LookupError):
            self.problems.append(Problem(variable=variable, must_be=must_be))
            return default


def _flag(value: str) -> bool:
    return {
        **dict.fromkeys(("true", "on", "yes", "1"), True),
        **dict.fromkeys(("false", "off", "no", "0"), False),
    }[value.lower()]


def _database(value: str) -> dict[str, Any]:
    scheme = value.partition("://")[0]
    if scheme not in ("postgresql", "postgres", "sqlite"):
        raise ValueError
    config: dict[str, Any] = environ.Env.db_url_config(value)
    if not config["NAME"]:
        raise ValueError
    return config
