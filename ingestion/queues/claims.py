"""What a consumer does with a queue: it claims messages, acknowledges them, or gives them back."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from ingestion.queues.connection import Script, read
from ingestion.queues.consumers import Says
from ingestion.queues.keys import Keys
from ingestion.queues.push import Pause, read_pause

_claim = Script("claim")
_acknowledge = Script("acknowledge")
_give_back = Script("give_back")
_heartbeat = Script("heartbeat")

MAX_ATTEMPTS = 5
# A claim waits for a first message on a pooled connection: shorter than the connection's time-out.
_WAIT_SECONDS = 0.5
_ATTEMPTS_TTL_SECONDS = 7 * 24 * 3600
_REASON_CHARACTERS = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Claimed:
    """A message that a consumer holds: its bytes, and how many attempts at it failed before."""

    raw: bytes
    attempts: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """The result of a claim. Without messages the queue is empty, or paused if `pause` is set."""

    messages: tuple[Claimed, ...] = ()
    pause: Pause | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenBack:
    """How many messages are on the queue again, and how many became dead letters instead."""

    returned: int
    dead: int


class Holder:
    """Holds messages of one queue, under its own name and with a lease that must be renewed.

    After `beat`, the store treats it as alive for `lease_seconds`. Every method raises `StoreError`
    if the store fails, and may then be called again.
    """

    def __init__(self, queue: str, *, lease_seconds: float) -> None:
        host = socket.gethostname()
        self.queue = queue
        # In containers, all host names and pids may be the same.
        self.name = f"{host}:{os.getpid()}:{secrets.token_hex(4)}"
        self._keys = Keys(queue)
        self._lease_seconds = lease_seconds
        self._says = msgspec.json.encode(
            Says(
                host=host,
                pid=os.getpid(),
                since=datetime.now(UTC),
                lease_seconds=lease_seconds,
            )
        )

    def beat(self) -> list[str]:
        """Renew the lease. Returns consumers whose lease ran out while the store was reachable."""
        lapsed: list[bytes] = _heartbeat(
            (self._keys.leases, self._keys.consumers),
            (self.name, int(self._lease_seconds * 1000), self._says),
        )
        return [name.decode(errors="surrogateescape") for name in lapsed]

    def claim(self, count: int = 1, *, wait: bool = True) -> Claim:
        """Up to `count` of the oldest messages that this consumer holds or can take, oldest first.

        Messages that were claimed before and are not acknowledged are returned again. So no message
        is lost if the answer to an earlier claim was lost. A message that failed before is returned
        alone. With `wait`, the call waits up to half a second for a message if the queue is empty.
        Nothing is taken from a paused queue.
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
        """Let go of messages that are dealt with, the oldest first. This may be repeated.

        Returns how many of them this consumer still held. It lost the others together with its
        lease: another consumer gets them too.
        """
        done: int = _acknowledge(
            (self._keys.claimed(self.name), self._keys.attempts), tuple(messages)
        )
        return done

    def give_back(self, *, reason: str | None = None) -> GivenBack:
        """Put all messages that this consumer holds back on the queue, in order, to be taken next.

        With a `reason`, this counts as a failed attempt at each message. After `MAX_ATTEMPTS`
        failed attempts, a message becomes a dead letter with this reason instead.
        """
        return self._give_back(self.name, "stay", reason)

    def leave(self) -> None:
        """End the lease: its messages go back to the queue, and no attempt is counted."""
        self._give_back(self.name, "leave", None)

    def reap(self, name: str) -> GivenBack:
        """Give back the messages of a consumer whose lease ran out: a failed attempt at each."""
        return self._give_back(name, "reap", f"The consumer {name} died with it.")

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
                case _:  # it was suspended for longer than its lease, so it was treated as dead
                    self.beat()

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
                # A text may hold half a surrogate pair, which cannot be encoded.
                (reason or "")[:_REASON_CHARACTERS].encode(errors="replace"),
                MAX_ATTEMPTS,
                _ATTEMPTS_TTL_SECONDS,
            ),
        )
        return GivenBack(returned=returned, dead=dead)


def _raw(name: str) -> bytes:
    """The bytes of a consumer's name or key; other programs may use names that are not UTF-8."""
    return name.encode(errors="surrogateescape")
