"""Reads settings from environment variables; a wrong value is reported and does not raise.

Every setting from outside is read through `Environment`. It keeps the list of their names, and
tests compare `.env.example` and the documentation with that list.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import environ

T = TypeVar("T")

# Characters that need no escaping in an address and have no meaning in Django's routes.
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_NAME = r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*"
# The form that Django compares: no port, IPv6 in brackets, a leading dot for all subdomains.
_ALLOWED_HOST = re.compile(rf"\*|\.?{_NAME}|\[[0-9A-Fa-f:.]+\]")
# A line of the file: empty, a comment, or a value, with two quotes or none.
_LINE = re.compile(
    r"\s*(#.*)?|(export )?(?P<name>[A-Za-z_][A-Za-z0-9_]*)="
    r"""('[^\0]*'|"[^\0]*"|(?!['"])[^\0]*)\s*"""
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A variable with a wrong value, and what the value must be."""

    variable: str
    must_be: str


class Environment:
    """The process's environment and a `.env` file; the process's variables override the file's.

    These are problems: a missing file if it `must_exist`, a file that cannot be read, and each line
    that cannot be parsed. `places` has the variables of the file with their lines.
    """

    def __init__(self, env_file: Path, *, must_exist: bool) -> None:
        self.variables: list[str] = []
        self.problems: list[Problem] = []
        self.places: dict[str, str] = {}
        if must_exist or env_file.exists():
            try:
                content = env_file.read_text("utf-8-sig")
            except (OSError, UnicodeDecodeError):
                variable = "ENV_FILE" if must_exist else env_file.name
                must_be = "a file in UTF-8 that can be read"
                self.problems.append(Problem(variable=variable, must_be=must_be))
            else:
                self._judge_lines(env_file.name, content)
                if not self.problems:
                    environ.Env.read_env(io.StringIO(content))

    def _judge_lines(self, file: str, content: str) -> None:
        """Find the lines that would be ignored or misread."""
        for number, line in enumerate(content.splitlines(), start=1):
            place = f"{file}, line {number},"
            found = _LINE.fullmatch(line)
            if found is None:
                must_be = (
                    "NAME=value (no space around the =, and a pair of quotes or none), or a "
                    "comment that begins with #"
                )
                self.problems.append(Problem(variable=place, must_be=must_be))
            elif (name := found["name"]) in self.places:
                must_be = f"removed, or the line of {name} above it"
                self.problems.append(Problem(variable=place, must_be=must_be))
            elif name:
                self.places[name] = place

    def is_set(self, variable: str) -> bool:
        """Whether somebody gave the variable a value."""
        return bool(os.environ.get(variable, "").strip())

    def text(self, variable: str, default: str) -> str:
        """The variable's text, unchanged."""
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

    def path(self, variable: str, default: str) -> str:
        """A path of an address, like /api or /v1/api: with a slash at the start only."""

        def parse(value: str) -> str:
            path = "/" + value.strip("/")
            if not _PATH.fullmatch(path):
                raise ValueError
            return path

        return self._read(variable, default, parse, "a path like /api")

    def host(self, variable: str, default: str) -> str:
        """A host's name or address to listen on."""

        def parse(value: str) -> str:
            if not re.fullmatch(_NAME, value):
                ip_address(value)
            return value

        return self._read(variable, default, parse, "a host name or an IP address")

    def allowed_hosts(self, variable: str, default: Sequence[str]) -> list[str]:
        """Host names of this site, separated by commas."""

        def parse(value: str) -> list[str]:
            hosts = _words(value)
            if not all(map(_ALLOWED_HOST.fullmatch, hosts)):
                raise ValueError
            return hosts

        must_be = "host names without scheme and port, separated by commas"
        return self._read(variable, list(default), parse, must_be)

    def origins(self, variable: str, default: Sequence[str]) -> list[str]:
        """Origins of web pages, separated by commas: a scheme, a host, maybe a port, no path."""

        def parse(value: str) -> list[str]:
            origins = _words(value)
            for origin in origins:
                parts = urlsplit(origin)
                if origin != f"{parts.scheme}://{parts.netloc}" or (
                    parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0
                ):
                    raise ValueError
            return origins

        must_be = "origins like https://portal.example.com (no path), separated by commas"
        return self._read(variable, list(default), parse, must_be)

    def addresses(self, variable: str, default: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        """Hosts with their ports, separated by commas."""

        def parse(value: str) -> list[tuple[str, int]]:
            found = []
            for address in _words(value):
                parts = urlsplit(f"//{address}")
                if parts.netloc != address or not parts.hostname or not parts.port:
                    raise ValueError
                found.append((parts.hostname, parts.port))
            return found

        return self._read(variable, list(default), parse, "like host:26379, separated by commas")

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
        if not value:  # an empty variable counts as not set
            return default
        try:
            return parse(value)
        except (ValueError, LookupError):
            self.problems.append(Problem(variable=variable, must_be=must_be))
            return default


def _words(value: str) -> list[str]:
    return [word for word in map(str.strip, value.split(",")) if word]


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
    if config["NAME"] in ("", ":memory:"):  # each thread would have its own database
        raise ValueError
    return config
