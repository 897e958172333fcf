"""The life of uploads against a model in plain Python, in random sequences.

Staff, the clock, consumers and two workers act on uploads of one queue. At any statement and at any
call of the store, the one that acts may be killed, lose the database or the store's answer, or
stand still while the others act. After every step each row is in exactly one place, and the page
says in which. `FAULTS=long pytest tests/test_upload_model.py` searches longer, with other
sequences.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import OperationalError, connection
from django.utils.timezone import now
from django_tasks_db.models import DBTaskResult

from ingestion import queues
from ingestion.files import limited, registry
from ingestion.models import LooseFile, Upload, upload_storage
from ingestion.outcomes import Code, StoreError
from ingestion.portal.uploads.state import progress
from ingestion.queues import Pause
from ingestion.uploads import actions, queueing, stored_files, tasks, work
from ingestion.uploads.actions import NotNowError
from tests.faults import figures
from tests.record_types import SESSIONS
from tests.upload_model import RUNNING, Model
from tests.uploading import as_csv, create, session

QUEUE = SESSIONS.queue
# The acts of staff and of the clock, with their relative frequency.
STAFF = {"confirm": 12, "cancel": 2, "retry": 6, "recall": 2, "fix": 2, "expire": 1}
ACTS = [*STAFF, "take over", "work", "read"]
TROUBLES = ["killed", "killed after the call", "database away", "answer lost"]


class Killed(BaseException):
    """The process that acts is killed."""


class Life:
    """Up to two uploads on one queue, and random faults during their life."""

    def __init__(self, seed, store, seen):
        self.dice, self.store, self.seen = Random(seed), store, seen
        self.steps: list[tuple[Any, ...]] = []
        self.models: list[Model] = []
        self.taken: list[bytes] = []  # what consumers have read
        self.at, self.trouble, self.upload, self.is_disturbed = 0, None, 0, False
        store.flushall()
        for model in (DBTaskResult, LooseFile, Upload):
            model.objects.all().delete()
        for name in self.stored():
            upload_storage().delete(name)
        django_settings.MAX_BATCH_RECORDS = 2

    # --- What goes wrong -----------------------------------------------------------------------

    @contextmanager
    def planned(self, plan, upload):
        """At this statement or call of the store in the block, a fault happens."""
        self.at, self.trouble = plan or (0, None)
        self.upload, self.is_disturbed = upload, plan is not None
        try:
            yield
        except (Killed, OperationalError, StoreError):
            pass
        finally:
            self.trouble = None

    def due(self, *fitting):
        """The fault that happens now, if any; one that does not fit here waits for its place."""
        self.at -= 1
        trouble = self.trouble
        fits = trouble in fitting or (isinstance(trouble, list) and "others" in fitting)
        if trouble is None or self.at > 0 or not fits:
            return
        self.trouble = None
        self.seen.add(trouble if isinstance(trouble, str) else "others")
        if trouble in ("killed", "killed after the call"):
            raise Killed
        if trouble == "database away":
            raise OperationalError(trouble)
        if trouble == "answer lost":
            raise StoreError(Code.STORE_ANSWER_LOST, outcome_unknown=True)
        for act in trouble:
            self.do(act, self.upload)
        return

    def statement(self, execute, sql, *rest):
        if self.trouble and not sql.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK", "BEGIN")):
            # Acts of others during an open transaction must not be undone with it.
            others = () if connection.in_atomic_block else ("others",)
            self.due("killed", "database away", *others)
        return execute(sql, *rest)

    def call(self, verb, *facts, **more):
        if self.trouble:
            self.due("killed", "others")
        found = verb(*facts, **more)
        if self.trouble:
            self.due("killed", "killed after the call", "others", "answer lost")
        return found

    # --- Who acts ------------------------------------------------------------------------------

    def step(self):
        """Something happens to another person's upload."""
        dice, models = self.dice, self.models
        running = [one for one in models if one.state in RUNNING]
        if len(models) < 2 and (not models or dice.random() < 0.05):
            return self.upload_a_file(dice.choices("ggggbt", k=dice.randint(1, 7)))
        chance = dice.random()
        model = dice.choice(models)
        if running and chance < 0.4:
            act = dice.choice(["work", "take over"])
            self.act(act, dice.choice(running), self.plan(20))
            return dice.random() < 0.4 and self.change_the_surroundings()
        if running and chance < 0.45:
            return self.kill_again_and_again(dice.choice(running), dice.randint(3, 14))
        if chance < 0.8:  # they do what the page offers
            weights = [bool(model.after(one)) * often for one, often in STAFF.items()]
            act = dice.choices([*STAFF], weights)[0] if any(weights) else "read"
            return self.act(act, model, self.plan(8))
        if chance < 0.88:
            return self.act(dice.choice([*STAFF]), model, self.plan(8))
        if chance < 0.92:
            return self.act("read", model, None)
        return self.change_the_surroundings()

    def plan(self, last):
        """No fault, or a fault and the statement or call where it happens."""
        if self.dice.random() < 0.4:
            return None
        others = self.dice.choices(ACTS, k=self.dice.randint(1, 3))
        trouble = self.dice.choice([*TROUBLES, others, others, others])
        # Faults that wait for a call of the store fit from the first statement on.
        soon = trouble in ("killed after the call", "answer lost") and self.dice.random() < 0.7
        return 1 if soon else self.dice.randint(1, last), trouble

    def upload_a_file(self, kinds):
        self.steps.append(("upload", kinds))
        words = {"g": "good", "b": "bad", "t": "twice" if "g" in kinds else "good"}
        first = kinds.index("g") if "g" in kinds else 0
        rows = [words[one] if one != "t" or n > first else "bad" for n, one in enumerate(kinds)]
        records = [
            session(first if row == "twice" else n, duration_minutes=999 if row == "bad" else 60)
            for n, row in enumerate(rows)
        ]
        number = create(as_csv(records)).pk
        self.models.append(Model(number, {n + 2: row for n, row in enumerate(rows)}))
        if self.dice.random() < 0.5:
            self.do("work", number)  # the look at it
            self.do("work", number)
            self.steps.append(("read to its end",))

    def act(self, act, model, plan):
        self.steps.append((act, model.number, plan))
        promised, done = model.after(act) if act in STAFF else model.state, None
        with self.planned(plan, model.number):
            done = self.do(act, model.number)
        if plan is None and act in STAFF:
            assert done is (promised is not None)
            if done:
                assert self.same(Upload.objects.get(pk=model.number).state, promised)
                self.seen.add(act)

    def kill_again_and_again(self, model, at):
        for plan in [(at, "killed")] * 3 + [None]:
            self.notice()
            self.act("work", model, plan)

    def change_the_surroundings(self):
        size, paused = self.dice.randint(1, 3), self.dice.random() < 0.3
        self.steps.append(("size", size, "paused", paused))
        django_settings.MAX_BATCH_RECORDS = size  # the fixture would keep every value
        if paused:
            queues.pause_queue(QUEUE, Pause(reason="repairs", by="otto", since=datetime.now(UTC)))
        else:
            queues.resume_queue(QUEUE)

    def do(self, act, upload):
        """Do it as the product does; returns whether it could be done."""
        if act == "read":
            self.taken += filter(None, [self.store.rpop(QUEUE)])
            return True
        if act == "take over":
            self.notice()
        if act in ("take over", "work"):
            tasks.advance.call(upload)
            return True
        one = Upload.objects.get(pk=upload)
        try:
            if act == "fix":
                bad = {row["line"]: {"duration_minutes": 45} for row in one.findings.get("bad", [])}
                assert actions.fix(one, bad) == {}
                self.model(upload).fixed |= set(bad)
            elif act == "expire":
                old = now() - timedelta(days=4000)
                Upload.objects.filter(pk=upload).update(uploaded_at=old)
                actions.expire()
                Upload.objects.filter(pk=upload).update(uploaded_at=now())
                return Upload.objects.get(pk=upload).expired_at != one.expired_at
            elif act == "recall":
                before = len(self.copies())
                count = actions.recall(one)
                assert count == len(self.copies()) - before or self.is_disturbed
            else:
                getattr(actions, act)(one)
        except NotNowError:
            return False
        return True

    def notice(self):
        """Notice a silent worker."""
        watch = work.Watch()
        for _ in range(work._SILENT_LOOKS + 1):
            tasks.requeue_abandoned(watch)

    # --- What holds after every step -----------------------------------------------------------

    def each_row_is_in_one_place_and_the_page_says_which(self):
        waiting, copies = self.store.lrange(QUEUE, 0, -1), self.copies()
        for model in self.models:
            upload = Upload.objects.get(pk=model.number)
            places = [self.lines(model, raws) for raws in (waiting, self.taken, copies)]
            lines = sorted(chain(*places))
            assert sorted(set(lines)) == lines, "a row is in two places"
            assert set(lines) <= set(model.ready), "a row was queued that is not ready"
            in_order = self.lines(model, self.taken + copies[::-1] + waiting[::-1])
            running = upload.state in RUNNING
            if upload.confirmed_at is None:
                assert not lines
            if running:
                assert upload.rows_queued <= len(lines) <= upload.rows_queued + 3
            else:
                assert upload.rows_queued == len(lines)
            if upload.state == "done":
                assert lines == model.ready
            assert lines == model.ready[: len(lines)], in_order
            page = progress(upload)
            if not running and upload.confirmed_at:
                shown = (page.waiting_rows, page.read, page.recalled)
                assert shown[2] == len(places[2])
                assert shown[0] >= len(places[0])
                assert shown[1] <= len(places[1])
                if not self.store.hget(f"{{{QUEUE}}}:totals", "taken_off"):
                    assert shown == tuple(map(len, places))
            self.seen.add(upload.state)
            model.state, model.confirmed = upload.state, upload.confirmed_at is not None
            model.expired = upload.expired_at is not None
        named = {
            name
            for one in Upload.objects.all()
            for name in (one.file.name, one.error_file.name)
            if name
        }
        loose = set(LooseFile.objects.values_list("name", flat=True))
        stored = self.stored()
        assert named <= stored <= named | loose
        assert not named & loose

    def end(self):
        """After any faults, everything must come to an end by itself."""
        queues.resume_queue(QUEUE)
        for model in self.models:
            for _ in range(10):
                self.do("take over", model.number)
            upload = Upload.objects.get(pk=model.number)
            assert upload.state not in RUNNING
        self.each_row_is_in_one_place_and_the_page_says_which()
        LooseFile.objects.update(since=now() - timedelta(days=1))
        stored_files.delete_left_behind()
        assert not LooseFile.objects.exists()

    # --- Looking -------------------------------------------------------------------------------

    def copies(self):
        found = []
        for key in sorted(self.store.scan_iter("*:copies:*")):
            found += self.store.lrange(key, 0, -1)
        return found

    def stored(self):
        storage: Any = upload_storage()
        folder = Path(storage.location)
        return {file.name for file in folder.iterdir()} if folder.exists() else set()

    def lines(self, model, raws):
        source = f"upload:{model.number}#"
        sources = [json.loads(raw)["source"] for raw in raws]
        return [int(one.removeprefix(source)) for one in sources if one.startswith(source)]

    def model(self, number):
        (found,) = (one for one in self.models if one.number == number)
        return found

    def same(self, state, promised):
        return state == promised or {state, promised} == {"reading", "inspecting"}


def look_here(descriptor, names, limits, tick, shape=None):
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        return registry.look(file, names, most_unpacked_bytes=limits.unpacked_bytes, shape=shape)


@contextmanager
def rows_here(descriptor, shape, limits, tick):
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        yield registry.rows(file, shape, most_unpacked_bytes=limits.unpacked_bytes)


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(figures.count(short=300, long=7200))
def test_an_upload_does_what_its_model_does(store, settings, monkeypatch):
    monkeypatch.setattr(queueing, "_TRY_EVERY_SECONDS", 0)
    monkeypatch.setattr(queueing, "_PATIENCE_SECONDS", 0.01)
    # How a file is read is not tested here: without a process for each reading, it is fast.
    monkeypatch.setattr(limited, "look", look_here)
    monkeypatch.setattr(limited, "rows", rows_here)
    settings.MAX_BATCH_RECORDS = 2  # the fixture restores it at the end
    lives, seen = [], set()
    for name in ("push", "push_together", "take_off"):
        verb = getattr(queues, name)
        monkeypatch.setattr(
            queues, name, lambda *facts, verb=verb, **more: lives[-1].call(verb, *facts, **more)
        )

    def statement(execute, *facts):
        return lives[-1].statement(execute, *facts) if lives else execute(*facts)

    first = 0 if not figures.LONG else int(time.time()) * 1_000_000
    with connection.execute_wrapper(statement):
        for seed in range(first, first + figures.count(short=80, long=5000)):
            life = Life(seed, store, seen)
            lives.append(life)
            try:
                for _ in range(25):
                    life.step()
                    life.each_row_is_in_one_place_and_the_page_says_which()
                life.end()
            except BaseException as fault:
                fault.add_note(f"seed {seed}: {life.steps}")
                raise
    expected = {"review", "done", "cancelled", "failed", *STAFF, *TROUBLES, "others"}
    assert sorted(expected - seen) == []  # otherwise too little was tried
