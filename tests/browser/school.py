"""A portal in the middle of a working day: its staff, their uploads, and a day of its queues.

As a separate process beside a started portal, it fills that portal through the portal's own pages
and intake, and prints a `School`. Only the past is written directly: nobody can wait a day for a
chart.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.portal_process import ROOT, Portal

PEOPLE = {"vera": "Viewer", "uma": "Uploader", "otto": "Operator", "ada": "Admin", "leo": "Viewer"}
"""The people who work there, and their groups."""

PASSWORD = "correct horse battery"
_BOUND_SECONDS = 240


@dataclass(frozen=True, kw_only=True, slots=True)
class School:
    """What a test must know of it: `sessions` are cookies of people who are signed in,
    `uploads` numbers by state, `rejections` pages of refused records by their record type."""

    sessions: Mapping[str, str]
    uploads: Mapping[str, int]
    rejections: Mapping[str, str]


def fill(portal: Portal) -> School:
    """Fill a started portal, once."""
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tutormax.settings",
            "DATA_DIR": str(portal.data_dir),
            "LOG_LEVEL": "CRITICAL",
        },
        stdout=subprocess.PIPE,
        text=True,
        timeout=2 * _BOUND_SECONDS,
        check=True,
    )
    return School(**json.loads(done.stdout.splitlines()[-1]))


def table(records: Sequence[Mapping[str, Any]], delimiter: str = ",") -> str:
    """Records as a CSV file."""
    from ingestion.cells import cell_text

    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(records[0])
    writer.writerows([cell_text(value) for value in record.values()] for record in records)
    return text.getvalue()


def _main() -> None:
    import django

    django.setup()
    from django.contrib.auth.hashers import make_password
    from django.contrib.auth.models import Group, User
    from django.test import Client

    from ingestion.api_keys import SCOPES
    from ingestion.generator import generate
    from ingestion.models import Upload
    from ingestion.records import RECORD_TYPES

    today = datetime.now(UTC).date()
    data = generate(seed=7, tutors=30, sessions=260, feedback=120, start=today, days=1).by_path
    tutors, sessions, feedback = ([dict(one) for one in found] for found in data.values())

    clients, password = {}, make_password(PASSWORD)
    for name, group in PEOPLE.items():
        email = f"{name}@example.com"
        user = User.objects.create(username=name, email=email, password=password, is_staff=True)
        user.groups.add(Group.objects.get(name=group))
        # Django's client speaks to the site in this process, on the portal's database and store.
        clients[name] = Client(SERVER_NAME="127.0.0.1")
        clients[name].force_login(user)
    uma, otto = clients["uma"], clients["otto"]
    for record_type in RECORD_TYPES.values():
        _read_before(record_type.queue, 9_000)

    key = {"name": "scheduler", "scopes": list(SCOPES), "days": "90"}
    assert clients["ada"].post("/admin/keys/new/", key).status_code == 200

    def upload(name: str, text: str) -> int:
        file = io.BytesIO(text.encode())
        file.name = name
        answer = uma.post("/admin/upload/", {"file": file})
        assert answer.status_code == 302, answer.content.decode()
        return Upload.objects.latest("pk").pk

    def wait(number: int, *states: str) -> None:
        deadline = time.monotonic() + _BOUND_SECONDS
        while (state := Upload.objects.get(pk=number).state) not in states:
            assert time.monotonic() < deadline, (number, state)
            time.sleep(0.05)

    _accept("feedback", feedback[80:])
    pause = {"reason": "The rating model is being exchanged", "minutes": "240"}
    otto.post("/admin/queues/feedback/pause/", pause)
    uploads = {
        "done": upload("tutors-spring.csv", table(_with_faults(tutors))),
        "review": upload("sessions-week-20.csv", table(_with_faults(sessions[:60]))),
        "check": upload("plan-april.csv", table([_renamed(one) for one in sessions[:9]], ";")),
        "failed": upload("export.json", json.dumps(sessions[:40])[:-2]),
        "queueing": upload("feedback-may.csv", table(feedback[:80])),
        "cancelled": upload("sessions-old.csv", table(sessions[:5])),
    }
    wait(uploads["check"], "check")
    uma.post(f"/admin/uploads/{uploads['check']}/check/", {"record_type": "sessions", "look": "1"})
    wait(uploads["check"], "check")
    wait(uploads["failed"], "failed")
    for state in ("done", "review", "queueing", "cancelled"):
        wait(uploads[state], "review")
    uma.post(f"/admin/uploads/{uploads['cancelled']}/cancel/")
    for state in ("done", "queueing"):
        uma.post(f"/admin/uploads/{uploads[state]}/queue/")
    wait(uploads["done"], "done")

    _accept("sessions", sessions[60:])
    rejections = _refuse(sessions, feedback, tutors)
    _take("tutors", 11)
    for path, minutes in (("tutors", 4), ("sessions", 19), ("feedback", 43)):
        _age(RECORD_TYPES[path].queue, minutes * 60)
    _consume("sessions")
    chosen = _names("sessions", 3)
    discard = {"message": chosen, "count": "3", "reason": "Sent twice by the scheduler"}
    otto.post("/admin/queues/sessions/discard/", discard)
    for path, shape in _SHAPES.items():
        _write_past(RECORD_TYPES[path].queue, shape)
    cookies = {name: client.cookies["sessionid"].value for name, client in clients.items()}
    json.dump({"sessions": cookies, "uploads": uploads, "rejections": rejections}, sys.stdout)


def _with_faults(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records with typical errors of files: wrong cells, a repeated row, an empty row."""
    wrong = [dict(record) for record in records]
    faults = (
        {"age": "n/a", "duration_minutes": "1 hour"},
        {"email": "see list", "engagement_score": "87%"},
        {"status": "Actve", "session_type": "one to one"},
    )
    for place, fault in zip((3, 8, 9, 14, 20), (*faults, *faults), strict=False):
        wrong[place].update({name: text for name, text in fault.items() if name in wrong[place]})
    empty = dict.fromkeys(wrong[0])
    return [*wrong[:12], empty, *wrong[12:], dict(wrong[1])]


def _renamed(session: dict[str, Any]) -> dict[str, Any]:
    """A session with another program's column names, and dates that do not show their order."""
    kept = {name: value for name, value in session.items() if name != "actual_start"}
    names = {"session_id": "Ref", "scheduled_start": "Planned", "subject": "Course"}
    begins = {"scheduled_start": "03/04/2026 15:00"}
    return {names.get(name, name): value for name, value in {**kept, **begins}.items()}


def _accept(path: str, records: Sequence[dict[str, Any]]) -> None:
    """Records that a program sends."""
    from ingestion import intake
    from ingestion.decoding import Row
    from ingestion.records import RECORD_TYPES
    from ingestion.sources import LOCAL, Source

    intake.queue(
        intake.receive(RECORD_TYPES[path], [Row(value=record) for record in records]),
        source=Source(client=LOCAL),
    )


def _refuse(
    sessions: Sequence[dict[str, Any]],
    feedback: Sequence[dict[str, Any]],
    tutors: Sequence[dict[str, Any]],
) -> dict[str, str]:
    """Invalid records that a program sends. Returns the page of the latest one of each type."""
    from ingestion import queues
    from ingestion.records import RECORD_TYPES

    wrong: dict[str, list[dict[str, Any]]] = {
        "sessions": [
            {**sessions[0], "engagement_score": 87},
            {**sessions[1], "engagement_score": 91},
            {**sessions[2], "scheduled_start": "14.05.2026 15:00"},
            {**sessions[3], "duration_minutes": "60"},
        ],
        "feedback": [
            {**feedback[0], "overall_rating": 6},
            {name: value for name, value in feedback[1].items() if name != "student_id"},
        ],
        "tutors": [{**tutors[4], "email": "maria(at)example.com", "age": 17}],
    }
    for path, records in wrong.items():
        for record in records:
            _accept(path, [record])
    return {
        path: f"/admin/rejections/{path}/{next(iter(queues.rejections([record_type.queue]))).id}/"
        for path, record_type in RECORD_TYPES.items()
    }


def _read_before(queue: str, count: int) -> None:
    """Simulate this many messages that came and left on earlier days."""
    from django_redis import get_redis_connection

    from ingestion.queues.keys import Keys

    get_redis_connection("store").hset(Keys(queue).totals, "accepted", count)


def _take(path: str, count: int) -> None:
    """Read messages as a consumer does."""
    from django_redis import get_redis_connection

    from ingestion.records import RECORD_TYPES

    get_redis_connection("store").rpop(RECORD_TYPES[path].queue, count)


def _consume(path: str) -> None:
    """Let consumers fail at some messages, die during others, and hold a few for the whole day."""
    from django_redis import get_redis_connection

    from ingestion.consumer import Consumer
    from ingestion.queues import MAX_ATTEMPTS
    from ingestion.queues.keys import Keys
    from ingestion.records import RECORD_TYPES

    queue = RECORD_TYPES[path].queue
    store, keys = get_redis_connection("store"), Keys(queue)
    # Their leases last longer than this process and every test.
    busy, idle, gone = (Consumer(queue, lease_seconds=24 * 3600).__enter__() for _ in range(3))
    for reason in _REASONS:
        for _ in range(MAX_ATTEMPTS):
            busy.claim()
            busy.give_back(reason=reason)
    # They did not all die at the same moment.
    for place, message in enumerate(store.lrange(keys.dead, 0, -1)):
        name = hashlib.sha1(message, usedforsecurity=False).hexdigest()
        why = json.loads(store.hget(keys.reasons, name))
        why["died_at_ms"] -= 1000 * (40 + 97 * place)
        store.hset(keys.reasons, name, json.dumps(why))
    busy.claim(12)
    idle.claim(1)
    gone.claim(4)
    said = json.loads(store.hget(keys.consumers, gone.name)) | {"lease_seconds": 25}
    store.hset(keys.consumers, gone.name, json.dumps(said))
    store.zadd(keys.leases, {gone.name: (time.time() - 94) * 1000})


def _names(path: str, count: int) -> list[str]:
    """The names of the oldest messages on a page."""
    from ingestion import queues
    from ingestion.queues import Window
    from ingestion.records import RECORD_TYPES

    record_type = RECORD_TYPES[path]
    listing = Window(first=0, count=count, newest_first=False)
    return [one.name for one in queues.detail(record_type.queue, hours=1, listing=listing).messages]


def _age(queue: str, seconds: float) -> None:
    """Change the messages so that they came in evenly over the last `seconds`."""
    from django_redis import get_redis_connection

    store = get_redis_connection("store")
    messages = [json.loads(raw) for raw in store.lrange(queue, 0, -1)]
    changes = store.pipeline()
    for place, message in enumerate(messages):
        at = datetime.now(UTC) - timedelta(seconds=seconds * (place + 1) / len(messages))
        message["queued_at"] = f"{at:%Y-%m-%dT%H:%M:%S.%f}Z"
        changes.lset(queue, place, json.dumps(message, separators=(",", ":")))
    changes.execute()


_REASONS = (
    "ValueError: could not convert string to float: 'n/a'",
    "KeyError: 'student_00017'",
    'IntegrityError: insert or update on table "session" violates foreign key constraint '
    '"session_tutor_id_fkey"\nDETAIL:  Key (tutor_id)=(tutor_00021) is not present in table '
    '"tutor".',
    "KeyError: 'student_00042'",
    *5 * ("TimeoutError: the planning database did not answer within 30 s",),
)


def _draining(ago: int) -> float:
    return 1 + ago / 5 * max(0.0, 1 - ago / 60) + math.sin(ago / 3) / 8 * min(ago, 1)


def _filling(ago: int) -> float:
    return max(0.06, 1 - ago / 45) + math.sin(ago / 4) / 60


def _standing(ago: int) -> float:
    return max(0.0, 1 - max(0, ago - 30) / 20)


# How deep each queue was this many minutes ago, relative to its present depth.
_SHAPES = {"tutors": _draining, "sessions": _filling, "feedback": _standing}


def _write_past(queue: str, shape: Callable[[int], float]) -> None:
    """Write the numbers of the last day's minutes, so that they end with the present depth."""
    from django_redis import get_redis_connection

    from ingestion.queues.keys import Keys

    store = get_redis_connection("store")
    keys, depth = Keys(queue), store.llen(queue)
    minute, before = int(time.time()) // 60, 0
    changes = store.pipeline()
    for ago in range(24 * 60, -1, -1):
        hour, at = divmod(minute - ago, 60)
        now = round(depth * max(0.0, shape(ago)))
        busy = 6 + 5 * math.sin(ago / 720 * math.pi) + 3 * math.sin(ago * 1.7)
        came = max(0, now - before) + (
            0 if shape is _standing and ago < 30 else max(0, round(busy))
        )
        before = now
        changes.hset(keys.counts(hour), mapping={f"accepted:{at}": came, f"depth:{at}": now})
    changes.execute()


if __name__ == "__main__":
    _main()
