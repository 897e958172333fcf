"""Decides which waiting request gets the next thread; clients take turns, with limited shares."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Lane(Enum):
    """What a request is for."""

    INTAKE = "intake"
    PAGES = "pages"  # the staff portal, the docs and the health of the server


@dataclass(frozen=True, kw_only=True, slots=True)
class _Turn:
    """A waiting request; `came` is True when it is its turn, False if it was removed."""

    lane: Lane
    client: str
    came: asyncio.Future[bool]


class FairThreads:
    """A pool of `threads`, and a line of at most `line` requests that wait for it.

    Clients take turns. One client has at most half of the threads, even if the others are idle: so
    the next client does not have to wait for it. Each lane reserves a quarter of the threads, at
    least one, for itself. If the line is full, a request of the client with the most waiting
    requests is removed. Use it in one event loop only.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, threads: int, line: int) -> None:
        self._loop = loop
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="web")
        self._threads = threads
        self._most_in_lane = max(1, threads - max(1, threads // 4))
        self._most_of_client = max(1, threads // 2)
        self._line = line
        self._in_lane: Counter[Lane] = Counter()
        self._of_client: Counter[tuple[Lane, str]] = Counter()
        # The clients in the order of their turns.
        self._waiting: dict[tuple[Lane, str], deque[_Turn]] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self, lane: Lane, client: str, call: Callable[[], Any]) -> bool:
        """Run `call` in a thread when it is the client's turn; False if it was removed."""
        self._idle.clear()
        if self._may_run(lane, client):
            self._take(lane, client)
        elif not await self._stand_in_line(lane, client):
            return False
        try:
            await self._loop.run_in_executor(self._pool, call)
        finally:
            self._give_back(lane, client)
        return True

    async def finish(self) -> None:
        """Return when no request runs or waits."""
        await self._idle.wait()
        self._pool.shutdown()

    def _may_run(self, lane: Lane, client: str) -> bool:
        return (
            self._in_lane.total() < self._threads
            and self._in_lane[lane] < self._most_in_lane
            and self._of_client[lane, client] < self._most_of_client
        )

    def _take(self, lane: Lane, client: str) -> None:
        self._in_lane[lane] += 1
        self._of_client[lane, client] += 1

    def _give_back(self, lane: Lane, client: str) -> None:
        self._in_lane[lane] -= 1
        self._of_client[lane, client] -= 1
        if not self._of_client[lane, client]:
            del self._of_client[lane, client]
        self._call_next()

    async def _stand_in_line(self, lane: Lane, client: str) -> bool:
        turn = _Turn(lane=lane, client=client, came=self._loop.create_future())
        self._waiting.setdefault((lane, client), deque()).append(turn)
        if sum(map(len, self._waiting.values())) > self._line:
            longest = max(self._waiting, key=lambda one: len(self._waiting[one]))
            self._leave(longest, self._waiting[longest].pop(), came=False)
        try:
            return await asyncio.shield(turn.came)
        except asyncio.CancelledError:  # its deadline passed: it gives its turn back when it comes
            turn.came.add_done_callback(
                lambda came: self._give_back(lane, client) if came.result() else None
            )
            raise

    def _leave(self, whose: tuple[Lane, str], turn: _Turn, *, came: bool) -> None:
        if not self._waiting[whose]:
            del self._waiting[whose]
        turn.came.set_result(came)

    def _call_next(self) -> None:
        for whose in list(self._waiting):
            while whose in self._waiting and self._may_run(*whose):
                self._take(*whose)
                turns = self._waiting.pop(whose)
                turn = turns.popleft()
                self._waiting[whose] = turns  # behind the others
                self._leave(whose, turn, came=True)
                break
        if not self._waiting and not self._in_lane.total():
            self._idle.set()
