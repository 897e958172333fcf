"""How the store is spoken to: one pool, one try, short time-outs; every fault a `StoreError`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import structlog
from django_redis import get_redis_connection
from redis import Redis
from redis import exceptions as redis_exceptions

from ingestion.outcomes import Code, StoreError

logger = structlog.get_logger(__name__)

_LUA = Path(__file__).parent / "lua"

# After a time-out the store is left alone for this long: while it hangs, every further try would
# only hold another thread for the whole time-out.
_PAUSE_AFTER_TIMEOUT_SECONDS = 1.0
_left_alone_until = 0.0

# What the store itself answered, most special first; it then did nothing of what was asked.
_REFUSALS: tuple[tuple[type[redis_exceptions.RedisError], Code], ...] = (
    (redis_exceptions.BusyLoadingError, Code.STORE_LOADING),
    (redis_exceptions.ReadOnlyError, Code.STORE_READ_ONLY),
    (redis_exceptions.OutOfMemoryError, Code.STORE_OUT_OF_MEMORY),
    (redis_exceptions.AuthenticationError, Code.STORE_ERROR),
    (redis_exceptions.ResponseError, Code.STORE_ERROR),
)


class Script:
    """A Lua script of the folder `lua/`, run once per call and never twice."""

    def __init__(self, name: str) -> None:
        self._text = (_LUA / f"{name}.lua").read_text()
        self._sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """What the script gives.

        Raises `StoreError`; `outcome_unknown` says that it may have run.
        """
        rest = (len(keys), *keys, *arguments)
        return _once(("EVALSHA", self._sha, *rest), ("EVAL", self._text, *rest))

    def add_to(self, pipeline: Any, keys: Sequence[str]) -> None:
        """Add a run of a script that only reads to a pipeline, for `read`."""
        # By its text: a pipeline can not ask again where the store has forgotten its scripts.
        pipeline.eval(self._text, len(keys), *keys)


def write(*command: Any) -> Any:
    """What one command that changes something gives; run once and never twice.

    Raises `StoreError`; `outcome_unknown` says that it may have run.
    """
    return _once(command)


def client() -> Redis:
    """The shared client, for reading through `read`."""
    shared: Redis = get_redis_connection("default")
    return shared


def read(call: Callable[[], Any]) -> Any:
    """What `call` gives, one command or pipeline that may be tried again. Raises `StoreError`."""
    _raise_if_left_alone()
    try:
        return call()
    except redis_exceptions.RedisError as fault:
        _raise_store_error(fault, sent=False)


def _once(*commands: Sequence[Any]) -> Any:
    """What the first of `commands` gives that is no script which the store has forgotten.

    By hand on a connection of the pool, since the client's own call can neither say whether a
    failure came before or after the command was sent, nor be trusted not to send it again.
    """
    pool = client().connection_pool
    sent = False
    _raise_if_left_alone()
    try:
        connection = pool.get_connection()
        try:
            for command in commands:
                connection.send_command(*command)  # type: ignore[no-untyped-call]
                sent = True
                try:
                    return connection.read_response()
                except redis_exceptions.NoScriptError:
                    sent = False  # the store has forgotten its scripts and did nothing
        finally:
            pool.release(connection)
    except redis_exceptions.RedisError as fault:
        _raise_store_error(fault, sent=sent)


def _raise_if_left_alone() -> None:
    if time.monotonic() < _left_alone_until:
        raise StoreError(Code.STORE_UNREACHABLE, retry_after_seconds=1)


def _raise_store_error(fault: redis_exceptions.RedisError, *, sent: bool) -> NoReturn:
    global _left_alone_until
    if isinstance(fault, redis_exceptions.TimeoutError):
        _left_alone_until = time.monotonic() + _PAUSE_AFTER_TIMEOUT_SECONDS
    code = next((code for kind, code in _REFUSALS if isinstance(fault, kind)), None)
    unknown = code is None and sent
    if code is None:
        code = Code.STORE_ANSWER_LOST if sent else Code.STORE_UNREACHABLE
    # Only what is not plain from its code is worth a trace: an outage would fill the log.
    trace = fault if code is Code.STORE_ERROR else None
    logger.warning("store_fault", code=code.value, fault=type(fault).__name__, exc_info=trace)
    raise StoreError(code, retry_after_seconds=1, outcome_unknown=unknown) from fault
