"""Each command of each script is refused in turn by the store's account: all is done or nothing.

A script that fails half-way keeps what it wrote. So the script must find a missing right before its
first write, for any command and any key.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from ingestion import embedded, queues
from ingestion.consumer import Consumer
from ingestion.outcomes import Code, StoreError
from ingestion.queues import Once, Pause
from ingestion.queues.keys import Keys, quota_key
from ingestion.records import RECORD_TYPES
from tests.test_queues import everything

QUEUE = "tutormax:queue:sessions"
KEYS = Keys(QUEUE)
LUA = {one.stem: one.read_text() for one in Path(queues.__file__).parent.glob("lua/*.lua")}
ONCE = Once(request="api:ann /sessions 1", fingerprint="f", answer=b"201", ttl_seconds=60)
MANY = [b"%d" % number for number in range(1500)]  # more than one LPUSH of a script takes
PATTERNS = {
    QUEUE,
    *(f"{{{QUEUE}}}:{name}" for name in ("totals", "counts:*", "causes:*", "rejections", "pause")),
    *(f"{{{QUEUE}}}:{name}" for name in ("answer:*", "copies:*", "claimed:*", "attempts", "dead")),
    *(f"{{{QUEUE}}}:{name}" for name in ("leases", "consumers", "reasons")),
    quota_key("*"),
}


class Account:
    """The store's account that the portal uses in these tests."""

    def __init__(self, store: Redis) -> None:
        self._store = store

    def may_all(self) -> None:
        self._set("reset", "on", "nopass", "+@all", "~*")

    def may_not(self, command: str, pattern: str | None) -> None:
        """Refuse a command on the keys of this pattern, or on all."""
        others = " ".join(f"~{one}" for one in PATTERNS - {pattern})
        self._set(f"-{command}", *([f"(+{command} {others})"] if pattern else []))

    def _set(self, *rules: str) -> None:
        self._store.execute_command("ACL SETUSER", "portal", *rules)


@pytest.fixture
def account(store: Redis, use_store: Callable[[str], None]) -> Iterator[Account]:
    found = Account(store)
    found.may_all()
    path = store.connection_pool.connection_kwargs["path"]
    use_store(f"unix://portal@{path}?password=any")
    yield found
    store.acl_deluser("portal")


def commands(store: Redis, script: str) -> list[str]:
    """The store's commands that a script names."""
    known = {one.decode().upper() for one in store.execute_command("COMMAND LIST")}
    return sorted(known & set(re.findall(r"'([A-Z]+)'", LUA[script])))


# --- What the scripts are for -------------------------------------------------------------------


class Steps:
    """Each script once: the store's content before it, and the call."""

    def __init__(self, store: Redis) -> None:
        self.store = store
        self.consumer = Consumer(QUEUE)  # outside of `with` it sends no heartbeats itself
        self.consumer.name = "me"
        self._held = KEYS.claimed("me")

    def before_push(self) -> None:
        self.store.lpush(QUEUE, "older")

    def push(self) -> Any:
        causes = {"blank": 1, "null": 2}
        refused = [b"a refused record"]
        return queues.push(QUEUE, MANY, rejected=2, causes=causes, rejections=refused, once=ONCE)

    def before_claim(self) -> None:
        self.store.lpush(QUEUE, "1", "2", "3", "failed before", "5")
        self.fail("failed before", 1)
        self.consumer.beat()

    def claim(self) -> Any:
        return self.consumer.claim(10, wait=False)

    def before_acknowledge(self) -> None:
        self.store.lpush(self._held, "1", "2", "3")
        self.fail("1", 1)

    def acknowledge(self) -> Any:
        self.consumer.acknowledge([b"1", b"2"])

    def before_give_back(self) -> None:
        self.store.lpush(QUEUE, "5")
        self.store.lpush(self._held, "1", "2", "3", "4")
        self.fail("2", 4)
        self.fail("3", 1)
        self.consumer.beat()

    def give_back(self) -> Any:
        self.consumer._give_back("me", "leave", "it broke")

    def before_heartbeat(self) -> None:
        self.store.hset(KEYS.consumers, "me", "says nothing")
        self.store.hset(KEYS.consumers, "ahead", json.dumps({"lease_seconds": 25}))
        self.store.zadd(KEYS.leases, {"dead": 1, "ahead": 4e12})

    def heartbeat(self) -> Any:
        self.consumer.beat()

    def before_settle_dead(self) -> None:
        self.store.lpush(KEYS.dead, "1", "2", "3")
        for one in ("1", "2", "3"):
            self.store.hset(KEYS.reasons, _id(one), "why")

    def settle_dead(self) -> Any:
        queues.put_back_dead(QUEUE, [b"1", b"2"])

    def before_take_off(self) -> None:
        self.store.lpush(QUEUE, "1", "2", "3", "4")

    def take_off(self) -> Any:
        queues.take_off(QUEUE, [b"1", b"3"], name="c", newest=True)

    def before_put_back(self) -> None:
        self.store.lpush(QUEUE, "4")
        self.store.lpush(KEYS.copies("c"), "1", "2", "3")

    def put_back(self) -> Any:
        queues.put_back(QUEUE, "c")

    def before_charge(self) -> None:
        """Nothing."""

    def charge(self) -> Any:
        queues.charge("ann", 5, per_minute=1000)

    def fail(self, message: str, times: int) -> None:
        self.store.hset(KEYS.attempts, _id(message), times)


def _id(message: str) -> str:
    return hashlib.sha1(message.encode(), usedforsecurity=False).hexdigest()


def lists(store: Any) -> dict[bytes, list[bytes]]:
    """The places of all messages."""
    return {key: store.lrange(key, 0, -1) for key in store.scan_iter(_type="LIST")}


def counts(store: Any) -> dict[tuple[bytes, bytes], bytes]:
    """What is counted and remembered, in any minute."""
    return {
        (key.rstrip(b"0123456789"), field.partition(b":")[0]): value
        for key in store.scan_iter(_type="HASH")
        if key not in (KEYS.reasons.encode(), KEYS.consumers.encode())
        for field, value in store.hgetall(key).items()
    }


ONLY_READ = {"consumption", "of_source"}


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(LUA.keys() - ONLY_READ))
def test_all_is_done_or_nothing_whatever_command_is_refused(store, account, script):
    steps = Steps(store)
    prepare, act = getattr(steps, f"before_{script}"), getattr(steps, script)
    prepare()
    used, before = store.keys(), everything(store)
    act()
    assert everything(store) != before
    used += store.keys()
    promised = lists(store), counts(store)
    patterns = [one for one in PATTERNS if any(fnmatchcase(key.decode(), one) for key in used)]
    words = commands(store, script)
    refused = set()
    for command in words:
        for pattern in [None, *patterns]:
            store.flushdb()
            prepare()
            before = everything(store)
            account.may_not(command, pattern)
            try:
                act()
            except StoreError as fault:
                assert (fault.code, fault.outcome_unknown) == (Code.STORE_ERROR, False)
                assert everything(store) == before, (command, pattern)
                refused.add(command)
                account.may_all()
                act()  # again, like a sender that was told to try again later
            account.may_all()
            assert (lists(store), counts(store)) == promised, (command, pattern)
            if script == "push":
                assert act().answer == ONCE.answer  # and that is remembered now
                assert (lists(store), counts(store)) == promised, (command, pattern)
    assert refused == set(words)  # otherwise the steps above leave one out


@pytest.mark.parametrize("script", ["push", "put_back", "take_off"])
@pytest.mark.parametrize("no_count", ["many", "", "007", " 7", "7.0", "-0", "9" * 19])
def test_a_count_that_cannot_be_counted_on_keeps_everything_as_it_is(store, script, no_count):
    steps = Steps(store)
    prepare, act = getattr(steps, f"before_{script}"), getattr(steps, script)
    prepare()
    act()
    fields = [
        (key, field)
        for key in store.scan_iter(_type="HASH")
        for field in store.hkeys(key)
        if b":counts:" in key or b":totals" in key or b":causes:" in key
        if not field.startswith(b"depth:")
    ]
    assert len(fields) == {"push": 6}.get(script, 2)
    for key, field in fields:
        store.flushdb()
        prepare()
        name, _, minute = field.partition(b":")
        store.hset(key, field, no_count)
        if minute:  # the minute may end before the step, and the hour with it
            later, _, hour = key.rpartition(b":")
            store.hset(key, b"%s:%d" % (name, (int(minute) + 1) % 60), no_count)
            store.hset(b"%s:%d" % (later, int(hour) + 1), b"%s:0" % name, no_count)
        before = everything(store)
        with pytest.raises(StoreError):
            act()
        assert everything(store) == before


# --- The account that the documents advise ------------------------------------------------------

DURABILITY = Path(__file__).parent.parent / "docs" / "durability.md"


def advised() -> list[str]:
    """The rules of the account in docs/durability.md."""
    (rules,) = re.findall(r"ACL SETUSER portal (.+?)```", DURABILITY.read_text(), re.DOTALL)
    return ["reset", "nopass", *rules.replace(">PASSWORD", "").split()]


def test_the_advised_account_may_do_all_there_is_to_do(store, account):
    account._set(*advised())
    steps = Steps(store)
    for script in sorted(LUA.keys() - ONLY_READ):
        store.flushdb()
        getattr(steps, f"before_{script}")()
        getattr(steps, script)()
    everywhere = [one.queue for one in RECORD_TYPES.values()]
    health = queues.health(everywhere)
    assert (health.reasons, health.breaches) == ((), ())
    store.flushdb()
    with Consumer(QUEUE) as one:
        queues.push(QUEUE, [b"{}"], rejected=1)
        assert one.claim().messages
        assert one.acknowledge([b"{}"]) == 1
        assert one.claim().messages == ()  # after it has waited for one
    store.lpush(KEYS.dead, b"{}")
    assert queues.dead_letters(QUEUE, first=0, count=1)
    assert queues.put_back_all_dead(QUEUE) == 1
    queues.pause_queue(QUEUE, Pause(reason="repairs", by="ann", since=datetime.now(UTC)))
    assert queues.resume_queue(QUEUE)
    queues.mark_fixed(QUEUE, "rejection", "record")
    queues.sample_depths([QUEUE])
    assert queues.overview([QUEUE], hours=1).summaries[0].depth == 1
    assert queues.rejections([QUEUE]) == []
    assert queues.detail(QUEUE, hours=1, listing=queues.Window(first=0, count=1)).messages


def test_the_advised_account_may_nothing_that_nobody_uses():
    code = "".join(
        one.read_text().lower()
        for one in Path(queues.__file__).parent.parent.rglob("*")
        if one.suffix in (".py", ".lua") and one.parent.name in ("queues", "consumer", "lua")
    )
    allowed = [rule[1:].replace("|", " ") for rule in advised() if rule.startswith("+")]
    # The client library sends this when it connects.
    used = [*re.findall(r"[\w ]+", code), "ping", "select", "hello", "client setinfo"]
    assert sorted(set(allowed) - set(used)) == []


@pytest.mark.parametrize("command", ["lpush", "hincrby", "hmget", "get", "eval"])
def test_a_right_that_a_push_needs_and_lacks_is_named_before_any_record_comes(
    store, account, client, command
):
    assert client.get("/health/ready").status_code == 200
    account.may_not(command, None)
    answer = client.get("/health/ready")
    reasons = answer.json()["reasons"]
    assert answer.status_code == 503
    assert len(reasons) == len(RECORD_TYPES)
    assert all(one.startswith("push_refused: ") for one in reasons)
    assert f"{QUEUE}: its account may not use {command.upper()}. Allow" in " ".join(reasons)
    assert "portal" not in " ".join(reasons)  # the account's name is not shown
    assert client.get("/health").json()["status"] == "degraded"


@pytest.mark.processes
def test_a_command_that_was_renamed_is_told_before_any_record_comes(client, use_store, tmp_path):
    renamed = tmp_path / "renamed.conf"
    renamed.write_text('rename-command LTRIM ""')
    with embedded.running(tmp_path / "own", config={"include": str(renamed)}) as own:
        use_store(own.url)
        reasons = " ".join(client.get("/health/ready").json()["reasons"])
        assert f"for {QUEUE}: it answers with an error" in reasons
        with pytest.raises(StoreError):
            queues.push(QUEUE, [b"1"], rejected=1)
        with Redis.from_url(own.url) as store:
            assert store.keys() == []


def test_something_else_at_a_key_of_a_queue_is_told_before_any_record_comes(store, client):
    store.set(QUEUE, "not a list")
    (reason,) = client.get("/health/ready").json()["reasons"]
    assert reason.startswith(f"push_refused: The store refuses records for {QUEUE}: one of")


# --- What it would be without -------------------------------------------------------------------

FORMER = """
redis.call('HSET', KEYS[2], 'fingerprint', ARGV[1], 'answer', ARGV[2], 'place', 0)
redis.call('LPUSH', KEYS[1], unpack(ARGV, 3))
"""


def test_control_with_the_answer_remembered_before_the_push_the_record_is_lost(store, account):
    account.may_not("LPUSH", None)
    path = store.connection_pool.connection_kwargs["path"]
    with Redis(unix_socket_path=path, username="portal", password="any") as portal:
        arguments = (QUEUE, KEYS.answer(ONCE.request), ONCE.fingerprint, ONCE.answer, "record")
        with pytest.raises(ResponseError):
            portal.eval(FORMER, 2, *arguments)
    account.may_all()
    assert queues.push(QUEUE, [b"record"], once=ONCE).answer == ONCE.answer  # "it is queued"
    assert store.llen(QUEUE) == 0
