"""Attacks by a client, with a key or without one."""

from __future__ import annotations

import gzip
import re
import socket
import stat
import threading
from pathlib import Path

import urllib3

from tests.attacks.attacker import STORE_ACCOUNT, Neighbour, Target, attacked
from tests.attacks.table import Table, count
from tests.record_types import TUTORS

RECORDS = "/api/tutors"
BATCHES = "/api/tutors/batch"


def new_key(target: Target, client: str) -> str:
    """The key of a new client; the portal knows it."""
    made = target.run("api_key", "create", client, "--scope", "tutors")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip().splitlines()[-1]
    headers = {"Authorization": f"Api-Key {key}"}
    stats = f"{target.portal.address}/api/queue/stats"
    target.portal.wait_for(
        lambda: urllib3.request("GET", stats, headers=headers, retries=False).status != 401
    )
    return key


def tutor(name: str) -> dict[str, object]:
    return {**TUTORS.serializer_class.example, "tutor_id": name}


def raw(target: Target, content: bytes) -> bytes:
    """The beginning of the answer to these bytes."""
    with socket.create_connection(("127.0.0.1", target.portal.port), 20) as line:
        line.sendall(content)
        return line.recv(65536)


def test_a_201_is_true_whatever_right_the_store_refuses(target: Target, table: Table) -> None:
    commands = ["lpush", "hincrby", "hset", "expire", "ltrim", "hmget", "llen", "get", "evalsha"]
    rounds = count(short=1, long=20)
    for turn in range(rounds):
        for command in commands:
            name = f"acl-{turn}-{command}"
            headers = {"Idempotency-Key": name}
            url = target.portal.address + RECORDS
            target.store.acl_setuser(STORE_ACCOUNT, enabled=True, commands=[f"-{command}"])
            first = urllib3.request("POST", url, json=tutor(name), headers=headers, retries=False)
            assert (first.status == 201) == (target.queued()[name] == 1), (command, first.data)
            target.store.acl_setuser(STORE_ACCOUNT, enabled=True, commands=[f"+{command}"])
            again = urllib3.request("POST", url, json=tutor(name), headers=headers, retries=False)
            assert (again.status, target.queued()[name]) == (201, 1), (command, again.data)
    table.add(
        "4 a command refused by the store",
        rounds * len(commands),
        "201 exactly if the record is queued; a retry with the same key queues it once",
    )


def test_cheap_requests_with_expensive_answers_do_not_delay_the_neighbour(
    target: Target, table: Table
) -> None:
    attack_key, key = new_key(target, "attacker"), new_key(target, "neighbour")
    bodies = {
        "empty records": gzip.compress(b"[" + b"{}," * 9_999 + b"{}]"),
        "empty members": gzip.compress(b"") * 100_000,
        "blank lines": gzip.compress(b"\n" * 15_000_000),
        "values": gzip.compress((b'{"tutor_id":[' + b"[]," * 200_000 + b"[]]}\n") * 20),
    }
    heard: set[int] = set()

    def send(kind: str, body: bytes) -> None:
        with urllib3.PoolManager(retries=False, timeout=60) as pool:
            for _ in range(count(short=2, long=50)):
                headers = {
                    "Authorization": f"Api-Key {attack_key}",
                    "Content-Encoding": "gzip",
                    "Content-Type": "application/json"
                    if kind == "empty records"
                    else "application/x-ndjson",
                }
                url = target.portal.address + BATCHES
                heard.add(pool.request("POST", url, body=body, headers=headers).status)
                pool.request("GET", f"{target.portal.address}/openapi.yaml")

    with Neighbour(target, key) as neighbour:
        threads = [threading.Thread(target=send, args=one) for one in bodies.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(600)
    assert set(neighbour.statuses) == {201}
    assert max(heard) < 500 or heard & {503}, heard
    table.add("8 cheap requests, four senders", 2 * 4 * count(short=2, long=50), neighbour.told)


def test_an_authorization_that_is_not_understood_opens_nothing(
    target: Target, table: Table
) -> None:
    key = new_key(target, "somebody").encode()
    values = [
        b"Api-Key \xff", b"Api-Key", b"Api-Key " + key + b"\xff", b"Api-Key " + key + b"\xc2\xa0",
        b"Bearer " + key, key, b"Basic " + key, b"api-key", b"Api-Key " + key + b", Api-Key x",
        b"\xff", b"Token x",
    ]  # fmt: skip
    body = b"{}"
    for value in values:
        answer = raw(
            target,
            b"POST /api/tutors HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\nAuthorization: %s\r\n\r\n%s" % (len(body), value, body),
        )
        assert answer.startswith(b"HTTP/1.1 401"), (value, answer)
    table.add("12 odd Authorization headers", len(values), "401 each, on this machine too")


def test_a_question_that_a_route_does_not_know_is_refused(target: Target, table: Table) -> None:
    queries = [
        "STRICT=true",
        "stict=true",
        "strict=true&strict=false",
        "strict=maybe",
        "strict=",
        "x",
    ]
    before = sum(target.queued().values())
    for query in queries:
        url = f"{target.portal.address}{BATCHES}?{query}"
        answer = urllib3.request("POST", url, json=[tutor("q"), {}], retries=False)
        assert answer.status == 400, (query, answer.data)
    assert sum(target.queued().values()) == before
    table.add("15 unknown and doubled parameters", len(queries), "400 each, nothing queued")


def test_nobody_takes_the_name_of_staff(target: Target, table: Table) -> None:
    names = ["portal", "local", "command", "upload", "Portal", "anonymous"]
    for name in names:
        made = target.run("api_key", "create", name, "--scope", "tutors")
        assert made.returncode != 0, (name, made.stdout)
    table.add("11 clients named like a source", len(names), "none is made")


def test_no_line_of_the_log_is_forged_and_none_tells_of_people_at_any_level(
    tmp_path: Path, table: Table
) -> None:
    canary = "Huitzilopochtli"
    forged = f"{canary}%0a2026-01-01%20forged%1b[31m%e2%80%ae"
    with attacked(tmp_path, LOG_LEVEL="DEBUG") as target:
        browser = target.browsers["Uploader"]
        paths = [
            f"/api/{forged}", f"/{forged}?{forged}={forged}", f"/admin/uploads/?{forged}={forged}",
            f"/admin/queues/tutors/?find={forged}", f"/admin/login/?next={forged}",
            f"/admin/enter/tutors/?{forged}", f"/api/tutors/batch?strict={forged}",
        ]  # fmt: skip
        for path in paths:
            browser.get(path)
            urllib3.request("POST", target.portal.address + path, json={}, retries=False)
        browser.post("/admin/login/", {"username": canary, "password": canary})
        browser.post("/admin/enter/tutors/", {"name": canary, "tutor_id": canary})
        url = target.portal.address + RECORDS
        urllib3.request("POST", url, json=tutor(canary), retries=False)
        urllib3.request("POST", url, json={"tutor_id": canary, canary: canary}, retries=False)
        urllib3.request("POST", url, body=canary, headers={"Host": canary}, retries=False)
        urllib3.request("POST", url, headers={"Idempotency-Key": canary, "Origin": canary})
        printed = target.portal.printed
        files = [target.portal.data_dir, *target.portal.data_dir.rglob("*")]
        rights = {path: stat.S_IMODE(path.lstat().st_mode) for path in files}
    assert "POST" in printed
    assert canary not in printed
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", printed)
    assert not re.search("csrfmiddlewaretoken|csrf_token", printed)
    assert not {str(path): oct(mode) for path, mode in rights.items() if mode & 0o077}
    table.add(
        "6, 7 marked words and control characters, at DEBUG", 2 * len(paths) + 6, "none in the log"
    )
    table.add("13 files that others could read", len(rights), "none")
