"""The names of a queue's keys.

Every key except the list itself has the queue's name as its hash tag. So all of them are in the
same slot of a cluster, and one script can use them all.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

# The numbers of a minute are kept for 48 hours; the minutes of an hour share one hash.
NUMBERS_TTL_SECONDS = 49 * 3600


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one queue."""

    queue: str

    @property
    def totals(self) -> str:
        """Hash: accepted, rejected, taken_off, put_back, since the store's data began."""
        return f"{{{self.queue}}}:totals"

    def counts(self, hour: int) -> str:
        """Hash of one hour: the same names and `depth`, each with `:<minute>` at the end."""
        return f"{{{self.queue}}}:counts:{hour}"

    def causes(self, hour: int) -> str:
        """Hash of one hour: how often each code was the cause of a rejection."""
        return f"{{{self.queue}}}:causes:{hour}"

    @property
    def rejections(self) -> str:
        """List: the latest rejections, the newest first."""
        return f"{{{self.queue}}}:rejections"

    @property
    def fixed(self) -> str:
        """Hash: the rejections that were fixed, and the id of the record that fixed each."""
        return f"{{{self.queue}}}:fixed"

    @property
    def pause(self) -> str:
        """String: the pause, as long as it lasts. Consumers obey it too."""
        return f"{{{self.queue}}}:pause"

    def answer(self, request: str) -> str:
        """Hash: the answer to a request; `request` is made of client, address and key."""
        return f"{{{self.queue}}}:answer:{request}"

    def copies(self, name: str) -> str:
        """List: copies of messages that staff took off, so that they can be put back."""
        return f"{{{self.queue}}}:copies:{name}"

    @property
    def leases(self) -> str:
        """Sorted set: the consumers, by the millisecond at which their lease ends."""
        return f"{{{self.queue}}}:leases"

    @property
    def consumers(self) -> str:
        """Hash: what each consumer says of itself, as JSON."""
        return f"{{{self.queue}}}:consumers"

    def claimed(self, consumer: str) -> str:
        """List: the messages that a consumer holds; the last one that it claimed is leftmost."""
        return f"{{{self.queue}}}:claimed:{consumer}"

    @property
    def attempts(self) -> str:
        """Hash: how many attempts at a message failed, by the SHA-1 of its bytes."""
        return f"{{{self.queue}}}:attempts"

    @property
    def dead(self) -> str:
        """List: the dead letters, the newest on the left."""
        return f"{{{self.queue}}}:dead"

    @property
    def reasons(self) -> str:
        """Hash: why and when a message became a dead letter, as JSON, by the SHA-1 of its bytes."""
        return f"{{{self.queue}}}:reasons"


def quota_key(client: str) -> str:
    """String: when a client's quota is free again, and when that was written. No queue has it."""
    return f"{{tutormax:client:{client}}}:quota"


def this_minute() -> tuple[int, int]:
    """The hour since 1970 and the minute in it, as the names of hashes and fields use them."""
    return divmod(int(time.time()) // 60, 60)
