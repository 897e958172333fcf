"""Ends what takes too long, with one look a second at all of it.

`asyncio.timeout` sets a timer for each request, which costs more than the rest of reading its body.
"""

from __future__ import annotations

import asyncio
from typing import Any

_LOOK_SECONDS = 1.0


class Deadlines:
    """A context for tasks of one event loop: each may stay in it for `seconds`, or a second longer.

    A task that stays longer is cancelled, and leaves the context with a `TimeoutError`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._due: dict[asyncio.Task[Any], float] = {}  # the earliest first
        self._look()

    def __enter__(self) -> None:
        self._due[self._task()] = self._loop.time() + self._seconds

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        task = self._task()
        if self._due.pop(task, None) is None and kind is asyncio.CancelledError:
            task.uncancel()
            raise TimeoutError

    def _task(self) -> asyncio.Task[Any]:
        task = asyncio.current_task(self._loop)
        assert task is not None  # noqa: S101 (for mypy)
        return task

    def _look(self) -> None:
        now = self._loop.time()
        for task, due in list(self._due.items()):
            if due > now:
                break
            del self._due[task]
            task.cancel()
        self._loop.call_later(_LOOK_SECONDS, self._look)
