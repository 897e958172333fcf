"""What a consumer does with a queue: it claims messages, lets them go, or gives them back."""

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


class Holder:
    """Who holds messages of one queue, under a name of its own and a lease that must be renewed.

    `lease_seconds` is how long the store takes it for alive after `beat`. Everything raises
    `StoreError` if the store fails, and may then be called again.
    """

    def __init__(self, queue: str, *, lease_seconds: float) -> None:
        host = socket.gethostname()
        self.queue = queue
        # In containers every host name and pid may be the same.
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
        """Renew the lease. Gives the consumers whose lease ran out while the store was there."""
        lapsed: list[bytes] = _heartbeat(
            (self._keys.leases, self._keys.consumers),
            (self.name, int(self._lease_seconds * 1000), self._says),
        )
        return [name.decode(errors="surrogateescape") for name in lapsed]

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

    def leave(self) -> None:
        """End: what is held goes back uncounted, and the lease with it."""
        self._give_back(self.name, "leave", None)

    def reap(self, name: str) -> GivenBack:
        """Give back for another one whose lease ran out, as a failed attempt at each message."""
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
                case _:  # suspended for longer than its lease, and taken for dead
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
                # A text may hold half of a surrogate pair, which has no bytes.
                (reason or "")[:_REASON_CHARACTERS].encode(errors="replace"),
                MAX_ATTEMPTS,
                _ATTEMPTS_TTL_SECONDS,
            ),
        )
        return GivenBack(returned=returned, dead=dead)


def _raw(name: str) -> bytes:
    """The bytes of a consumer's name, or of its key: another program's need not be UTF-8."""
    return name.encode(errors="surrogateescape")
