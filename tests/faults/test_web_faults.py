"""The web server is killed, or restarted in turn with another, under clients that repeat."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from ingestion import embedded
from tests.faults.figures import Outcome, count, in_long_form
from tests.faults.sending import NO_ANSWER, Senders, settle, web_processes
from tests.portal_process import Portal, free_port, running_portal
from tests.store_faults import hung

CLIENTS = 16
BATCH = 10
KILLS = count(short=4, long=60)
RESTARTS = count(short=2, long=12)
CONTROL = count(short=2, long=12)

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
    pytest.mark.timeout(300 + 10 * (KILLS + RESTARTS)),
]


def kill(portal: Portal, store: embedded.Store, number: int) -> None:
    """Kill the serving processes, and every second time the whole web server."""
    if number % 2:
        kill_all(portal, store, number)
    else:
        portal.wait_for(lambda: web_processes(portal))
        _, *workers = web_processes(portal)
        kill_between_push_and_answer(store, *workers)


def kill_all(portal: Portal, store: embedded.Store, number: int) -> None:
    """Kill the serving processes and their main process: the portal restarts all of them."""
    portal.wait_for(lambda: web_processes(portal))
    killed = web_processes(portal)
    kill_between_push_and_answer(store, *killed)
    portal.wait_for(lambda: started_anew(portal, killed))


def kill_between_push_and_answer(store: embedded.Store, *pids: int) -> None:
    """Kill processes while all their threads wait for the store, which then does what they sent."""
    with hung(store):
        time.sleep(0.3)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def started_anew(portal: Portal, killed: list[int]) -> bool:
    """Whether the whole web server was replaced."""
    running = web_processes(portal)
    return bool(running) and not {*running} & {*killed}


def restart(portal: Portal, store: embedded.Store, number: int) -> None:
    """End the portal as a person does who installs a new version."""
    assert portal.end(signal.SIGTERM) == 0


def campaign(
    folder: Path,
    strike: Callable[[Portal, embedded.Store, int], None],
    *,
    strikes: int,
    portals: int,
    keyed: bool = True,
) -> tuple[Outcome, Senders]:
    """Strike portals on one store in turn while clients send; an ended portal is restarted."""
    ports = [str(free_port()) for _ in range(portals)]
    with embedded.running(folder / "store") as store, ExitStack() as stack:

        def started(number: int) -> Portal:
            data = folder / f"var{number}"
            return stack.enter_context(
                running_portal(data, PORT=ports[number], REDIS_URL=store.url)
            )

        running = [started(number) for number in range(portals)]
        addresses = [portal.address for portal in running]
        with Senders(*addresses, clients=CLIENTS, batch=BATCH, keyed=keyed) as sent:
            for number in range(strikes):
                turn = number % portals
                running[turn].wait_for(sent.more_acknowledged(CLIENTS))
                time.sleep(random.uniform(0, 0.2))
                strike(running[turn], store, number)
                if running[turn].process.poll() is not None:
                    running[turn] = started(turn)
            sent.stop()
        return settle(store.url, sent.acknowledged, trials=strikes, batch=BATCH), sent


def test_what_was_acknowledged_survives_every_kill_of_the_web_server_once(tmp_path, figures):
    outcome, sent = campaign(tmp_path, kill, strikes=KILLS, portals=1)
    broken = sent.heard.count(NO_ANSWER)
    figures.add("R2", "the web server is killed", outcome, remark=f"{broken:,} requests broke off")
    assert broken >= KILLS
    assert (outcome.lost, outcome.doubled) == (0, 0)


@in_long_form
def test_control_without_a_key_what_is_sent_again_after_a_kill_is_there_twice(tmp_path, figures):
    outcome, _ = campaign(tmp_path, kill, strikes=CONTROL, portals=1, keyed=False)
    figures.add_control("R2", "sent again without an Idempotency-Key", outcome)
    assert outcome.doubled > 0


def test_a_rolling_restart_loses_and_doubles_nothing(tmp_path, figures):
    outcome, sent = campaign(tmp_path, restart, strikes=RESTARTS, portals=2)
    broken = sent.heard.count(NO_ANSWER)
    figures.add("R4", "rolling restart", outcome, remark=f"{broken:,} requests broke off")
    assert (outcome.lost, outcome.doubled) == (0, 0)


@in_long_form
def test_control_two_portals_killed_in_turn_and_no_keys(tmp_path, figures):
    outcome, _ = campaign(tmp_path, kill_all, strikes=CONTROL, portals=2, keyed=False)
    figures.add_control("R4", "killed instead, and no Idempotency-Key", outcome)
    assert outcome.doubled > 0
