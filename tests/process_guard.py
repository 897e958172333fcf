"""Keeps the mark `processes` correct: in `make quick`, no test starts a process.

Processes that all tests of a run share, such as the embedded store, are started inside `shared()`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

_STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}

_forbidden = False


def _heard(event: str, arguments: tuple[object, ...]) -> None:
    if _forbidden and event in _STARTS:
        pytest.fail(
            "This test starts a process: mark it with @pytest.mark.processes (or its file with "
            "pytestmark = pytest.mark.processes), so that `make quick` leaves it out."
        )


sys.addaudithook(_heard)


@contextmanager
def _set(forbidden: bool) -> Iterator[None]:
    global _forbidden
    before, _forbidden = _forbidden, forbidden
    try:
        yield
    finally:
        _forbidden = before


def of_test(item: pytest.Item) -> AbstractContextManager[None]:
    """During this test and its fixtures."""
    return _set("not processes" in item.config.option.markexpr)


def shared() -> AbstractContextManager[None]:
    """While something is started that all tests share."""
    return _set(False)
