"""Child processes that end when the process that started them ends, however that happens."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

# Linux sends the signal when the thread that started the child dies. Only a process can ask this
# for itself, so a small Python asks and then becomes the child: a preexec_fn would run Python in a
# fork of a threaded process. If the parent is gone already, nothing is started.
_BOUND_TO_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def start_bound(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start `command`, its first word a path; `options` go to `Popen`.

    On Linux it gets SIGTERM when the starting thread ends, so call this on one that lasts. It is
    in a session of its own: Ctrl-C is for the parent, which ends its children in good order.
    """
    command = list(command)
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", _BOUND_TO_PARENT, str(os.getpid()), *command]
    return subprocess.Popen(  # noqa: S603 (our own commands, and no shell)
        command, stdin=subprocess.DEVNULL, start_new_session=True, **options
    )


def stop(process: subprocess.Popen[bytes], *, within_seconds: float) -> None:
    """Ask the process to end, wait, and end it where it does not."""
    try:
        process.terminate()
        process.wait(within_seconds)
    except subprocess.TimeoutExpired:
        pass
    finally:  # also when a second Ctrl-C cuts the wait short
        process.kill()
        process.wait()
