"""Ends a web worker whose event loop is silent, from outside of it.

Code that holds the interpreter, such as a regular expression that never comes to an end, stops all
threads of its process: only another process can end it. Each worker sends its pid through a pipe
from its event loop, once a second; the main process reads, and kills whom it no longer hears.
Granian then starts another worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import struct
import threading
import time
from collections.abc import Callable

import structlog

_BEAT_SECONDS = 1.0
_PID = struct.Struct("i")

logger = structlog.get_logger(__name__)


class Watchdog:
    """Watches from the main process, before the workers are forked: they inherit its pipe."""

    _receiver = _sender = -1

    def beat(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a worker: show once a second that its event loop runs, if somebody watches."""
        if self._sender == -1:
            return
        with contextlib.suppress(BlockingIOError):  # nobody reads: it is not us who is silent
            os.write(self._sender, _PID.pack(os.getpid()))
        loop.call_later(_BEAT_SECONDS, self.beat, loop)

    def watch(self, *, silent_seconds: int, stopping: Callable[[], bool]) -> None:
        """In the main process: kill workers that are silent for so long; returns at once.

        Silence is counted in looks, one a second, and not by the clock: when the whole machine
        was asleep or too busy, nobody had a chance to beat. A worker that starts has as long.
        `stopping` tells whether the server is coming to its end, which has a deadline of its own.
        """
        self._receiver, self._sender = os.pipe()
        os.set_blocking(self._receiver, False)
        os.set_blocking(self._sender, False)
        threading.Thread(target=self._watch, args=(silent_seconds, stopping), daemon=True).start()

    def _watch(self, silent_seconds: int, stopping: Callable[[], bool]) -> None:
        silence: dict[int, int] = {}
        while not stopping():
            time.sleep(_BEAT_SECONDS)
            heard = self._heard()
            workers = {worker.pid: worker for worker in multiprocessing.active_children()}
            silence = {
                pid: 0 if pid in heard else silence.get(pid, 0) + 1 for pid in workers if pid
            }
            for pid, looks in silence.items():
                if looks > silent_seconds and not stopping():
                    logger.error("web_worker_silent", worker=pid)
                    workers[pid].kill()

    def _heard(self) -> set[int]:
        beats = b""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self._receiver, 1 << 16):
                beats += piece
        return {pid for (pid,) in _PID.iter_unpack(beats)}


watchdog = Watchdog()
