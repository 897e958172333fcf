"""Turns for the threads of the web server, without a web server."""

from __future__ import annotations

import asyncio
from threading import Event

from tutormax.edge.threads import FairThreads, Lane


def test_a_request_that_gives_up_its_turn_takes_no_thread_with_it():
    async def all_of_it() -> None:
        loop = asyncio.get_running_loop()
        threads = FairThreads(loop, threads=2, line=10)
        gate = Event()

        def run(client: str) -> asyncio.Task[bool]:
            return loop.create_task(threads.run(Lane.PAGES, client, gate.wait))

        holding = run("a")
        await asyncio.sleep(0)
        waiting = run("b")
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        gate.set()
        assert await asyncio.wait_for(holding, 60)
        assert await asyncio.wait_for(run("c"), 60)
        await asyncio.wait_for(threads.finish(), 60)

    asyncio.run(all_of_it())
