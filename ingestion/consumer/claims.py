"""One consumer: what it claims, lets go and gives back, and the lease that says that it lives."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import msgspec
import structlog

from ingestion.outcomes import StoreError
from ingestion.queues import Pause
from ingestion.queues.connection import Script, read
from ingestion.queues.consumption import Says
from ingestion.queues.keys import Keys
from ingestion.queues.push import read_pause

logger = structlog.get_logger(__name__)

_claim = Script("claim")
_acknowledge = Script("acknowledge")
_give_back = Script("give_back")
_heartbeat = Script("heartbeat")

# The messages of a dead consumer are on the queue again after this long, if another one runs.
LEASE_SECONDS = 30.0
MAX_ATTEMPTS = 5
_HEARTBEATS_PER_LEASE = 6
# Claims wait for a first message on a connection of the pool, so for less than its time-out.
_WAIT_SECONDS = 0.5
_ATTEMPTS_TTL_SECONDS = 7 * 24 * 3600
_REASON_CHARACTERS = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Claimed:
    """A message in a consumer's hands: its bytes, and how many attempts at it failed before."""

    raw: bytes
    attempts: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """What a claim came to. Without messages the queue is empty, or `pause` says why it rests."""

    messages: tuple[Claimed, ...] = ()
    pause: Pause | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenBack:
    """How many messages lie on the queue again, and how many became dead letters instead."""

    returned: int
    dead: int


class Consumer:
    """A consumer of one queue, from `with` to the block's end.

    Inside the block a thread renews its lease, however long the work on a message takes, and puts
    the messages of consumers that died back on the queue. At the end what it still holds goes back
    uncounted. `lease_seconds` is within which time the others find out that it died.

    Everything raises `StoreError` where the store fails, and may then be called again.
    """

    def __init__(self, queue: str, *, lease_seconds: float = LEASE_SECONDS) -> None:
        host = socket.gethostname()
        # In containers every host name and pid may be the same.
        self.name = f"{host}:{os.getpid()}:{secrets.token_hex(4)}"
        self._keys = Keys(queue)
        self._heartbeat_seconds = lease_seconds / _HEARTBEATS_PER_LEASE
        # The others look once per heartbeat, so it runs out one heartbeat before it must be seen.
        self._lease_seconds = lease_seconds - self._heartbeat_seconds
        self._says = msgspec.json.encode(
            Says(
                host=host,
                pid=os.getpid(),
                since=datetime.now(UTC),
                lease_seconds=self._lease_seconds,
            )
        )
        self._leaving = threading.Event()
        self._steady = True  # whether the last heartbeat reached the store
        self._heart = threading.Thread(target=self._beat_on, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._beat()
        self._heart.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leaving.set()
        self._heart.join()
        try:
            self._give_back(self.name, "leave", None)
        except StoreError as away:
            # Nothing is lost: the lease runs out, and the next consumer gives its messages back.
            logger.warning("consumer_not_closed", queue=self._keys.queue, code=away.code.value)

    def claim(self, count: int = 1, *, wait: bool = True) -> Claim:
        """Up to `count` of the oldest messages that this consumer holds or can take, oldest first.

        What was claimed before and is not acknowledged is given again: so nothing is lost of a
        claim whose answer was. A message that failed before is given alone. With `wait` an empty
        queue is watched for a moment, half a second at most. Nothing is taken from a paused queue.
        """
        claim = self._claim(count)
        if wait and not claim.messages and claim.pause is None:
            came = read(
                self._keys.queue,
                lambda store: store.blmove(
                    self._keys.queue,
                    self._keys.claimed(self.name),
                    _WAIT_SECONDS,  # type: ignore[arg-type]  # fractions are fine since Redis 6
                    "RIGHT",
                    "LEFT",
                ),
            )
            claim = self._claim(count)
            if came is not None and claim.pause is not None:  # the queue was paused meanwhile
                self.give_back()
        return claim

    def acknowledge(self, messages: Sequence[bytes]) -> int:
        """Let go of messages that are dealt with, the oldest first. May be repeated.

        Gives how many of them were still this consumer's. The others it had lost with its lease:
        they are given to another consumer too.
        """
        done: int = _acknowledge(
            (self._keys.claimed(self.name), self._keys.attempts), tuple(messages)
        )
        return done

    def give_back(self, *, reason: str | None = None) -> GivenBack:
        """Put all that this consumer holds back on the queue, in its order, the next to be taken.

        With a `reason` that counts as a failed attempt at each; the last of `MAX_ATTEMPTS` makes a
        message a dead letter instead, with this reason.
        """
        return self._give_back(self.name, "stay", reason)

    def _claim(self, count: int) -> Claim:
        keys = self._keys
        names = (keys.queue, keys.claimed(self.name), keys.pause, keys.attempts, keys.consumers)
        while True:
            match _claim(names, (self.name, count)):
                case [b"claimed", messages, attempts]:
                    both = zip(messages, attempts, strict=True)
                    return Claim(messages=tuple(Claimed(raw=m, attempts=a) for m, a in both))
                case [b"paused", pause]:
                    return Claim(pause=read_pause(pause))
                case _:  # suspended for longer than its lease, and taken for dead
                    self._beat()

    def _give_back(self, name: str, mode: str, reason: str | None) -> GivenBack:
        keys = self._keys
        returned, dead = _give_back(
            (
                keys.queue,
                _raw(keys.claimed(name)),
                keys.leases,
                keys.consumers,
                keys.attempts,
                keys.dead,
                keys.reasons,
            ),
            (
                _raw(name),
                mode,
                # A text may hold half of a surrogate pair, which has no bytes.
                (reason or "")[:_REASON_CHARACTERS].encode(errors="replace"),
                MAX_ATTEMPTS,
                _ATTEMPTS_TTL_SECONDS,
            ),
        )
        return GivenBack(returned=returned, dead=dead)

    def _beat(self) -> list[str]:
        """Renew the lease. Gives the consumers whose lease ran out while the store was there."""
        lapsed: list[bytes] = _heartbeat(
            (self._keys.leases, self._keys.consumers),
            (self.name, int(self._lease_seconds * 1000), self._says),
        )
        return [name.decode(errors="surrogateescape") for name in lapsed]

    def _beat_on(self) -> None:
        # After a fault it tries sooner, since its lease runs on.
        while not self._leaving.wait(self._heartbeat_seconds / (1 if self._steady else 5)):
            try:
                self._beat_and_reap()
            except Exception as fault:
                self._steady = False
                logger.warning(
                    "heartbeat_failed",
                    queue=self._keys.queue,
                    consumer=self.name,
                    fault=type(fault).__name__,
                    exc_info=True,
                )

    def _beat_and_reap(self) -> None:
        try:
            lapsed = self._beat()
        except StoreError:  # the log has it
            self._steady = False
            return
        # Right after an outage of the store the living may seem dead as well: they get one
        # heartbeat's time to say that they are not.
        if self._steady:
            for name in lapsed:
                self._reap(name)
        self._steady = True

    def _reap(self, name: str) -> None:
        try:
            found = self._give_back(name, "reap", f"The consumer {name} died with it.")
        except StoreError:  # the log has it; and what is wrong with one must not keep the others
            return
        logger.warning(
            "consumer_reaped",
            queue=self._keys.queue,
            consumer=name,
            returned=found.returned,
            dead=found.dead,
        )


def _raw(name: str) -> bytes:
    """The bytes of a consumer's name, or of its key: another program's need not be UTF-8."""
    return name.encode(errors="surrogateescape")
