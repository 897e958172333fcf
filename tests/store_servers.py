"""Stores of a site with several machines; each is a process with its own port."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from ingestion import embedded
from ingestion.processes import start_bound
from tests.portal_process import free_port

_T = TypeVar("_T")

_BOUND_SECONDS = 240
_SLOTS = 16384
# A busy machine may delay a store. No store is treated as dead because of that: only the tests
# decide when a replica takes over, and which one.
_NEVER_MS = "600000"

# As docs/durability.md recommends; they also notice quickly that another store is gone.
DURABLE = {"appendonly": "yes", "appendfsync": "always", "save": '""'}
_QUICK = {"repl-diskless-sync-delay": "0"}


class Server:
    """A valkey-server on 127.0.0.1 that can be killed and started again with the same data."""

    def __init__(self, folder: Path, *arguments: str, **config: str) -> None:
        folder.mkdir()
        self.port = free_port()
        self._log = folder / "server.log"
        file = folder / "server.conf"
        lines = {"bind": "127.0.0.1", "port": str(self.port), "dir": str(folder), **config}
        file.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
        self._command = [str(embedded._binary()), str(file), *arguments]
        self.client = Redis(host="127.0.0.1", port=self.port, socket_timeout=5)
        self.start()

    def start(self, *arguments: str) -> None:
        """Start it, this time with additional arguments; returns when it answers."""
        with self._log.open("ab") as log:
            self.process = start_bound([*self._command, *arguments], stdout=log, stderr=log)
        wait_for(self._answers)

    def kill(self) -> None:
        """Kill it, as if its machine lost power."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End it for good."""
        self.client.close()
        self.kill()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisError:
            return False


def _lose(old: Server, new: Server, lag_seconds: float) -> None:
    """Simulate a power failure: permanent for the primary, and short for the replica.

    The replica has heard nothing for a while then, and comes back with the data of its disk.
    """
    os.kill(new.process.pid, signal.SIGSTOP)
    time.sleep(lag_seconds)
    old.kill()
    new.kill()
    new.start()


def _is_linked(replica: Server) -> bool:
    """Whether it is a replica that has its primary's data."""
    return replica.client.info("replication").get("master_link_status") == "up"


def wait_for(condition: Callable[[], _T | None]) -> _T:
    """Wait for a result and return it; the time limit only ends a broken test."""
    deadline = time.monotonic() + _BOUND_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@contextmanager
def servers(folder: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers, each with its own name, and ends them all."""
    started: list[Server] = []

    def start(name: str, *arguments: str, **config: str) -> Server:
        server = Server(folder / name, *arguments, **config)
        started.append(server)
        return server

    try:
        yield start
    finally:
        for server in started:
            server.close()


class Pair:
    """A primary and its replica."""

    def __init__(self, start: Callable[..., Server]) -> None:
        self.primary = start("primary", **DURABLE, **_QUICK)
        self.replica = start(
            "replica", **DURABLE, **_QUICK, replicaof=f"127.0.0.1 {self.primary.port}"
        )
        self.url = f"redis://127.0.0.1:{self.primary.port}/0"
        self.wait_until_linked()

    def wait_until_linked(self) -> None:
        """Return once the replica has all data of the primary."""
        wait_for(lambda: _is_linked(self.replica))


class Watched(Pair):
    """A primary and its replica, and three Sentinels that can make the replica the primary."""

    def __init__(self, start: Callable[..., Server], *, name: str = "") -> None:
        super().__init__(start)
        self.name = name or f"main{self.primary.port}"  # unique: clients are kept by address
        self.url = f"redis://{self.name}/0"
        watch = {
            f"sentinel monitor {self.name}": f"127.0.0.1 {self.primary.port} 2",
            f"sentinel down-after-milliseconds {self.name}": _NEVER_MS,
        }
        sentinels = [start(f"sentinel{number}", "--sentinel", **watch) for number in range(3)]
        self.sentinels = [("127.0.0.1", one.port) for one in sentinels]
        self._sentinel = sentinels[0].client
        wait_for(self._all_seen)

    def _all_seen(self) -> bool:
        seen: Any = self._sentinel.sentinel_master(self.name)
        return (seen["num-slaves"], seen["num-other-sentinels"]) == (1, 2)

    def fail_over(self, *, lag_seconds: float = 0) -> None:
        """Lose the primary, wait until the replica replaces it, and let the lost one come back."""
        old, new = self.primary, self.replica
        _lose(old, new, lag_seconds)
        wait_for(lambda: self._promoted(new))
        # It starts as a replica, so Sentinels that are not informed yet follow no old primary.
        old.start("--replicaof", "127.0.0.1", str(new.port))
        self.primary, self.replica = new, old
        self.wait_until_linked()

    def _promoted(self, new: Server) -> bool:
        """Whether the Sentinels name it as the primary; if not, tell them to make it that."""
        if self._named() == new.port:
            return True
        with suppress(ResponseError):  # they are doing it, or have not found the replica again yet
            self._sentinel.sentinel_failover(self.name)
        return False

    def _named(self) -> int:
        """The port of the primary, as the Sentinels name it."""
        address: Any = self._sentinel.sentinel_get_master_addr_by_name(self.name)
        return int(address[1])


class Cluster:
    """Three primaries, each with a replica."""

    def __init__(self, start: Callable[..., Server]) -> None:
        config = {
            **DURABLE,
            **_QUICK,
            "cluster-enabled": "yes",
            "cluster-node-timeout": _NEVER_MS,
            "cluster-require-full-coverage": "no",
            "cluster-replica-validity-factor": "0",
        }
        self.servers = [
            # Without its own cluster port it uses a port that may not exist.
            start(f"node{number}", **config, **{"cluster-port": str(free_port())})
            for number in range(6)
        ]
        self.primaries, self.replicas = self.servers[:3], self.servers[3:]
        self.url = f"redis://127.0.0.1:{self.primaries[0].port}"
        for number, one in enumerate(self.primaries):
            first, last = _SLOTS * number // 3, _SLOTS * (number + 1) // 3 - 1
            one.client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
        met = self.servers[0].client
        bus = met.config_get("cluster-port")["cluster-port"]
        for one in self.servers[1:]:
            one.client.execute_command("CLUSTER MEET", "127.0.0.1", self.servers[0].port, bus)
        wait_for(lambda: all(map(self._knows_all, self.servers)))
        for primary, replica in zip(self.primaries, self.replicas, strict=True):
            replica.client.execute_command(
                "CLUSTER REPLICATE", primary.client.execute_command("CLUSTER MYID").decode()
            )
        wait_for(lambda: all(map(self._is_whole, self.servers)))

    def _knows_all(self, one: Server) -> bool:
        return one.client.execute_command("CLUSTER INFO")["cluster_known_nodes"] == "6"

    def _is_whole(self, one: Server) -> bool:
        info = one.client.execute_command("CLUSTER INFO")
        linked = one in self.primaries or _is_linked(one)
        return info["cluster_state"] == "ok" and info["cluster_size"] == "3" and linked

    def fail_over(self, key: str, *, lag_seconds: float = 0) -> None:
        """Kill the key's primary, wait until its replica replaces it, and let it come back."""
        old = self.owner(key)
        _lose(old, self.replicas[self.primaries.index(old)], lag_seconds)
        self.replace(old)
        old.start()
        wait_for(lambda: all(map(self._is_whole, self.servers)))

    def replace(self, old: Server) -> None:
        """Make the replica of this primary the primary, without asking any other node."""
        at = self.primaries.index(old)
        new = self.replicas[at]
        new.client.execute_command("CLUSTER FAILOVER", "TAKEOVER")
        self.primaries[at], self.replicas[at] = new, old

    def owner(self, key: str) -> Server:
        """The primary of the key, once all running nodes name the same running one."""
        return wait_for(lambda: self._named(key))

    def _named(self, key: str) -> Server | None:
        running = [one for one in self.servers if one.process.poll() is None]
        slot = running[0].client.execute_command("CLUSTER KEYSLOT", key)
        # After a failover, some nodes learn of it before others.
        ports = {
            port
            for one in running
            for first, last, (_, port, *_), *_ in one.client.execute_command("CLUSTER SLOTS")
            if first <= slot <= last
        }
        return next((one for one in running if ports == {one.port}), None)
