"""The fast lane: it answers exactly as Django does, and each of many has its own outcome."""

from __future__ import annotations

import gzip
import io
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
import structlog
import urllib3
from redis import Redis
from structlog.stdlib import ProcessorFormatter
from urllib3 import HTTPHeaderDict

from ingestion import embedded, queues, strict_json, validation
from ingestion.api import posting
from ingestion.compiled import Compiled
from ingestion.decoding import Framing, Payload
from ingestion.queues import Pause
from ingestion.queues.keys import Keys
from ingestion.records import RECORD_TYPES
from tests.api_keys import fresh_keys, key_of  # noqa: F401 (a fixture)
from tests.lane_site import ANSWERS_OF_DJANGO
from tests.plain_requests import Answer, Lane, Sent, of_django
from tests.portal_process import running_portal
from tests.record_types import SESSIONS, TUTORS
from tutormax.edge import log_lines
from tutormax.edge.log_lines import Line
from tutormax.logs import logging_config

pytestmark = pytest.mark.usefixtures("store", "fresh_keys")

JSON = ("Content-Type", "application/json")
HOST = ("Host", "localhost:8000")


def example(path: str = "tutors", **changes: Any) -> dict[str, Any]:
    return {**RECORD_TYPES[path].serializer_class.example, **changes}


def plain(path: str = "tutors", body: Any = None, *fields: tuple[str, str], **parts: Any) -> Sent:
    """A plain request, with these changes."""
    content = body if isinstance(body, bytes) else json.dumps(body or example(path)).encode()
    return Sent(path=f"/api/{path}", body=content, fields=(HOST, JSON, *fields), **parts)


@pytest.fixture
def lane(store: Redis) -> Iterator[Lane]:
    learned_from = of_django(plain())
    store.flushall()
    with Lane(learned_from) as found:
        yield found


def on_queues(store: Any) -> dict[str, Any]:
    """All that the store holds, without what is new each time, and without quotas: they end.

    Counts by the minute are summed up, since a minute may end between two requests.
    """
    found: dict[str, Any] = {}
    for key in sorted(store.keys()):
        name = re.sub(r":[0-9]+$", "", key.decode())  # the hour
        match store.type(key):
            case b"list":
                found[name] = [_steady(json.loads(one)) for one in store.lrange(key, 0, -1)]
            case b"hash":
                counts = found.setdefault(name, Counter())
                for field, content in store.hgetall(key).items():
                    word, _, minute = field.decode().partition(":")
                    if minute and word != "depth":
                        counts[word] += int(content)
                    elif field != b"answer":
                        counts[word] = content
    return found


def _steady(message: dict[str, Any]) -> dict[str, Any]:
    return {word: value for word, value in message.items() if word not in ("id", "queued_at", "at")}


# --- The same as Django ------------------------------------------------------------------------


def bodies(random: Random, path: str) -> bytes:
    """Good, bad, odd and hostile bodies for one record."""
    good = json.dumps(example(path)).encode()
    if random.random() < 0.6:
        return good
    field = random.choice(list(example(path)))
    value: Any = random.choice(
        [None, "", " ", "ä", "x" * 300, "\x00", "\ud800", 0, -1, 1e308, True, [], [""], {}, "1"]
    )
    return random.choice(
        [
            json.dumps(example(path, **{field: value})).encode(),
            json.dumps({k: v for k, v in example(path).items() if k != field}).encode(),
            json.dumps(example(path, unknown=value)).encode(),
            json.dumps(example(path), indent=2).encode(),
            json.dumps(example(path, **{field: "é\u2028🎓"}), ensure_ascii=False).encode(),
            good[:-1],
            good + b" ",
            good + good,
            b"\xef\xbb\xbf" + good,
            good.replace(b"{", b'{"tutor_id":"x",', 1),
            good.replace(b":", b": NaN,", 1),
            b"\xff" + good,
            gzip.compress(good),
            b"",
            b"[]",
            b"[" * 5000,
            b"null",
            b" " * 70_000 + good,
        ]
    )


def batches(random: Random, path: str) -> tuple[bytes, str]:
    """Batches of such bodies, with their media types."""
    parts = [
        bodies(random, path) if random.random() < 0.2 else json.dumps(example(path)).encode()
        for _ in range(random.choice([0, 1, 2, 3, 20]))
    ]
    if random.random() < 0.5:
        return random.choice([b"\n", b"\n\n", b"\r\n"]).join(parts), "application/x-ndjson"
    return b"[" + b",".join(parts) + b"]", "application/json"


def oddities(random: Random, keys: dict[str, str]) -> list[tuple[str, str]]:
    """Further header fields."""
    return random.choice(
        [
            *[[]] * 8,
            [("Idempotency-Key", random.choice(["a", "b", "c", "", "a b", "x" * 256, "é"]))],
            [("Idempotency-Key", random.choice(["a", "b"]))],
            [("Idempotency-Key", "a"), ("Idempotency-Key", "a")],
            [("X-Request-ID", random.choice(["mine", "a b", "", "x" * 200, keys["good"]]))],
            [("Authorization", f"Api-Key {keys[random.choice(list(keys))]}")],
            [("Authorization", f"api-key   {keys['good']} ")],
            [("Authorization", random.choice(["Api-Key", "Bearer x", "Basic eDp5", ""]))],
            [("X-API-Key", keys["good"])],
            [("Content-Type", random.choice(["text/plain", "application/json"]))],
            [("Authorization", f"Api-Key {keys[one]}") for one in ("unknown", "good")],
            [("Host", "elsewhere")],
            [("Origin", "http://localhost:3000")],
            [("Cookie", "sessionid=1")],
            [("Content-Encoding", random.choice(["gzip", "identity", "br"]))],
            [("Expect", "100-continue")],
            [("X-Forwarded-For", "192.0.2.1")],
            [("X_Forwarded_For", "192.0.2.1")],
            [("Forwarded", "for=192.0.2.1")],
            [("X-Forwarded-Proto", "https")],
            [("X-Forwarded-Host", "elsewhere.example")],
            [("X-HTTP-Method-Override", "GET")],
            [("Accept", random.choice(["text/html", "*/*", "nonsense"]))],
            [("Accept-Language", "de"), ("User-Agent", "x"), ("Connection", "keep-alive")],
            [("User-Agent", "é")],
            [("Referer", "http://elsewhere.example/")],
            [("If-None-Match", "*")],
        ]
    )


def odd_request(random: Random, keys: dict[str, str]) -> Sent:
    """A plain request, of which something may be odd."""

    def mostly(plain: str, *odd: str) -> str:
        return random.choice(odd) if random.random() < 0.05 else plain

    path = random.choice(list(RECORD_TYPES))
    if random.random() < 0.5:
        body, media_type = bodies(random, path), "application/json"
    else:
        body, media_type = batches(random, path)
        path += "/batch"
    media_type = mostly(
        media_type,
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "Application/JSON",
        "application/json; charset=latin-1",
        "text/plain",
        "",
    )
    host = mostly("localhost", "localhost:1", "LOCALHOST", "elsewhere", "", "a b")
    return Sent(
        path=mostly("/api/", "/api//", "/API/", "/") + mostly(path, f"{path}/", f"{path}%20"),
        body=body,
        fields=(("Host", host), ("Content-Type", media_type), *oddities(random, keys)),
        method=mostly("POST", "GET", "PUT", "OPTIONS", "HEAD", "post"),
        query_string=mostly("", "strict=true", "strict=", "x=1"),
        client=mostly("127.0.0.1:1", "192.0.2.7:1", "[::1]:1"),
    )


@pytest.mark.parametrize("quota", [0, 100_000])
@pytest.mark.parametrize("part", range(6))
def test_the_lane_answers_stores_and_logs_as_django_does(store, lane, log, settings, part, quota):
    """The same requests, one after the other, through both."""
    settings.CLIENT_RECORDS_PER_MINUTE = quota
    seed = Random().randrange(2**32)
    random = Random(seed)
    keys = {"good": key_of("crm"), "narrow": key_of("narrow", scopes=("tutors",))}
    keys |= {"unknown": "tmx_" + "a" * 57, "shape": "tmx_1"}
    of_django(plain("tutors", None, ("Authorization", f"Api-Key {keys['good']}")))
    requests = [odd_request(random, keys) for _ in range(100)]

    def through(answer: Callable[[Sent], Answer]) -> tuple[list[Any], dict[str, Any], list[str]]:
        store.flushall()
        before = len(log())
        answers = [answer(one) for one in requests]
        lines = [line for line in log()[before:] if re.search(r"\] request +\[tutormax", line)]
        assert len(lines) == len(requests), f"seed {seed}"
        steady = [re.sub(r"^\S+|(?<=duration_ms=)\S+", "", line) for line in lines]
        by_lane.append(sum(one.by_lane for one in answers))
        told = [one.told for one in answers]
        return told, on_queues(store), [re.sub(r"\b[0-9a-f]{32}\b", "(an id)", x) for x in steady]

    by_lane: list[int] = []
    expected = through(of_django)
    found = through(lambda one: lane.at_once(one)[0])
    for one, of_lane, of_view in zip(requests, found[0], expected[0], strict=True):
        assert of_lane == of_view, f"seed {seed}: {one}"
    assert found[1] == expected[1], f"seed {seed}"
    assert found[2] == expected[2], f"seed {seed}"
    assert by_lane[0] == 0 and by_lane[1] > 0, f"seed {seed}: {by_lane}"


@pytest.mark.parametrize("path", [*RECORD_TYPES, *(f"{path}/batch" for path in RECORD_TYPES)])
def test_what_clients_send_is_plain(lane, path):
    record = example(path.partition("/")[0])
    key = key_of()
    headers = (("Authorization", f"Api-Key {key}"), ("Idempotency-Key", "a"), ("Accept", "*/*"))
    sent = plain(path, [record] * 3 if "batch" in path else record, *headers)
    assert not lane.at_once(sent)[0].by_lane  # nobody knows the key yet
    of_django(sent)
    (answer,) = lane.at_once(sent)
    assert answer.by_lane
    assert (answer.status, dict(answer.headers)["idempotent-replayed"]) == (201, "true")


def test_the_site_behind_https_is_as_fast(lane, settings):
    settings.HTTPS = True
    (without, behind) = lane.at_once(
        plain(), plain("tutors", None, ("X-Forwarded-Proto", "https"), ("Authorization", "Basic x"))
    )
    assert not without.by_lane
    assert not behind.by_lane  # whose it is must be said with a key
    settings.OPEN_WITHOUT_KEY = True
    sent = plain("tutors", None, ("X-Forwarded-Proto", "https"), ("Authorization", "Basic x"))
    assert lane.at_once(sent)[0].by_lane


def test_if_too_many_wait_they_are_left_to_django(lane, settings):
    settings.MAX_WAITING_REQUESTS = 0
    assert not lane.at_once(plain())[0].by_lane


def test_nothing_is_learned_from_an_answer_that_is_no_receipt(store):
    refused = of_django(plain("tutors", b"{}"))
    assert refused.status == 422
    with Lane(refused) as lane:
        assert not lane.at_once(plain())[0].by_lane
        lane.lane.learn(201, [("Set-Cookie", "a=b")])
        assert not lane.at_once(plain())[0].by_lane
        answer = of_django(plain())
        lane.lane.learn(answer.status, answer.headers)
        assert lane.at_once(plain())[0].by_lane


@pytest.mark.parametrize(
    "content",
    [
        b"[" + b",".join([b"0"] * 4000) + b"]",
        b"[" + b",".join([b"{}"] * 2000) + b"]",
        b"0\n" * 4000,
        b"{}\n" * 2000,
        b'{"a": "%s"}\n' % (b"a" * 300) * 20,
    ],
)
def test_what_is_nothing_but_errors_is_given_up_at_once(content, monkeypatch):
    """It is looked at on the event loop, where it would keep everybody waiting."""
    decoded = []

    def counted(self: Compiled, text: bytes) -> Any:
        decoded.append(text)
        return decode(self, text)

    decode = Compiled._decoded
    monkeypatch.setattr(Compiled, "_decoded", counted)
    monkeypatch.setattr(strict_json, "entries", None)  # it looks for each entry of an array
    framing = Framing.ARRAY if content.startswith(b"[") else Framing.LINES
    assert validation.read_certain([(TUTORS, Payload(content=content, framing=framing))]) == [None]
    assert len(decoded) <= 1


def test_a_batch_that_is_empty_or_too_long_is_not_plain(lane, settings):
    settings.MAX_BATCH_RECORDS = 2
    sizes = [plain("tutors/batch", json.dumps([example()] * count).encode()) for count in range(4)]
    assert [one.by_lane for one in lane.at_once(*sizes)] == [False, True, True, False]


# --- Many in one call of the store -------------------------------------------------------------


def calls(store: Redis) -> int:
    """How many scripts the store has run."""
    return int(store.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))


def test_requests_of_one_moment_are_pushed_in_one_call_and_in_their_order(lane, store):
    lane.at_once(plain())
    store.flushall()
    before = calls(store)
    answers = lane.at_once(*(plain("tutors", example(tutor_id=f"T{at}")) for at in range(50)))
    assert calls(store) == before + 1
    assert {one.status for one in answers} == {201}
    ids = [json.loads(one.body)["id"] for one in answers]
    stored = [json.loads(one)["data"]["tutor_id"] for one in store.lrange(TUTORS.queue, 0, -1)]
    assert ids == stored[::-1] == [f"T{at}" for at in range(50)]
    assert store.hget(Keys(TUTORS.queue).totals, "accepted") == b"50"


def test_each_has_its_own_outcome(lane, store, settings):
    once = ("Idempotency-Key", "a")
    settings.QUEUE_LIMIT = 2
    answers = lane.at_once(
        plain("tutors", None, once),
        plain("tutors", None, once),
        plain("tutors", example(name="Another"), once),
        plain("tutors"),
        plain("tutors"),
        plain("tutors", None, once),
        plain("sessions"),
    )
    assert all(one.by_lane for one in answers)
    told = [json.loads(one.body).get("code") or one.status for one in answers]
    assert told == [201, 201, "key_reused", 201, "queue_full", 201, 201]
    assert answers[0].body == answers[1].body == answers[5].body
    replayed = ["idempotent-replayed" in dict(one.headers) for one in answers]
    assert replayed == [False, True, False, False, False, True, False]
    assert dict(answers[4].headers)["retry-after"]
    assert (store.llen(TUTORS.queue), store.llen(SESSIONS.queue)) == (2, 1)


def test_while_the_queue_is_paused_what_was_answered_is_answered_again(lane, store):
    once = ("Idempotency-Key", "a")
    lane.at_once(plain("tutors", None, once))
    queues.pause_queue(TUTORS.queue, Pause(reason="r", by="b", since=datetime.now(UTC)))
    again, paused = lane.at_once(plain("tutors", None, once), plain())
    assert (again.status, paused.status) == (201, 503)
    assert json.loads(paused.body)["code"] == "queue_paused"
    assert store.llen(TUTORS.queue) == 1


def test_one_that_the_store_refuses_spoils_no_other(lane, store):
    once = ("Idempotency-Key", "a")
    lane.at_once(plain("tutors", None, once))
    (answer_key,) = store.keys("*answer*")
    store.delete(answer_key)
    store.lpush(answer_key, "something else")
    answers = lane.at_once(plain(), plain("tutors", None, once), plain())
    assert [one.status for one in answers] == [201, 503, 201]
    assert json.loads(answers[1].body)["code"] == "store_error"
    assert store.llen(TUTORS.queue) == 3


def test_if_the_answer_of_the_store_is_lost_all_of_the_call_are_told(lane, store, proxy):
    lane.at_once(plain(), plain("sessions"))
    proxy.cuts = 1
    answers = lane.at_once(plain(), plain(), plain())
    assert {one.status for one in answers} == {503}
    for one in answers:
        told = json.loads(one.body)
        assert (told["code"], told["outcome"]) == ("store_answer_lost", "unknown")
    assert store.llen(TUTORS.queue) == 4  # it was made, for all or for none


def test_a_remembered_answer_that_is_damaged_spoils_no_other(lane, store):
    once = ("Idempotency-Key", "a")
    lane.at_once(plain("tutors", None, once))
    (answer_key,) = store.keys("*answer*")
    store.hset(answer_key, "answer", b"\x1f\x8bbroken")
    answers = lane.at_once(plain(), plain("tutors", None, once), plain())
    assert [one.status for one in answers] == [201, 503, 201]
    assert json.loads(answers[1].body)["outcome"] == "unknown"
    assert store.llen(TUTORS.queue) == 3


def test_a_fault_with_one_answer_spoils_no_other(lane, store, log, monkeypatch):
    reply = posting.reply

    def broken(judged: posting.Judged, outcome: Any) -> posting.Reply:
        if judged.received.records[0].id == "broken":
            raise ZeroDivisionError
        return reply(judged, outcome)

    monkeypatch.setattr(posting, "reply", broken)
    answers = lane.at_once(plain(), plain("tutors", example(tutor_id="broken")), plain())
    assert [one.status for one in answers] == [201, 503, 201]
    assert json.loads(answers[1].body)["outcome"] == "unknown"
    assert store.llen(TUTORS.queue) == 3
    assert any("request_failed" in line and "ZeroDivisionError" in line for line in log())


def test_a_mistake_in_the_lane_leaves_all_to_django(lane, store, log, monkeypatch):
    judge = posting.judge

    def broken(post: posting.Post, records: Any) -> posting.Judged:
        if b"broken" in post.payload.content:
            raise ZeroDivisionError
        return judge(post, records)

    monkeypatch.setattr(posting, "judge", broken)
    answers = lane.at_once(plain(), plain("tutors", example(tutor_id="broken")), plain())
    assert [one.status for one in answers] == [201, 500, 201]
    assert not any(one.by_lane for one in answers)
    assert store.llen(TUTORS.queue) == 2
    assert any("fast_lane_failed" in line for line in log())


def test_a_request_that_is_cancelled_takes_no_other_with_it(lane, store):
    assert lane.after_cancelled(plain(), plain()).status == 201
    assert store.llen(TUTORS.queue) == 2


def test_each_client_is_charged_for_its_own(lane, store, settings):
    settings.CLIENT_RECORDS_PER_MINUTE = 3
    crm = ("Authorization", f"Api-Key {key_of('crm')}")
    of_django(plain("tutors", None, crm))
    mine, batch = plain("tutors", None, crm), plain("tutors/batch", [example()] * 2)
    answers = lane.at_once(mine, batch, mine, mine, batch, plain())
    assert all(one.by_lane for one in answers)
    assert [one.status for one in answers] == [201, 201, 201, 429, 429, 201]
    left = [dict(one.headers)["ratelimit"] for one in answers]
    assert [re.search(r"r=(\d+)", one)[1] for one in left] == ["1", "1", "0", "0", "1", "0"]
    assert "retry-after" in dict(answers[3].headers)
    assert store.hget(Keys(TUTORS.queue).totals, "accepted") == b"6"  # one by Django


# --- The log -----------------------------------------------------------------------------------


@pytest.mark.parametrize("as_json", [False, True])
def test_a_line_is_the_one_that_the_logger_would_write(monkeypatch, as_json):
    config = logging_config(level="INFO", as_json=as_json)["formatters"]["events"]
    written = io.StringIO()
    console = logging.StreamHandler(written)
    console.setFormatter(
        ProcessorFormatter(**{word: value for word, value in config.items() if word != "()"})
    )
    monkeypatch.setattr(logging.getLogger(), "handlers", [console])
    lines = [
        Line(request_id=name, duration_ms=duration, facts=facts)
        for name, duration, facts in (
            ("a", 1.25, {"method": "POST", "path": "/api/tutors", "status": 201, "client": "crm"}),
            ("b:c.d_e-f", 0.0, {"client": 'A "b" 100%s\n\x1b[31mé', "replayed": True}),
            ("%(timestamp)s", 12345.6, {"client": "crm", "code": "queue_full"}),
        )
    ]
    log_lines.write(lines)
    at_once = written.getvalue().splitlines()
    for one in lines:
        structlog.get_logger("tutormax.middleware").info(
            "request", request_id=one.request_id, duration_ms=one.duration_ms, **one.facts
        )
    by_logger = written.getvalue().splitlines()[len(lines) :]
    assert len(at_once) == len(by_logger) == len(lines)
    assert [_without_time(one) for one in at_once] == [_without_time(one) for one in by_logger]
    assert all(re.search(r"\d{4}-\d\d-\d\dT[\d:.]+Z", one) for one in at_once)


def _without_time(line: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "", line)


def test_a_log_that_cannot_be_written_stops_nobody(lane, monkeypatch):
    console = logging.StreamHandler(io.StringIO())
    console.stream.close()
    monkeypatch.setattr(logging.getLogger(), "handlers", [console])
    assert lane.at_once(plain())[0].status == 201


def test_nothing_is_written_if_nobody_wants_it(lane, monkeypatch, caplog):
    written = io.StringIO()
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(written)])
    lane.at_once(plain())
    assert written.getvalue()
    written.truncate(0)
    with caplog.at_level(logging.ERROR, logger="tutormax"):
        lane.at_once(plain())
    assert not written.getvalue()


# --- In the web server -------------------------------------------------------------------------


@pytest.mark.processes
def test_the_web_server_takes_the_lane_only_for_plain_requests(tmp_path):
    with running_portal(tmp_path / "var", DJANGO_SETTINGS_MODULE="tests.lane_site") as portal:

        def number(fields: Mapping[str, str] | None = None) -> str:
            """Which answer of Django's it was, or repeats."""
            answer = urllib3.request(
                "POST", f"{portal.address}/api/tutors", json=example(), headers=fields
            )
            assert answer.status == 201
            return answer.headers[ANSWERS_OF_DJANGO]

        learned = number()
        assert {number() for _ in range(20)} == {learned}
        assert number({"Origin": "http://localhost:3000"}) == str(int(learned) + 1)
        assert {number({"Idempotency-Key": "a"}) for _ in range(3)} == {learned}
        twice = HTTPHeaderDict([("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
        assert number(twice) == str(int(learned) + 2)
        with Redis.from_url(embedded.url(portal.data_dir)) as store:
            assert store.llen(TUTORS.queue) == 24
        lines = [line for line in portal.printed.splitlines() if "path=/api/tutors" in line]
        assert len(lines) == 26
        assert len({re.sub(r"^\S+|(duration_ms|request_id)=\S+", "", one) for one in lines}) == 2


@pytest.mark.processes
def test_without_the_lane_django_answers(tmp_path):
    with running_portal(
        tmp_path / "var", DJANGO_SETTINGS_MODULE="tests.lane_site", FAST_LANE="false"
    ) as portal:
        answers = [portal.post("/api/tutors", example()) for _ in range(3)]
        assert len({one.headers[ANSWERS_OF_DJANGO] for one in answers}) == 3
