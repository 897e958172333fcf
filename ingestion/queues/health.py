"""What the store reports about itself: whether it takes records, and how safely it keeps them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from ingestion.outcomes import Code, StoreError
from ingestion.queues.connection import RoundTrip, is_refusal, is_wrong_type
from ingestion.queues.push import ask_refusal


class Durability(StrEnum):
    """How safe an acknowledged record is if the store's machine fails; the weakest first."""

    MEMORY = "memory"  # not safe: the record may be in memory only
    UNKNOWN = "unknown"  # the store does not say; some hosted stores do not
    EVERY_SECOND = "everysec"  # the last second may be lost
    FSYNC = "fsync"  # the record is on the disk
    REPLICATED = "replicated"  # it is on the disk of a replica too


_FROM_WEAKEST = tuple(Durability)
_REPLICA_LAG_SECONDS = 5
_BY_APPENDFSYNC = {"always": Durability.FSYNC, "everysec": Durability.EVERY_SECOND}


@dataclass(frozen=True, kw_only=True, slots=True)
class Breach:
    """Why the promise `INGESTION_DURABILITY` is broken: a closed list, see docs/durability.md.

    `sentence` says what is wrong and how to correct it.
    """

    word: str
    sentence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreHealth:
    """What the store reports about itself. `reasons` says why it takes no records; empty is good.

    `breaches` says why the records that it takes are less safe than promised. A value is None if
    the store does not report it, as some hosted stores do; `max_memory_bytes` is also None if there
    is no limit.
    """

    reasons: tuple[Code, ...]
    breaches: tuple[Breach, ...] = ()
    durability: Durability = Durability.UNKNOWN
    version: str | None = None
    used_memory_bytes: int | None = None
    max_memory_bytes: int | None = None


def health(queues: Iterable[str] = ()) -> StoreHealth:
    """Whether the store can take records now, and what it reports about itself. Never raises.

    Also says which of these `queues` refuse records.
    """
    names = list(queues)
    round_trip = RoundTrip()
    try:
        for queue in names:
            ask_refusal(round_trip, queue)
        ask_store(round_trip)
        replies = round_trip.replies()
        refusals = [(queue, next(replies)) for queue in names]
        found = read_store(replies)
    except StoreError as fault:
        return StoreHealth(reasons=(fault.code,))
    refused = tuple(_refusal(queue, reply) for queue, reply in refusals if is_refusal(reply))
    return replace(found, breaches=(*refused, *found.breaches))


def _refusal(queue: str, reply: RedisError) -> Breach:
    # The store's answer may name its account and its keys. Only the command is repeated.
    command = re.search(r"may not use (\w+)|the '([\w|]+)' command", str(reply))
    if command:
        name = (command[1] or command[2]).upper()
        why = f"its account may not use {name}. Allow what docs/durability.md lists"
    elif is_wrong_type(reply):
        why = "one of the queue's keys holds something else. Look at the keys with TYPE"
    else:
        why = "it answers with an error, for example because a command was renamed"
    return Breach(word="push_refused", sentence=f"The store refuses records for {queue}: {why}.")


def closed_to_us(fault: StoreError) -> str | None:
    """What to do about a store that refuses this user, or a command that is needed.

    The sentence names the setting and the address, without the password. None for other faults.
    """
    cause = fault.__cause__
    if isinstance(cause, AuthenticationError):
        return f"The store at {address()} refuses the user or the password of REDIS_URL."
    if isinstance(cause, NoPermissionError):
        said = " ".join(str(cause).split())  # it names one of our commands or keys
        return (
            f"The store at {address()} lets the user of REDIS_URL in, but not do what the portal "
            f"needs: {said}."
        )
    return None


def address() -> str:
    """REDIS_URL without user, password and options, so that it may be shown."""
    parts = urlsplit(settings.REDIS_URL)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def ask_store(round_trip: RoundTrip) -> None:
    """Ask for the values that `read_store` reads. Call it after every other question."""
    round_trip.ask_stores(("INFO",), ("CONFIG GET", "*append*"))


def read_store(replies: Iterator[Any]) -> StoreHealth:
    """What the store reports about itself; a cluster is as good as its worst node."""
    each = [_one_store(info, next(replies)) for info in replies]
    memory = [one.used_memory_bytes for one in each if one.used_memory_bytes is not None]
    limits = [one.max_memory_bytes for one in each if one.max_memory_bytes is not None]
    return StoreHealth(
        reasons=tuple(dict.fromkeys(reason for one in each for reason in one.reasons)),
        breaches=tuple(dict.fromkeys(breach for one in each for breach in one.breaches)),
        durability=min((one.durability for one in each), key=_FROM_WEAKEST.index),
        version=each[0].version,
        used_memory_bytes=sum(memory) if memory else None,
        max_memory_bytes=sum(limits) if limits else None,
    )


def _one_store(info: Mapping[str, Any], answer: Any) -> StoreHealth:
    # Hosted stores may refuse to report their configuration.
    config: Mapping[str, str] = {} if isinstance(answer, RedisError) else answer
    reasons = []
    # Some hosted stores leave parts of INFO out. What is missing counts as good.
    if info.get("loading"):
        reasons.append(Code.STORE_LOADING)
    if info.get("role", "master") != "master":
        reasons.append(Code.STORE_READ_ONLY)
    if info.get("min_slaves_good_slaves") == 0 and Code.STORE_READ_ONLY not in reasons:
        reasons.append(Code.STORE_READ_ONLY)  # min-replicas-to-write asks for at least one
    version = info.get("valkey_version") or info.get("redis_version")
    durability = _durability(info, config)
    return StoreHealth(
        reasons=tuple(reasons),
        breaches=tuple(_breaches(info, config, durability)),
        durability=durability,
        version=None if version is None else str(version),
        used_memory_bytes=info.get("used_memory"),
        max_memory_bytes=info.get("maxmemory") or None,
    )


def _durability(info: Mapping[str, Any], config: Mapping[str, str]) -> Durability:
    # INFO says whether there is an append-only file. Only CONFIG says when it is flushed.
    appends = config.get("appendonly", {1: "yes", 0: "no"}.get(info.get("aof_enabled", -1)))
    if appends == "no":
        return Durability.MEMORY
    # Then each push itself waits for the disks, however often they are flushed.
    if settings.INGESTION_DURABILITY == Durability.REPLICATED and _has_replica(info):
        return Durability.REPLICATED
    if appends is None or "appendfsync" not in config:
        return Durability.UNKNOWN
    return _BY_APPENDFSYNC.get(config["appendfsync"], Durability.MEMORY)


def _has_replica(info: Mapping[str, Any]) -> bool:
    """Whether a replica has answered in the last seconds. It should answer every second."""
    replicas = (info.get(f"slave{number}") for number in range(info.get("connected_slaves", 0)))
    return any(
        isinstance(one, Mapping)
        and one.get("state") == "online"
        and one.get("lag", 0) <= _REPLICA_LAG_SECONDS
        for one in replicas
    )


def _breaches(
    info: Mapping[str, Any], config: Mapping[str, str], durability: Durability
) -> Iterator[Breach]:
    promised = Durability(settings.INGESTION_DURABILITY)
    if _FROM_WEAKEST.index(durability) < _FROM_WEAKEST.index(promised):
        alone = promised is Durability.REPLICATED and durability in _BY_APPENDFSYNC.values()
        sentence = _NO_REPLICA if alone else _TOO_WEAK[durability]
        yield Breach(word=f"durability_{durability}", sentence=sentence)
    if (
        promised in _BY_APPENDFSYNC.values()
        and config.get("no-appendfsync-on-rewrite", "no") != "no"
    ):
        yield Breach(
            word="no_fsync_on_rewrite",
            sentence="The store does not flush to the disk while it rewrites its file. Set "
            "no-appendfsync-on-rewrite no on the store.",
        )
    if info.get("maxmemory_policy", "noeviction") != "noeviction":
        yield Breach(
            word="evicts_keys",
            sentence="The store drops keys when its memory is full, also accepted records "
            "and the answers to repeated requests. Set maxmemory-policy noeviction on the store.",
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        yield Breach(
            word="append_only_file_failed",
            sentence="The store could not write its append-only file. Free space on its disk; "
            "the store's log says more.",
        )
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        yield Breach(
            word="snapshot_failed",
            sentence="The store could not write its last snapshot. Free space on its disk (the "
            "store's log says more), then let it write one with BGSAVE.",
        )


_NO_REPLICA = (
    "The store has no replica that answers, so no push can be acknowledged. Start one with "
    "appendonly yes, or "
    "promise less with INGESTION_DURABILITY=fsync."
)
_TOO_WEAK = {
    Durability.MEMORY: "The store keeps acknowledged records only in its memory. Set appendonly "
    "yes and appendfsync always on the store, or promise less with INGESTION_DURABILITY=memory.",
    Durability.UNKNOWN: "The store does not say how it keeps records. Let this account read it "
    "(CONFIG GET), or promise less with INGESTION_DURABILITY=unknown.",
    Durability.EVERY_SECOND: "The store flushes to the disk once a second. Set appendfsync always "
    "on the store, or promise less with INGESTION_DURABILITY=everysec.",
}
