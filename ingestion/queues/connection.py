"""How the portal calls the store: one try, short time-outs, and every fault as a `StoreError`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import Empty
from typing import Any, NoReturn, TypeVar
from weakref import WeakKeyDictionary

import structlog
from django_redis import get_redis_connection
from redis import ConnectionPool, Redis, RedisCluster
from redis import exceptions as redis_exceptions

from ingestion.outcomes import Code, StoreError

logger = structlog.get_logger(__name__)

_T = TypeVar("_T")

_LUA = Path(__file__).parent / "lua"

# A circuit breaker: after a time-out, the store is not called for this long. While it hangs, every
# further try would only block another thread for the whole time-out.
_CIRCUIT_OPEN_SECONDS = 1.0
_circuit_open_until: WeakKeyDictionary[ConnectionPool, float] = WeakKeyDictionary()
# A cluster's node answered that the key is elsewhere, or did not answer: find the key's node anew.
_cluster_has_changed = False

# A replica that flushes once a second needs that second. If none confirms in time, no push is made
# for a moment: each push would block a thread for the same time.
_REPLICA_SECONDS = 2.0
_unconfirmed_until: WeakKeyDictionary[ConnectionPool, float] = WeakKeyDictionary()

# The store's own refusals, the most specific first. After one of them, nothing was done.
_REFUSALS: tuple[tuple[type[redis_exceptions.RedisError], Code], ...] = (
    (redis_exceptions.BusyLoadingError, Code.STORE_LOADING),
    (redis_exceptions.AskError, Code.STORE_UNREACHABLE),  # and MOVED: another node has the key
    (redis_exceptions.TryAgainError, Code.STORE_UNREACHABLE),
    (redis_exceptions.ClusterDownError, Code.STORE_UNREACHABLE),
    (redis_exceptions.ReadOnlyError, Code.STORE_READ_ONLY),
    (redis_exceptions.OutOfMemoryError, Code.STORE_OUT_OF_MEMORY),
    (redis_exceptions.AuthenticationError, Code.STORE_ERROR),
    (redis_exceptions.ResponseError, Code.STORE_ERROR),
)
# The first word of a refusal without a class in the client library. All of these are temporary.
_REFUSAL_WORDS = {
    "NOREPLICAS": Code.STORE_READ_ONLY,  # fewer than min-replicas-to-write asks for
    "MISCONF": Code.STORE_READ_ONLY,  # it could not write to its disk
    "BUSY": Code.STORE_UNREACHABLE,  # another script takes long
}


class Script:
    """A Lua script of the folder `lua/`. A call runs it once, never twice."""

    def __init__(self, name: str) -> None:
        self._text = (_LUA / f"{name}.lua").read_text()
        self._sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    def __call__(
        self,
        keys: Sequence[str | bytes],
        arguments: Sequence[Any],
        *,
        replicated: Callable[[Any], bool] | None = None,
    ) -> Any:
        """Run the script and return its result.

        If `replicated` says so of the result, it is returned only when it is on a replica's disk
        too. Raises `StoreError`; `outcome_unknown` means that the script may have run.
        """
        rest = (len(keys), *keys, *arguments)
        by_name, by_text = ("EVALSHA", self._sha, *rest), ("EVAL", self._text, *rest)
        return _once(str(keys[0]), by_name, by_text, replicated=replicated)

    def ask(self, round_trip: RoundTrip, keys: Sequence[str], *, may_refuse: bool = False) -> None:
        """Run it with a round trip and without arguments; then it must only read."""
        # With its text: in a round trip there is no second try if the store has forgotten its
        # scripts.
        command = ("EVAL", self._text, len(keys), *keys)
        round_trip.add(_node(keys[0]), *command, may_refuse=may_refuse)


class RoundTrip:
    """Commands that can safely run twice, sent together; in a cluster, to each node."""

    def __init__(self) -> None:
        self._asked: list[tuple[Redis, tuple[Any, ...]]] = []
        self._may_refuse: set[int] = set()

    def ask(self, word: str, key: str, *rest: Any) -> None:
        """Add a command for the store that holds its key. Raises `StoreError`."""
        self.add(_node(key), word, key, *rest)

    def add(self, store: Redis, *command: Any, may_refuse: bool = False) -> None:
        """Add a command for this store; with `may_refuse`, a refusal becomes the reply."""
        if may_refuse:
            self._may_refuse.add(len(self._asked))
        self._asked.append((store, command))

    def ask_stores(self, *commands: Sequence[Any]) -> None:
        """Add commands for each store that holds queues; the last one may be refused.

        Raises `StoreError`.
        """
        for store in _stores():
            for command in commands:
                self.add(store, *command, may_refuse=command is commands[-1])

    def replies(
        self, *, forgive: Callable[[redis_exceptions.RedisError], bool] = lambda _: False
    ) -> Iterator[Any]:
        """The replies in the order of the commands. Raises `StoreError`.

        An error that `forgive` accepts, or a refusal of a command that may be refused, is a reply.
        """
        found: dict[int, Any] = {}
        for store in {store: None for store, _ in self._asked}:
            places = [at for at, (asked, _) in enumerate(self._asked) if asked is store]
            pipeline = store.pipeline(transaction=False)
            for at in places:
                pipeline.execute_command(*self._asked[at][1])  # type: ignore[no-untyped-call]

            def execute(pipeline: Any = pipeline, places: Sequence[int] = places) -> list[Any]:
                replies: list[Any] = pipeline.execute(raise_on_error=False)
                for at, reply in zip(places, replies, strict=True):
                    if isinstance(reply, redis_exceptions.RedisError) and not (
                        at in self._may_refuse or forgive(reply)
                    ):
                        raise reply
                return replies

            found |= zip(places, _tried(store, execute), strict=True)
        return (found[at] for at in range(len(self._asked)))


def is_wrong_type(reply: object) -> bool:
    """Whether the key holds a value of another type than expected."""
    return isinstance(reply, redis_exceptions.ResponseError) and str(reply).startswith("WRONGTYPE")


def is_refusal(reply: object) -> bool:
    """Whether the store answered with an error that is not temporary."""
    return isinstance(reply, Exception) and _refusal_code(reply) is Code.STORE_ERROR


def write(*command: Any) -> Any:
    """The result of one command that changes something: a word, then a key. It runs once at most.

    Raises `StoreError`; `outcome_unknown` means that the command may have run.
    """
    return _once(command[1], command)


def read(key: str, call: Callable[[Redis], Any]) -> Any:
    """The result of `call` with a client of the store that holds `key`.

    `call` must be safe to run twice. Raises `StoreError`.
    """
    store = _node(key)
    return _tried(store, lambda: call(store))


def _tried(store: Redis, call: Callable[[], _T]) -> _T:
    _raise_if_circuit_open(store)
    try:
        return call()
    except (redis_exceptions.RedisError, OSError) as fault:
        _raise_store_error(fault, store, sent=False)


def _node(key: str) -> Redis:
    """The store that holds `key`: the only one, or a node of the cluster."""
    found = _shared()
    if isinstance(found, Redis):
        return found
    try:
        node = found.get_node_from_key(key)  # type: ignore[no-untyped-call]
    except redis_exceptions.SlotNotCoveredError as fault:
        _raise_not_found(fault)
    return found.get_redis_connection(node)


def _stores() -> list[Redis]:
    """All stores that hold queues."""
    found = _shared()
    if isinstance(found, Redis):
        return [found]
    nodes = found.get_primaries()  # type: ignore[no-untyped-call]
    return [found.get_redis_connection(node) for node in nodes]


def _shared() -> Redis | RedisCluster:
    global _cluster_has_changed
    try:
        shared: Redis | RedisCluster = get_redis_connection("store")
        if isinstance(shared, RedisCluster) and _cluster_has_changed:
            # Open connections stay open: another thread may be about to use one.
            shared.nodes_manager.initialize(disconnect_startup_nodes_pools=False)
            _cluster_has_changed = False
    # An OSError alone: there are no descriptors left, or the certificates cannot be read.
    except (
        redis_exceptions.RedisError,
        redis_exceptions.RedisClusterException,
        OSError,
    ) as fault:
        _raise_not_found(fault)
    return shared


def _raise_not_found(fault: Exception) -> NoReturn:
    """Raise an error, because no node of the cluster knows where the key is."""
    global _cluster_has_changed
    _cluster_has_changed = True
    logger.warning("store_fault", code=Code.STORE_UNREACHABLE.value, fault=type(fault).__name__)
    raise StoreError(Code.STORE_UNREACHABLE, retry_after_seconds=1) from fault


def _once(
    key: str,
    *commands: Sequence[Any],
    replicated: Callable[[Any], bool] | None = None,
) -> Any:
    """The result of the first of `commands`, or of the next one if the store forgot a script.

    This code uses a connection of the pool itself. The client's own call does not tell whether it
    failed before or after it sent the command, and it may send the command twice.
    """
    store = _node(key)
    pool = store.connection_pool
    sent = False
    _raise_if_circuit_open(store)
    if replicated and time.monotonic() < _unconfirmed_until.get(pool, 0):
        raise StoreError(Code.STORE_READ_ONLY, retry_after_seconds=1)
    try:
        connection = pool.get_connection()
        try:
            for command in commands:
                connection.send_command(*command)  # type: ignore[no-untyped-call]
                sent = True
                try:
                    # By default, a Sentinel's connection would stay open after a time-out. The late
                    # reply would then answer the next command.
                    reply = connection.read_response(disconnect_on_error=True)
                except redis_exceptions.NoScriptError:
                    sent = False  # the store has forgotten its scripts and did nothing
                else:
                    if replicated and replicated(reply):
                        _wait_for_replica(connection, pool)
                    return reply
        finally:
            pool.release(connection)
    except (redis_exceptions.RedisError, OSError) as fault:
        _raise_store_error(fault, store, sent=sent)


def _wait_for_replica(connection: Any, connection_pool: ConnectionPool) -> None:
    """Return when everything that the connection wrote is on the disks of primary and replica."""
    try:
        if not connection.is_connected:  # a new one has written nothing
            raise redis_exceptions.ConnectionError("the connection of the push is gone")
        connection.send_command("WAITAOF", 1, 1, int(_REPLICA_SECONDS * 1000))
        disks, replicas = connection.read_response(
            timeout=_REPLICA_SECONDS + 1, disconnect_on_error=True
        )
    # In any case the push was made: no append-only file, an old store, one that is loading.
    except (redis_exceptions.RedisError, OSError) as fault:
        logger.warning("store_not_replicated", fault=str(fault))
        disks = replicas = 0
    if not (disks and replicas):
        _unconfirmed_until[connection_pool] = time.monotonic() + _CIRCUIT_OPEN_SECONDS
        raise StoreError(Code.STORE_NOT_REPLICATED, retry_after_seconds=1, outcome_unknown=True)


def _raise_if_circuit_open(store: Redis) -> None:
    if time.monotonic() < _circuit_open_until.get(store.connection_pool, 0):
        raise StoreError(Code.STORE_UNREACHABLE, retry_after_seconds=1)


def _refusal_code(fault: BaseException | None) -> Code | None:
    """The code for the store's answer; None if the store did not answer."""
    word = str(fault).partition(" ")[0]
    if isinstance(fault, redis_exceptions.ResponseError) and word in _REFUSAL_WORDS:
        return _REFUSAL_WORDS[word]
    return next((code for kind, code in _REFUSALS if isinstance(fault, kind)), None)


def _raise_store_error(fault: Exception, store: Redis, *, sent: bool) -> NoReturn:
    global _cluster_has_changed
    if isinstance(fault, redis_exceptions.TimeoutError):
        _circuit_open_until[store.connection_pool] = time.monotonic() + _CIRCUIT_OPEN_SECONDS
    # A primary that the Sentinels replaced refuses writes. The client library turns this into a
    # broken connection, so that it asks the Sentinels again.
    hidden = isinstance(fault.__context__, redis_exceptions.ReadOnlyError)
    code = _refusal_code(fault.__context__ if hidden else fault)
    unknown = code is None and sent
    all_in_use = isinstance(fault.__context__, Empty)  # the pool's own fault, not a node's
    _cluster_has_changed |= code in (None, Code.STORE_UNREACHABLE) and not all_in_use
    if code is None:
        code = Code.STORE_ANSWER_LOST if sent else Code.STORE_UNREACHABLE
    # Only this code needs a trace. The other faults are clear, and an outage would fill the log.
    trace = fault if code is Code.STORE_ERROR else None
    logger.warning("store_fault", code=code.value, fault=type(fault).__name__, exc_info=trace)
    raise StoreError(code, retry_after_seconds=1, outcome_unknown=unknown) from fault
