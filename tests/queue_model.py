"""The promised behaviour of a queue in plain lists: the actions of clients, consumers and staff."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, NamedTuple

from ingestion.outcomes import Code
from ingestion.queues import GivenBack, Pause
from ingestion.sources import Source

LIMIT = 6
ATTEMPTS = 5  # written out, as docs/consumers.md promises it

# How a call may be refused: the code, and whether its outcome is unknown.
PAUSED = (Code.QUEUE_PAUSED, False)
FULL = (Code.QUEUE_FULL, False)
REUSED = (Code.KEY_REUSED, False)
UNKNOWN = (Code.STORE_ANSWER_LOST, True)


class Request(NamedTuple):
    """A client's request: records by id, each with whether it is valid."""

    source: Source
    key: str | None
    records: tuple[tuple[str, bool], ...]


class Model:
    """A queue as promised. Messages are known by the ids of their records, the oldest first."""

    def __init__(self) -> None:
        self.queue: list[str] = []
        self.held: defaultdict[str, list[str]] = defaultdict(list)  # by consumer
        self.dead: list[str] = []
        self.copies: defaultdict[str, list[str]] = defaultdict(list)
        self.gone: list[str] = []  # acknowledged, taken with RPOP, or discarded
        self.accepted: list[str] = []  # all messages so far
        self.refused: list[str] = []
        self.attempts: Counter[str] = Counter()
        self.reasons: dict[str, str] = {}
        self.totals: Counter[str] = Counter()
        self.answers: dict[Any, tuple[Request, Any]] = {}
        self.known: set[str] = set()  # the consumers that said who they are
        self.lapses: dict[str, int] = {}  # when each lease ended; 0 if it still runs
        self.pause: Pause | None = None

    def accept(self, request: Request, answer: bytes) -> Any:
        good = [one for one, valid in request.records if valid]
        bad = [one for one, valid in request.records if not valid]
        name = request.key and (request.source, request.key)
        if name in self.answers:
            before, answered = self.answers[name]
            return (*answered, True) if request == before else REUSED
        if good and self.pause:
            return PAUSED
        if good and len(self.queue) >= LIMIT:
            return FULL
        answered = (tuple(good), len(bad), self.totals["accepted"], answer if name else None)
        if name:
            self.answers[name] = request, answered
        self.queue += good
        self.accepted += good
        self.refused += bad if request.source.client else []
        self.totals.update(accepted=len(good), rejected=len(bad))
        return (*answered, False)

    def claim(self, name: str, most: int) -> Any:
        if name not in self.known:  # it says first who it is
            self.register(name)
        if self.pause:
            return [], self.pause
        held = self.held[name]
        while self.queue and len(held) < most:
            if held and (self.attempts[held[-1]] or self.attempts[self.queue[0]]):
                break  # what failed before is given alone
            held.append(self.queue.pop(0))
        return [(one, self.attempts[one]) for one in held[:most]], None

    def acknowledge(self, name: str, messages: list[str]) -> int:
        done = [one for one in messages if one in self.held[name]]
        self.held[name] = [one for one in self.held[name] if one not in done]
        self.gone += done
        for one in done:
            del self.attempts[one]
        return len(done)

    def give_back(self, name: str, reason: str | None) -> GivenBack:
        held = self.held.pop(name, [])
        self.attempts.update(held if reason else [])
        dead = [one for one in held if reason and self.attempts[one] >= ATTEMPTS]
        for one in dead:
            del self.attempts[one]
            self.reasons[one] = reason or ""
        self.dead += dead
        self.queue[:0] = [one for one in held if one not in dead]
        return GivenBack(returned=len(held) - len(dead), dead=len(dead))

    def register(self, name: str) -> None:
        self.known.add(name)
        self.lapses[name] = 0

    def leave(self, name: str) -> None:
        if name in self.known:  # its own claim may still be under way, so it is remembered
            self.known.remove(name)
            self.lapses[name] = 0
        else:
            self.lapses.pop(name, None)

    def beat(self, name: str) -> None:
        lapsed = sorted((at, one) for one, at in self.lapses.items() if at)
        was_running = self.lapses.get(name) == 0
        self.register(name)
        for _, one in lapsed if was_running else []:
            self.give_back(one, f"The consumer {one} died with it.")
            self.leave(one)

    def settle(self, what: str, messages: list[str]) -> int:
        self.dead = [one for one in self.dead if one not in messages]
        if what == "put_back":
            self.queue[:0] = messages
        else:
            self.gone += messages
        return len(messages)

    def take_off(self, messages: list[str], name: str, newest: bool, within: int) -> int:
        reach = self.queue[-within:] if newest else self.queue[:within]
        found = [one for one in reach if one in messages]
        self.queue = [one for one in self.queue if one not in found]
        kept = self.copies[name]
        self.copies[name] = found + kept if newest else kept + found
        self.totals["taken_off"] += len(found)
        return len(found)

    def put_back(self, name: str) -> int:
        found = self.copies.pop(name, [])
        self.queue[:0] = found
        self.totals["put_back"] += len(found)
        return len(found)
