"""How the store is spoken to: one try, short time-outs; every fault a `StoreError`."""

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

# After a time-out a store is left alone for this long: while it hangs, every further try would
# only hold another thread for the whole time-out.
_PAUSE_AFTER_TIMEOUT_SECONDS = 1.0
_left_alone_until: WeakKeyDictionary[ConnectionPool, float] = WeakKeyDictionary()
# A cluster's node answered that the key is elsewhere, or was away: its place must be asked anew.
_cluster_has_changed = False

# A replica that flushes once a second needs that second. Where none confirms in time, no push is
# made for a moment: each would hold a thread as long.
_REPLICA_SECONDS = 2.0
_unconfirmed_until: WeakKeyDictionary[ConnectionPool, float] = WeakKeyDictionary()

# What the store itself answered, most special first; it then did nothing of what was asked.
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
# The first word of what it answers, if the client library has no class for it. All of these pass.
_REFUSAL_WORDS = {
    "NOREPLICAS": Code.STORE_READ_ONLY,  # fewer than min-replicas-to-write asks for
    "MISCONF": Code.STORE_READ_ONLY,  # it could not write to its disk
    "BUSY": Code.STORE_UNREACHABLE,  # a script that somebody else runs takes long
}


class Script:
    """A Lua script of the folder `lua/`, run once per call and never twice."""

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
        """What the script gives.

        Where that must be `replicated`, it is given only once it is on the disk of a replica as
        well. Raises `StoreError`; `outcome_unknown` says that it may have run.
        """
        rest = (len(keys), *keys, *arguments)
        by_name, by_text = ("EVALSHA", self._sha, *rest), ("EVAL", self._text, *rest)
        return _once(str(keys[0]), by_name, by_text, replicated=replicated)

    def ask(self, round_trip: RoundTrip, keys: Sequence[str], *, may_refuse: bool = False) -> None:
        """Let it run with a round trip, without arguments; it must only read then."""
        # By its text: there is no asking again if the store has forgotten its scripts.
        command = ("EVAL", self._text, len(keys), *keys)
        round_trip.add(_node(keys[0]), *command, may_refuse=may_refuse)


class RoundTrip:
    """Commands that do no harm when they run twice, sent together; in a cluster, to each node."""

    def __init__(self) -> None:
        self._asked: list[tuple[Redis, tuple[Any, ...]]] = []
        self._may_refuse: set[int] = set()

    def ask(self, word: str, key: str, *rest: Any) -> None:
        """Add a command for the store that holds its key. Raises `StoreError`."""
        self.add(_node(key), word, key, *rest)

    def add(self, store: Redis, *command: Any, may_refuse: bool = False) -> None:
        """Add a command for this store; if it may refuse, its refusal is given as the reply."""
        if may_refuse:
            self._may_refuse.add(len(self._asked))
        self._asked.append((store, command))

    def ask_stores(self, *commands: Sequence[Any]) -> None:
        """Add commands for each store that holds queues; they may refuse the last one.

        Raises `StoreError`.
        """
        for store in _stores():
            for command in commands:
                self.add(store, *command, may_refuse=command is commands[-1])

    def replies(
        self, *, forgive: Callable[[redis_exceptions.RedisError], bool] = lambda _: False
    ) -> Iterator[Any]:
        """The replies in the order of the commands. Raises `StoreError`.

        An error that is forgiven, or a refusal that may be, is given as the reply.
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
    """Whether something else than was expected lies at the key."""
    return isinstance(reply, redis_exceptions.ResponseError) and str(reply).startswith("WRONGTYPE")


def is_refusal(reply: object) -> bool:
    """Whether the store answered with an error that does not pass by itself."""
    return isinstance(reply, Exception) and _refusal_code(reply) is Code.STORE_ERROR


def write(*command: Any) -> Any:
    """What one command that changes something gives, a word and a key first; run once, never twice.

    Raises `StoreError`; `outcome_unknown` says that it may have run.
    """
    return _once(command[1], command)


def read(key: str, call: Callable[[Redis], Any]) -> Any:
    """What `call` gives, made with a client of the store that holds `key`.

    It must do no harm when it runs twice. Raises `StoreError`.
    """
    store = _node(key)
    return _tried(store, lambda: call(store))


def _tried(store: Redis, call: Callable[[], _T]) -> _T:
    _raise_if_left_alone(store)
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
            # Connections stay: another thread may be about to use one.
            shared.nodes_manager.initialize(disconnect_startup_nodes_pools=False)
            _cluster_has_changed = False
    # A plain OSError: there are no descriptors left, or the certificates cannot be read.
    except (
        redis_exceptions.RedisError,
        redis_exceptions.RedisClusterException,
        OSError,
    ) as fault:
        _raise_not_found(fault)
    return shared


def _raise_not_found(fault: Exception) -> NoReturn:
    """No node of the cluster tells where the key is."""
    global _cluster_has_changed
    _cluster_has_changed = True
    logger.warning("store_fault", code=Code.STORE_UNREACHABLE.value, fault=type(fault).__name__)
    raise StoreError(Code.STORE_UNREACHABLE, retry_after_seconds=1) from fault


def _once(
    key: str,
    *commands: Sequence[Any],
    replicated: Callable[[Any], bool] | None = None,
) -> Any:
    """What the first of `commands` gives that is no script which the store has forgotten.

    By hand on a connection of the pool, since the client's own call can neither say whether a
    failure came before or after the command was sent, nor be trusted not to send it again.
    """
    store = _node(key)
    pool = store.connection_pool
    sent = False
    _raise_if_left_alone(store)
    if replicated and time.monotonic() < _unconfirmed_until.get(pool, 0):
        raise StoreError(Code.STORE_READ_ONLY, retry_after_seconds=1)
    try:
        connection = pool.get_connection()
        try:
            for command in commands:
                connection.send_command(*command)  # type: ignore[no-untyped-call]
                sent = True
                try:
                    # A Sentinel's connection would stay open by default, and the reply that comes
                    # too late would answer the next command.
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
    """Return once all that the connection wrote is on the disks of the primary and a replica."""
    try:
        if not connection.is_connected:  # a new one would have nothing to wait for
            raise redis_exceptions.ConnectionError("the connection of the push is gone")
        connection.send_command("WAITAOF", 1, 1, int(_REPLICA_SECONDS * 1000))
        disks, replicas = connection.read_response(
            timeout=_REPLICA_SECONDS + 1, disconnect_on_error=True
        )
    # Whatever it is, the push has been made: no file, too old a store to wait, one that loads.
    except (redis_exceptions.RedisError, OSError) as fault:
        logger.warning("store_not_replicated", fault=str(fault))
        disks = replicas = 0
    if not (disks and replicas):
        _unconfirmed_until[connection_pool] = time.monotonic() + _PAUSE_AFTER_TIMEOUT_SECONDS
        raise StoreError(Code.STORE_NOT_REPLICATED, retry_after_seconds=1, outcome_unknown=True)


def _raise_if_left_alone(store: Redis) -> None:
    if time.monotonic() < _left_alone_until.get(store.connection_pool, 0):
        raise StoreError(Code.STORE_UNREACHABLE, retry_after_seconds=1)


def _refusal_code(fault: BaseException | None) -> Code | None:
    """What the store answered, if it is an answer of the store."""
    word = str(fault).partition(" ")[0]
    if isinstance(fault, redis_exceptions.ResponseError) and word in _REFUSAL_WORDS:
        return _REFUSAL_WORDS[word]
    return next((code for kind, code in _REFUSALS if isinstance(fault, kind)), None)


def _raise_store_error(fault: Exception, store: Redis, *, sent: bool) -> NoReturn:
    global _cluster_has_changed
    if isinstance(fault, redis_exceptions.TimeoutError):
        _left_alone_until[store.connection_pool] = time.monotonic() + _PAUSE_AFTER_TIMEOUT_SECONDS
    # A primary that the Sentinels replaced refuses to write; the client library hides that, as a
    # connection that broke, so that it asks them anew.
    hidden = isinstance(fault.__context__, redis_exceptions.ReadOnlyError)
    code = _refusal_code(fault.__context__ if hidden else fault)
    unknown = code is None and sent
    all_in_use = isinstance(fault.__context__, Empty)  # the pool's own fault, not a node's
    _cluster_has_changed |= code in (None, Code.STORE_UNREACHABLE) and not all_in_use
    if code is None:
        code = Code.STORE_ANSWER_LOST if sent else Code.STORE_UNREACHABLE
    # Only what is not plain from its code is worth a trace: an outage would fill the log.
    trace = fault if code is Code.STORE_ERROR else None
    logger.warning("store_fault", code=code.value, fault=type(fault).__name__, exc_info=trace)
    raise StoreError(code, retry_after_seconds=1, outcome_unknown=unknown) from fault
