"""How a web worker's process receives the signal to end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket


def pass_on_one_stop(loop: asyncio.AbstractEventLoop) -> tuple[socket.socket, socket.socket]:
    """Pass exactly one SIGTERM or SIGINT on to Granian's handler, and never lose it.

    asyncio reads signals from the socket that also wakes its loop. In a burst of requests that
    socket is full, and a signal is lost. And Granian's handler blocks the whole process if it runs
    a third time, for example after two Ctrl-C. So signals arrive at separate sockets, and one of
    them is passed to the loop. The caller must keep the returned sockets open.
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
            sender.send(number)  # the loop's socket is full: try again in its next turn
        else:
            loop.remove_reader(receiver)

    loop.add_reader(receiver, hand_on)
    return receiver, sender
