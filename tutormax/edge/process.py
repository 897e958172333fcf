"""A web worker as a process: how it is told to end, and how it shows that it lives."""

from __future__ import annotations

import asyncio
import os
import signal
import socket


def pass_on_one_stop(loop: asyncio.AbstractEventLoop) -> tuple[socket.socket, socket.socket]:
    """Let the first SIGTERM or SIGINT reach Granian's handler for certain, and no other.

    asyncio reads signals from the socket that also wakes its loop; in a burst of requests that is
    full, and a signal is lost. Granian's handler blocks the whole process when it runs a third
    time, as when Ctrl-C is pressed twice. So signals arrive at sockets of their own, returned here
    to be kept open, and one is handed to the loop.
    """
    receiver, sender = socket.socketpair()
    receiver.setblocking(False)
    sender.setblocking(False)
    loop_fd = signal.set_wakeup_fd(sender.fileno())

    def hand_on() -> None:
        number = receiver.recv(1)
        if number[0] not in (signal.SIGTERM, signal.SIGINT):
            return
        try:
            os.write(loop_fd, number)
        except BlockingIOError:
            sender.send(number)  # full at this moment: again in the loop's next turn
        else:
            loop.remove_reader(receiver)

    loop.add_reader(receiver, hand_on)
    return receiver, sender
