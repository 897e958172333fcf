"""The store is killed, hangs, or starts again with much data, under clients that repeat."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from redis import Redis

from ingestion import embedded
from tests.faults.figures import Outcome, count, in_long_form
from tests.faults.sending import NO_ANSWER, NOT_REACHED, Senders, new_batch, settle
from tests.portal_process import Portal, running_portal
from tests.record_types import TUTORS
from tests.store_faults import hung
from tests.test_health_api import words

# --- R1: killed --------------------------------------------------------------------------------

KILLS = count(short=6, long=100)


def killed(folder: Path, kills: int, **config: str) -> tuple[Outcome, Counter[str]]:
    """Kill the store again and again while clients send."""
    data = folder / "store"
    url = embedded.url(data)
    with (
        running_portal(folder / "var", REDIS_URL=url) as portal,
        Senders(portal.address, clients=count(short=8, long=32)) as sent,
    ):
        for _ in range(kills):
            with embedded.running(data, config=config) as store:
                portal.wait_for(sent.more_acknowledged(20))
                time.sleep(random.uniform(0, 0.2))
                os.kill(store.pid, signal.SIGKILL)
        with embedded.running(data, config=config):
            sent.stop()
            return settle(url, sent.acknowledged, trials=kills), Counter(sent.heard)


@pytest.mark.timeout(300 + 5 * KILLS)
def test_what_was_acknowledged_survives_every_kill_of_the_store_once(tmp_path, figures):
    outcome, heard = killed(tmp_path, KILLS)
    figures.add("R1", "the store is killed", outcome)
    assert outcome.acknowledged >= 20 * KILLS
    assert heard["store_unreachable"] > 0  # the clients did meet the faults
    assert not heard.keys() & {NO_ANSWER, NOT_REACHED}
    assert (outcome.lost, outcome.doubled) == (0, 0)


@pytest.mark.timeout(300 + 5 * KILLS)
def test_control_without_the_append_only_file_acknowledged_records_are_lost(tmp_path, figures):
    outcome, _ = killed(tmp_path, count(short=3, long=20), appendonly="no")
    figures.add_control("R1", "without the append-only file", outcome)
    assert outcome.lost > 0


# --- R3: hung ----------------------------------------------------------------------------------

HANGS = count(short=2, long=6)
HANG_SECONDS = count(short=2, long=10)


def stopped(folder: Path, hangs: int, *, keyed: bool = True) -> tuple[Outcome, Counter[str]]:
    """Let the store hang again and again while clients send."""
    with (
        embedded.running(folder / "store") as store,
        running_portal(folder / "var", REDIS_URL=store.url) as portal,
        Senders(portal.address, clients=16, keyed=keyed) as sent,
    ):
        for _ in range(hangs):
            portal.wait_for(sent.more_acknowledged(50))
            with hung(store):
                time.sleep(HANG_SECONDS / 2)
                assert portal.get("/health/live").status == 200  # requests do not pile up
                time.sleep(HANG_SECONDS / 2)
            until = time.monotonic() + 5
            again = sent.more_acknowledged(1)
            while not again():
                assert time.monotonic() < until, "the portal did not go on"
                time.sleep(0.01)
        sent.stop()
        return settle(store.url, sent.acknowledged, trials=hangs), Counter(sent.heard)


def test_while_the_store_hangs_all_are_told_so_and_then_it_goes_on(tmp_path, figures):
    outcome, heard = stopped(tmp_path, HANGS)
    told = heard["store_unreachable"] + heard["store_answer_lost"]
    remark = f"{told:,} requests were told so, {heard[NO_ANSWER]} went unanswered"
    figures.add("R3", f"the store hangs for {HANG_SECONDS} seconds", outcome, remark=remark)
    assert heard.keys() == {"201", "store_unreachable", "store_answer_lost"}
    assert (outcome.lost, outcome.doubled) == (0, 0)


@in_long_form
def test_control_without_a_key_what_is_sent_again_after_a_hang_is_there_twice(tmp_path, figures):
    outcome, _ = stopped(tmp_path, 1, keyed=False)
    figures.add_control("R3", "sent again without an Idempotency-Key", outcome)
    assert outcome.doubled > 0


# --- R5: loads ---------------------------------------------------------------------------------

MESSAGES = count(short=8_000, long=1_000_000)
# So few messages would be loaded before anybody could see it.
SLOWLY = count(short=200, long=0)  # microseconds of delay for each of them


def fill(store: embedded.Store) -> list[str]:
    """Put messages on the queue, each by its own command; returns the names of their records."""
    names = [f"loaded{number}" for number in range(MESSAGES)]
    with Redis.from_url(store.url) as client:
        for start in range(0, MESSAGES, 10_000):
            pipeline = client.pipeline(transaction=False)
            for name in names[start : start + 10_000]:
                _, (record,) = new_batch(1)
                message = {"data": {**record, "tutor_id": f"{name}-0"}}
                pipeline.lpush(TUTORS.queue, msgspec.json.encode(message))
            pipeline.execute()
    return names


@contextmanager
def starting(data: Path, config: Mapping[str, str]) -> Iterator[None]:
    """A store that will soon run inside the block, and may still load for a long time."""
    done = threading.Event()

    def run() -> None:
        with embedded.running(data, config=config):
            done.wait()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            yield
        finally:
            done.set()
        running.result()


def reloaded(folder: Path, config: Mapping[str, str]) -> tuple[Outcome, Counter[str], str]:
    """Restart a full store while clients send; also returns the answers of /health/ready."""
    data = folder / "store"
    # Its file has never been rewritten: it is all commands to run again, which is the longest load.
    config = {"auto-aof-rewrite-percentage": "0", **config}
    with embedded.running(data, config=config) as store:
        names = fill(store)
        url = store.url
    said: list[str] = []

    def ready(portal: Portal) -> bool:
        answer = portal.get("/health/ready")
        said.append(" ".join(words(answer)) or "ready")
        return answer.status == 200

    with running_portal(folder / "var", REDIS_URL=url) as portal:
        assert not ready(portal)
        with (
            starting(data, {**config, "key-load-delay": str(SLOWLY)}),
            Senders(portal.address, clients=4) as sent,
        ):
            acknowledged = sent.more_acknowledged(1)
            portal.wait_for(lambda: ready(portal) or acknowledged())
            portal.wait_for(acknowledged)
            ready(portal)
            sent.stop()
            outcome = settle(url, [*names, *sent.acknowledged], trials=1)
    return outcome, Counter(sent.heard), ", then ".join(dict.fromkeys(said))


@pytest.mark.timeout(600)
def test_a_full_store_that_loads_is_told_and_used_again_by_itself(tmp_path, figures):
    outcome, heard, said = reloaded(tmp_path, {})
    log = (tmp_path / "store" / "store.log").read_text()
    loaded = re.findall(r"DB loaded from append only file: ([\d.]+) sec", log)[-1]
    remark = f"it loads {MESSAGES:,} messages in {float(loaded):.1f} seconds"
    figures.add("R5", "a full store starts again", outcome, remark=remark)
    assert said == "store_unreachable, then store_loading, then ready"
    assert heard["store_loading"] > 0
    assert (outcome.lost, outcome.doubled) == (0, 0)


@in_long_form
@pytest.mark.timeout(600)
def test_control_a_full_store_without_the_append_only_file_comes_back_empty(tmp_path, figures):
    outcome, _, _ = reloaded(tmp_path, {"appendonly": "no"})
    figures.add_control("R5", "without the append-only file", outcome)
    assert outcome.lost == MESSAGES
