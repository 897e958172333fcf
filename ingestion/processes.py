"""Child processes that end when the process that started them ends, for whatever reason."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from multiprocessing.process import BaseProcess
from typing import Any

from setproctitle import setproctitle

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, linux/prctl.h
_ENDING = (signal.SIGTERM, signal.SIGINT)

# A fork does not start Python again, and shares its memory with us. On other systems, the system's
# own libraries do not survive a fork.
_copies: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")

# Linux sends the signal when the thread that started the child ends. A process can ask for this
# only for itself. So a small Python program asks, and then becomes the child; a preexec_fn would
# run Python in a fork of a threaded process. If the parent has already ended, nothing is started.
_BOUND_TO_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def start_bound(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start `command`; its first word is a path, and `options` go to `Popen`.

    On Linux it gets SIGTERM when the starting thread ends, so call this in a thread that lives long
    enough. It runs in its own session: Ctrl-C is for the parent, which ends its children in order.
    """
    command = list(command)
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", _BOUND_TO_PARENT, str(os.getpid()), *command]
    return subprocess.Popen(  # noqa: S603 (our own commands, and no shell)
        command, stdin=subprocess.DEVNULL, start_new_session=True, **options
    )


def start_copy(name: str, run: str, *arguments: object) -> BaseProcess:
    """Call `run`, written as "module:function", in a copy of this process with the title `name`.

    Like a child of `start_bound`, the copy gets SIGTERM when the starting thread ends, and runs in
    its own session. This process must have no other thread, and no open database connection.
    """
    child: BaseProcess = _copies.Process(target=_run_copy, args=(name, run, arguments, os.getpid()))
    with _held(_ENDING):  # a signal that comes now is for the child's own handlers
        child.start()
    return child


def _run_copy(name: str, run: str, arguments: Sequence[object], parent: int) -> None:
    setproctitle(f"tutormax: {name}")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for word in _ENDING:
        signal.signal(word, signal.SIG_DFL)
    os.setsid()
    end_with(parent)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    module, _, function = run.partition(":")
    getattr(import_module(module), function)(*arguments)


def end_with(parent: int) -> None:
    """Ask Linux to send SIGTERM to this process when `parent`, which forked it, ends."""
    if sys.platform != "linux":
        return
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it ended before the request
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _held(signals: Sequence[signal.Signals]) -> Iterator[None]:
    """Signals that arrive in the block are delivered at its end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def stop(process: subprocess.Popen[bytes], *, within_seconds: float) -> None:
    """Ask the process to end, wait, and kill it if it does not end."""
    try:
        process.terminate()
        process.wait(within_seconds)
    except subprocess.TimeoutExpired:
        pass
    finally:  # even if a second Ctrl-C ends the wait early
        process.kill()
        process.wait()
