"""Attacks by a person with an account, or with a file for such a person."""

from __future__ import annotations

import csv
import io
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor

from tests.attacks.attacker import PASSWORD, ROLES, Browser, Neighbour, Target
from tests.attacks.table import Table, count
from tests.hostile_files import hostile_files
from tests.record_types import TUTORS

CANARY = "Quetzalcoatl"
LISTS = ("/admin/uploads/", "/admin/ingestion/activity/", "/admin/auth/user/", "/admin/auth/group/")
EXPONENTIAL = "^(([0-9a-f])+)+x$"
FIELDS = (
    "sha256", "file_name", "findings", "fixes", "layout", "verdicts", "failure",
    "uploaded_by__password", "uploaded_by__username", "parent__findings", "activities__reason",
    "user__password", "facts", "reason", "user_name", "password", "username", "last_login",
    "groups__name", "logentry__change_message", "name", "permissions__codename", "user__email",
)  # fmt: skip
LOOKUPS = ("regex", "iregex", "icontains", "startswith", "gt", "in", "isnull", "year", "range")
ODD_VALUES = (
    "", "\0", "x" * 20_000, "99999999999999999999", "-1", "1e400", "٣", "[]", "{}", "../..",
    "\ud83d", "%", "NaN", "0001-01-01", "999999999-13-32", "'\"<x>", "1,2,3", EXPONENTIAL,
)  # fmt: skip
ODD_NAMES = (
    "q", "o", "p", "e", "all", "page", "state", "state__exact", "record_type", "uploaded_at__year",
    "uploaded_at__month", "uploaded_at__day", "at__year", "_popup", "_to_field", "order", "from",
    "id", "find", "type", "field", "code", "client", "fixes", "next", "minutes", "refresh", "show",
)  # fmt: skip
PATHS = (
    "/admin/", "/admin/queues/tutors/", "/admin/queues/tutors/dead/", "/admin/upload/",
    "/admin/uploads/1/", "/admin/uploads/99999999999999999999/", "/admin/enter/tutors/",
    "/admin/guide/sessions/", "/admin/rejections/", "/admin/keys/", "/admin/login/",
    "/admin/templates/tutors.csv", "/admin/queues/tutors/message/", "/admin/uploads/1/progress",
    "/admin/ingestion/upload/", "/admin/r/1/1/", "/admin/jsi18n/", "/admin/password_change/",
    *LISTS,
)  # fmt: skip


def upload(target: Target, browser: Browser, content: bytes, name: str = "rows.csv") -> str:
    """The address of a new upload, after all work on it has ended."""
    page = browser.post("/admin/upload/", {"record_type": "tutors"}, (name, content))
    assert page.status == 302, page.text
    progress = f"/admin/uploads/{re.findall('[0-9]+', page.location)[-1]}/progress"
    target.portal.wait_for(lambda: '"running": false' in browser.get(progress).text)
    return progress.removesuffix("progress")


def tutor_csv(*names: str, **changed: str) -> bytes:
    """Tutors of these names as CSV; `changed` replaces fields of each."""
    example = TUTORS.serializer_class.example
    text = io.StringIO()
    writer = csv.DictWriter(text, list(example))
    writer.writeheader()
    for at, name in enumerate(names):
        row = {**example, "subjects": "Algebra", "tutor_id": f"t-{at}", "name": name, **changed}
        writer.writerow(row)
    return text.getvalue().encode()


def test_no_list_answers_a_question_that_its_page_does_not_offer(
    target: Target, table: Table
) -> None:
    upload(target, target.browsers["Uploader"], tutor_csv(CANARY, age="none"))
    tries = 0
    for role in ROLES:
        browser = target.browsers[role]
        for address in LISTS:
            for field in FIELDS:
                for lookup in LOOKUPS:
                    if random.random() > count(short=2, long=100) / 100:
                        continue
                    name = f"{field}__{lookup}"
                    value = EXPONENTIAL if "regex" in lookup else CANARY
                    found = browser.get(address, {name: value})
                    other = browser.get(address, {name: f"{value}x"})
                    assert found.status == other.status != 200, (role, address, name)
                    assert found.status < 500, (role, address, name)
                    tries += 2
        assert target.is_alive()
    table.add("1, 2 questions to lists", tries, "each is refused, whatever the field holds")


def test_no_get_of_the_portal_is_answered_with_a_fault(target: Target, table: Table) -> None:
    tries = count(short=60, long=5000)
    random.seed(tries)
    browsers = [target.browsers[role] for role in ROLES]
    for _ in range(tries):
        names = random.sample(ODD_NAMES, random.randint(1, 3))
        query = {
            name: random.choice(ODD_VALUES).encode("utf-8", "replace").decode() for name in names
        }
        path = random.choice(PATHS)
        answer = random.choice(browsers).get(path, query)
        assert answer.status < 500, (path, query)
    assert target.is_alive()
    table.add("14 odd GETs of the portal", tries, "none is answered with a 5xx")


def test_a_password_is_tried_ten_times_however_many_workers_there_are(
    target: Target, table: Table
) -> None:
    tries = count(short=30, long=400)

    def sign_in(at: int) -> int:
        form = {"username": "nobody", "password": f"{PASSWORD}{at}"}
        return Browser(target.portal.address).post("/admin/login/", form).status

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(sign_in, range(tries)))
    # An attempt counts when it begins, so simultaneous attempts may be blocked a little earlier.
    assert 1 <= statuses.count(200) <= 10, statuses
    assert statuses[-8:] == [429] * 8
    assert set(statuses) == {200, 429}
    table.add("15 guessing of passwords, 8 at once", tries, f"{statuses.count(200)} are looked at")


def test_cells_of_an_error_file_start_no_formula_at_any_delimiter(
    target: Target, table: Table
) -> None:
    starts = [f"{sign}1+1" for sign in "=+-@\t\r"]
    names = [f"x{parted}{start}" for parted in ("", ";", ",", "\t", "|") for start in starts]
    browser = target.browsers["Uploader"]
    address = upload(target, browser, tutor_csv(*names, age="none"))
    # A program that splits cells at another mark ignores the quotes, and each line end ends a row.
    content = re.sub("\r\n?", "\n", browser.get(f"{address}to-fix").text)
    for delimiter in ";,\t|":
        for row in csv.reader(io.StringIO(content), delimiter=delimiter):
            for cell in row:
                assert not re.match(r"\s*[=+\-@]", cell), (delimiter, cell)
    table.add("9 formulas in cells", len(names), "no cell starts one, whatever parts the cells")


def test_a_file_made_to_cost_stops_nobody(target: Target, table: Table) -> None:
    files = hostile_files(size=count(short=1, long=10))
    browser = target.browsers["Uploader"]
    took_web = []
    with Neighbour(target) as neighbour:
        for name, content in files.items():
            began = time.monotonic()
            with ThreadPoolExecutor(4) as pool:
                sent = [
                    pool.submit(
                        browser.post, "/admin/upload/", {"record_type": ""}, (name, content)
                    )
                    for _ in range(4)
                ]
                pages = [one.result() for one in sent]
            took_web.append(time.monotonic() - began)
            assert {page.status for page in pages} <= {302, 422}, (name, pages[0].text)
            for page in pages:
                if page.status == 302:
                    number = re.findall("[0-9]+", page.location)[-1]
                    progress = f"/admin/uploads/{number}/progress"
                    target.portal.wait_for(
                        lambda at=progress: '"running": false' in browser.get(at).text
                    )
                    assert browser.get(f"/admin/uploads/{number}/").status in (200, 302)
    assert set(neighbour.statuses) == {201}
    table.add("3 files made to cost, four at once", 4 * len(files), neighbour.told)
