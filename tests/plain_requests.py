"""Requests as the web server hands them over, for the fast lane and for Django alike."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from tests.raw_requests import without_database
from tutormax.edge.fast_lane import FastLane
from tutormax.edge.request import Request
from tutormax.wsgi import application

HeaderList = list[tuple[str, str]]


class Headers:
    """Header fields as Granian gives them: names in small letters.

    `keys` has each name once. `items` has it as often as it came, but omits a value that is not
    ASCII.
    """

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        self._fields = [(name.lower(), value) for name, value in fields]

    def keys(self) -> list[str]:
        return list(dict.fromkeys(name for name, _ in self._fields))

    def items(self) -> list[tuple[str, str]]:
        return [(name, value) for name, value in self._fields if value.isascii()]

    def get(self, name: str, default: str | None = None) -> str | None:
        return next((value for other, value in self.items() if other == name), default)

    def __contains__(self, name: str) -> bool:
        return name in self.keys()


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A request as it was sent; also Granian's scope of it."""

    path: str
    body: bytes = b"{}"
    fields: tuple[tuple[str, str], ...] = ()
    method: str = "POST"
    query_string: str = ""
    authority: str | None = None
    http_version: str = "1.1"
    client: str = "127.0.0.1:50000"
    server: str = "127.0.0.1:8000"
    scheme: str = "http"

    @property
    def headers(self) -> Headers:
        return Headers([*self.fields, ("content-length", str(len(self.body)))])


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was answered; the lane's answers say so."""

    status: int
    headers: HeaderList = field(default_factory=list)
    body: bytes = b""
    by_lane: bool = False

    @property
    def told(self) -> tuple[int, HeaderList, str]:
        """All of it that may not differ between two tries."""
        headers = sorted(
            (name.lower(), _steady(value))
            for name, value in self.headers
            if name.lower() != "content-length"  # the web server adds it if it is missing
        )
        return self.status, headers, _steady(self.body.decode())


def _steady(text: str) -> str:
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "(a time)", text)
    text = re.sub(r"\b[0-9a-f]{32}\b", "(an id)", text)
    return re.sub(r";r=\d+;t=\d+", ";(what is left)", text)


class _Line:
    """The line to the client, as Granian gives it."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []

    def response_bytes(self, status: int, headers: HeaderList, body: bytes) -> None:
        self.answers.append(Answer(status=status, headers=headers, body=body, by_lane=True))


def _request(sent: Sent, line: _Line | None = None) -> Request:
    return Request(
        scope=cast(Any, sent), proto=cast(Any, line), content=sent.body, size_bytes=len(sent.body)
    )


@without_database()
def of_django(sent: Sent) -> Answer:
    """Django's answer."""
    started: list[tuple[int, HeaderList]] = []

    def start(status: str, headers: HeaderList, exc_info: object = None) -> None:
        started.append((int(status[:3]), headers))

    response = application(_request(sent).environ(), start)
    body = b"".join(response)
    response.close()
    ((status, headers),) = started
    return Answer(status=status, headers=headers, body=body)


class Lane:
    """A fast lane that has seen an answer of Django's."""

    def __init__(self, learned_from: Answer) -> None:
        self._loop = asyncio.new_event_loop()
        self.lane = FastLane(self._loop)
        self.lane._keys_due = math.inf  # another thread would use another database
        self.lane.learn(learned_from.status, learned_from.headers)

    def __enter__(self) -> Lane:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self.lane.finish())
        self._loop.close()

    def at_once(self, *sent: Sent) -> list[Answer]:
        """The answers to requests that come at the same moment; Django's to those not plain."""
        lines = [_Line() for _ in sent]

        async def answer() -> Iterator[Answer]:
            requests = [_request(*one) for one in zip(sent, lines, strict=True)]
            taken = [one for one in requests if self.lane.takes(one)]
            await asyncio.gather(*map(self.lane.answer, taken))
            return (
                line.answers[0] if line.answers else of_django(given)
                for line, given in zip(lines, sent, strict=True)
            )

        return list(self._loop.run_until_complete(answer()))

    def after_cancelled(self, cancelled: Sent, sent: Sent) -> Answer:
        """The answer to a plain request, if the one before it in the same call is cancelled."""
        line = _Line()

        async def answer() -> None:
            requests = _request(cancelled, _Line()), _request(sent, line)
            tasks = [asyncio.ensure_future(self.lane.answer(one)) for one in requests]
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # both are on their way
            tasks[0].cancel()
            await asyncio.wait_for(tasks[1], 60)

        self._loop.run_until_complete(answer())
        return line.answers[0]
