"""How the store is reached: one address, Sentinels that know it, or the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from django_redis.pool import ConnectionFactory
from redis import BlockingConnectionPool, RedisCluster, SSLConnection
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool, SentinelManagedSSLConnection


def store_alias(
    url: str,
    *,
    max_connections: int,
    sentinels: Sequence[tuple[str, int]],
    sentinel_password: str,
    cluster: bool,
) -> dict[str, Any]:
    """The store as an entry of `CACHES` for django-redis, which makes the connections.

    With `sentinels` (host and port of each) the host in `url` is their name of the
    primary; with a `cluster` it is any of its nodes.
    """
    # If the store is away or hangs, a client gets the answer in less than two seconds. The library
    # must never retry: it could put a push on the queue twice.
    once = {
        "socket_timeout": 1.0,
        "socket_connect_timeout": 0.5,
        "retry": Retry(NoBackoff(), 0),
    }
    options: dict[str, Any] = {
        "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
        "CONNECTION_POOL_CLASS": "redis.BlockingConnectionPool",
        "CONNECTION_POOL_KWARGS": {"max_connections": max_connections, "timeout": 0.4, **once},
    }
    if sentinels:
        # The name as written: the library would change it to lower case.
        name = urlsplit(url).netloc.rpartition("@")[2].partition(":")[0]
        options["CONNECTION_POOL_KWARGS"]["service_name"] = name
        options |= {
            "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
            "CONNECTION_POOL_CLASS": "tutormax.store.SentinelPool",
            "SENTINELS": sentinels,
            "SENTINEL_KWARGS": {**once, "password": sentinel_password or None},
        }
    elif cluster:
        options["CONNECTION_FACTORY"] = "tutormax.store.ClusterFactory"
    return {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url, "OPTIONS": options}


class SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """The connections to the primary; a caller waits a little for a free one."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        if options.get("connection_class") is SSLConnection:  # from an address with rediss://
            options["connection_class"] = SentinelManagedSSLConnection
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]


class ClusterFactory(ConnectionFactory):  # type: ignore[misc]
    """Creates one client for a cluster; the client knows the node of each key."""

    _clusters: dict[str, RedisCluster] = {}

    def connect(self, url: str) -> RedisCluster:
        """The client. Raises an error of redis-py if no node answers."""
        if url not in self._clusters:
            options = dict(self.pool_cls_kwargs)
            self._clusters[url] = RedisCluster.from_url(
                url,
                retry=options.pop("retry"),
                connection_pool_class=self.pool_cls,
                # While one node is away, the queues of the others continue.
                require_full_coverage=False,
                **options,
            )
        return self._clusters[url]
