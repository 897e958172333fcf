"""What the store says of itself: whether it takes records, and how safely it keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.conf import settings
from redis.exceptions import RedisError

from ingestion.outcomes import Code, StoreError
from ingestion.queues.connection import client, read


class Durability(StrEnum):
    """What an acknowledgement is worth should the store's machine lose power; the weakest first."""

    MEMORY = "memory"  # nothing: the record may be in memory alone
    UNKNOWN = "unknown"  # the store does not tell, as hosted ones do
    EVERY_SECOND = "everysec"  # the last second may be lost
    FSYNC = "fsync"  # the record is on the disk


_FROM_WEAKEST = tuple(Durability)
_BY_APPENDFSYNC = {"always": Durability.FSYNC, "everysec": Durability.EVERY_SECOND}


@dataclass(frozen=True, kw_only=True, slots=True)
class Breach:
    """Why the promise `INGESTION_DURABILITY` does not hold: a closed list, see docs/durability.md.

    `sentence` says what is wrong and what to do about it.
    """

    word: str
    sentence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreHealth:
    """What the store says of itself. `reasons` says why it can not take records; empty is well.

    `breaches` says why what it takes is not as safe as promised. What the store does not tell is
    None, as hosted ones do; `max_memory_bytes` also where there is no limit.
    """

    reasons: tuple[str, ...]
    breaches: tuple[Breach, ...] = ()
    durability: Durability = Durability.UNKNOWN
    version: str | None = None
    used_memory_bytes: int | None = None
    max_memory_bytes: int | None = None


def health() -> StoreHealth:
    """Whether the store can take records now, and what it says of itself. Never raises."""
    pipeline = client().pipeline(transaction=False)
    ask_store(pipeline)

    def execute() -> list[Any]:
        replies: list[Any] = pipeline.execute(raise_on_error=False)
        if isinstance(replies[0], RedisError):
            raise replies[0]
        return replies

    try:
        return read_store(iter(read(execute)))
    except StoreError as fault:
        return StoreHealth(reasons=(fault.code.value,))


def ask_store(pipeline: Any) -> None:
    """Ask for what `read_store` gives; hosted stores may refuse the second, so it goes last."""
    pipeline.info()
    pipeline.config_get("*append*")


def read_store(replies: Iterator[Any]) -> StoreHealth:
    """What the store says of itself."""
    info: Mapping[str, Any] = next(replies)
    answer = next(replies)
    config: Mapping[str, str] = {} if isinstance(answer, RedisError) else answer
    reasons = []
    # Some hosted stores leave parts of INFO out; what is not said counts as well.
    if info.get("loading"):
        reasons.append(Code.STORE_LOADING.value)
    if info.get("role", "master") != "master":
        reasons.append(Code.STORE_READ_ONLY.value)
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
    # INFO tells whether there is an append-only file, CONFIG alone when it is flushed.
    appends = config.get("appendonly", {1: "yes", 0: "no"}.get(info.get("aof_enabled", -1)))
    if appends == "no":
        return Durability.MEMORY
    if appends is None or "appendfsync" not in config:
        return Durability.UNKNOWN
    return _BY_APPENDFSYNC.get(config["appendfsync"], Durability.MEMORY)


def _breaches(
    info: Mapping[str, Any], config: Mapping[str, str], durability: Durability
) -> Iterator[Breach]:
    promised = Durability(settings.INGESTION_DURABILITY)
    if _FROM_WEAKEST.index(durability) < _FROM_WEAKEST.index(promised):
        yield Breach(word=f"durability_{durability}", sentence=_TOO_WEAK[durability])
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
            sentence="The store drops keys when its memory is full, and with them accepted "
            "records or what is known of repeated requests. Set maxmemory-policy noeviction on "
            "the store.",
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        yield Breach(
            word="append_only_file_failed",
            sentence="The store could not write its append-only file. Make room on its disk; its "
            "own log says more.",
        )
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        yield Breach(
            word="snapshot_failed",
            sentence="The store could not write its last snapshot. Make room on its disk (its own "
            "log says more), then let it write one with BGSAVE.",
        )


_TOO_WEAK = {
    Durability.MEMORY: "The store acknowledges what is in its memory alone. Set appendonly yes and "
    "appendfsync always on the store, or promise less with INGESTION_DURABILITY=memory.",
    Durability.UNKNOWN: "The store does not tell how it keeps what it acknowledges. Let this "
    "account read it (CONFIG GET), or promise less with INGESTION_DURABILITY=unknown.",
    Durability.EVERY_SECOND: "The store flushes to the disk once a second. Set appendfsync always "
    "on the store, or promise less with INGESTION_DURABILITY=everysec.",
}
