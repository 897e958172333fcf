"""Kills a web worker from the main process if its event loop hangs.

Code that holds the interpreter, such as a regular expression that never ends, stops all threads of
its process: only another process can end it. Each worker's event loop writes its pid into a pipe
once a second. The main process reads the pipe and kills a worker that stays silent. Granian then
starts another worker.
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
    """Lives in the main process. It must exist before the workers fork: they inherit its pipe."""

    _receiver = _sender = -1

    def beat(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a worker: show once a second that its event loop runs, if the watchdog is on."""
        if self._sender == -1:
            return
        with contextlib.suppress(BlockingIOError):  # the main process does not read
            os.write(self._sender, _PID.pack(os.getpid()))
        loop.call_later(_BEAT_SECONDS, self.beat, loop)

    def watch(self, *, silent_seconds: int, stopping: Callable[[], bool]) -> None:
        """In the main process: kill workers that are silent for `silent_seconds`; returns at once.

        It counts its own checks, one a second, and does not use the clock: if the whole machine
        was asleep or too busy, no worker could write. A new worker has the same time.
        `stopping` says if the server is shutting down: that has its own deadline.
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
