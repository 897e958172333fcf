"""What the store says of itself: whether it takes records, and how safely it keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis.exceptions import RedisError

from ingestion.outcomes import Code, StoreError
from ingestion.queues.connection import client, read


class Durability(StrEnum):
    """What the store promises of an accepted record should its machine lose power."""

    ALWAYS = "always"  # it is on the disk before it is acknowledged
    EVERY_SECOND = "everysec"  # the last second may be lost
    SYSTEM = "no"  # written down, to the disk when the system likes
    APPEND_ONLY = "append-only"  # one of the three above: the store does not say which
    SNAPSHOTS = "snapshots"  # what came in since the last snapshot may be lost


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreHealth:
    """What the store says of itself. `reasons` says why it can not take records; empty is well.

    What the store does not tell is None, as hosted ones do; `max_memory_bytes` also where there is
    no limit. `durability` is only asked for by `overview` and `detail`.
    """

    reasons: tuple[str, ...]
    version: str | None = None
    used_memory_bytes: int | None = None
    max_memory_bytes: int | None = None
    durability: Durability | None = None


def health() -> StoreHealth:
    """Whether the store can take records now, and what it says of itself. Never raises."""
    try:
        return _health(read(client().info))
    except StoreError as fault:
        return StoreHealth(reasons=(fault.code.value,))


def ask_store(pipeline: Any) -> None:
    """Ask for what `read_store` gives; hosted stores may refuse the second, so it goes last."""
    pipeline.info()
    pipeline.config_get("append*")


def read_store(replies: Iterator[Any]) -> StoreHealth:
    """What the store says of itself."""
    info = next(replies)
    config = next(replies)
    return _health(info, {} if isinstance(config, RedisError) else config)


def _health(info: Mapping[str, Any], config: Mapping[str, str] | None = None) -> StoreHealth:
    reasons = []
    # Some hosted stores leave parts of INFO out; what is not said counts as well.
    if info.get("loading"):
        reasons.append(Code.STORE_LOADING.value)
    if info.get("role", "master") != "master":
        reasons.append(Code.STORE_READ_ONLY.value)
    version = info.get("valkey_version") or info.get("redis_version")
    return StoreHealth(
        reasons=tuple(reasons),
        version=None if version is None else str(version),
        used_memory_bytes=info.get("used_memory"),
        max_memory_bytes=info.get("maxmemory") or None,
        durability=_durability(info, config or {}),
    )


def _durability(info: Mapping[str, Any], config: Mapping[str, str]) -> Durability | None:
    appends = config.get("appendonly", {1: "yes", 0: "no"}.get(info.get("aof_enabled", -1)))
    if appends is None:
        return None
    if appends == "no":
        return Durability.SNAPSHOTS
    return Durability(config.get("appendfsync", Durability.APPEND_ONLY))
