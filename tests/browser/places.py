"""Every page of the portal: its name, who opens it, and how."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from playwright.sync_api import Page

from tests.browser.school import School


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A page in one of its states: `page` is the name of its address in `ingestion.portal.urls`.

    `path` may be filled from `School.uploads` and `School.rejections`. `act` continues from there.
    """

    page: str
    name: str
    person: str | None
    path: str
    act: Callable[[Page], object] = lambda _: None

    def open(self, tab: Page, school: School) -> None:
        """Go there in a tab in which the right person is signed in."""
        tab.goto(self.path.format(**school.uploads, rejection=school.rejections["sessions"]))
        self.act(tab)


def press(name: str) -> Callable[[Page], None]:
    """Press the first button whose name begins with this text."""
    return lambda tab: tab.get_by_role("button", name=re.compile(f"^{name}")).first.click()


def _choose_and(button: str) -> Callable[[Page], None]:
    """Choose the first message and press a button for it."""

    def act(tab: Page) -> None:
        tab.get_by_role("checkbox", name=re.compile("^Select (?!all)")).first.check()
        press(button)(tab)

    return act


def _sign_in_wrongly(tab: Page) -> None:
    tab.get_by_label("Username").fill("uma")
    tab.get_by_label("Password").fill("a guess")
    press("Sign in")(tab)


def _sign_out(tab: Page) -> None:
    press("leo")(tab)
    press("Sign out")(tab)


def _make_key(tab: Page) -> None:
    tab.get_by_label("Name of the client").fill("crm-sync")
    tab.get_by_role("checkbox").first.check()
    press("Create the key")(tab)


PLACES = (
    Place(page="login", name="sign-in", person=None, path="/admin/"),
    Place(page="login", name="sign-in-refused", person=None, path="/admin/", act=_sign_in_wrongly),
    Place(
        page="logout", name="signed-out", person="leo", path="/admin/guide/tutors/", act=_sign_out
    ),
    Place(page="password_change", name="password", person="uma", path="/admin/password_change/"),
    Place(
        page="password_change_done",
        name="password-changed",
        person="uma",
        path="/admin/password_change/done/",
    ),
    Place(page="index", name="overview", person="uma", path="/admin/"),
    Place(page="queue", name="queue", person="otto", path="/admin/queues/sessions/"),
    Place(page="queue", name="queue-viewer", person="vera", path="/admin/queues/tutors/"),
    Place(page="queue", name="queue-paused", person="otto", path="/admin/queues/feedback/"),
    Place(
        page="queue",
        name="queue-not-found",
        person="otto",
        path="/admin/queues/sessions/?id=nobody",
    ),
    Place(
        page="queue-message",
        name="message",
        person="otto",
        path="/admin/queues/sessions/",
        act=press("Show the message of"),
    ),
    Place(page="queue-pause", name="pause", person="otto", path="/admin/queues/sessions/pause/"),
    Place(page="queue-resume", name="resume", person="otto", path="/admin/queues/feedback/resume/"),
    Place(
        page="queue-discard",
        name="discard",
        person="otto",
        path="/admin/queues/sessions/",
        act=_choose_and("Discard selected"),
    ),
    Place(
        page="dead-letters",
        name="dead-letters",
        person="otto",
        path="/admin/queues/sessions/dead/",
    ),
    Place(
        page="dead-letters",
        name="dead-letters-viewer",
        person="vera",
        path="/admin/queues/sessions/dead/?order=newest",
    ),
    Place(
        page="dead-letters",
        name="dead-letters-none",
        person="otto",
        path="/admin/queues/tutors/dead/",
    ),
    Place(
        page="dead-letter",
        name="dead-letter",
        person="otto",
        path="/admin/queues/sessions/dead/",
        act=press("Show why"),
    ),
    Place(
        page="dead-put-back",
        name="dead-put-back",
        person="otto",
        path="/admin/queues/sessions/dead/",
        act=_choose_and("Put selected back"),
    ),
    Place(
        page="dead-put-all-back",
        name="dead-put-all-back",
        person="otto",
        path="/admin/queues/sessions/dead/put-all-back/",
    ),
    Place(
        page="dead-discard",
        name="dead-discard",
        person="otto",
        path="/admin/queues/sessions/dead/",
        act=_choose_and("Discard selected"),
    ),
    Place(page="upload-new", name="upload-new", person="uma", path="/admin/upload/"),
    Place(
        page="upload-new",
        name="upload-refused",
        person="uma",
        path="/admin/upload/",
        act=press("Upload and check"),
    ),
    Place(page="upload-check", name="check", person="uma", path="/admin/uploads/{check}/check/"),
    Place(page="upload", name="review", person="uma", path="/admin/uploads/{review}/"),
    Place(page="upload", name="upload-done", person="uma", path="/admin/uploads/{done}/"),
    Place(page="upload", name="upload-recall", person="otto", path="/admin/uploads/{done}/"),
    Place(page="upload", name="upload-waiting", person="uma", path="/admin/uploads/{queueing}/"),
    Place(page="upload", name="upload-failed", person="uma", path="/admin/uploads/{failed}/"),
    Place(page="upload", name="upload-cancelled", person="uma", path="/admin/uploads/{cancelled}/"),
    Place(page="upload-fix", name="fix", person="uma", path="/admin/uploads/{review}/fix/"),
    Place(page="uploads", name="uploads", person="uma", path="/admin/uploads/"),
    Place(
        page="ingestion_upload_changelist",
        name="uploads-none",
        person="uma",
        path="/admin/ingestion/upload/?q=nothing",
    ),
    Place(page="enter", name="enter", person="uma", path="/admin/enter/sessions/"),
    Place(
        page="enter",
        name="enter-refused",
        person="uma",
        path="/admin/enter/tutors/",
        act=press("Queue this"),
    ),
    Place(page="guide", name="guide", person="uma", path="/admin/guide/sessions/"),
    Place(
        page="guide",
        name="guide-tried",
        person="uma",
        path="/admin/guide/feedback/",
        act=press("Validate"),
    ),
    Place(page="rejections", name="rejections", person="uma", path="/admin/rejections/"),
    Place(page="rejection", name="rejection", person="uma", path="{rejection}"),
    Place(
        page="rejection-show",
        name="rejection-shown",
        person="uma",
        path="{rejection}",
        act=press("Show$"),
    ),
    Place(page="keys", name="keys", person="ada", path="/admin/keys/"),
    Place(page="key-new", name="key-new", person="ada", path="/admin/keys/new/"),
    Place(
        page="key-new",
        name="key-refused",
        person="ada",
        path="/admin/keys/new/",
        act=press("Create the key"),
    ),
    Place(page="key-new", name="key-shown", person="ada", path="/admin/keys/new/", act=_make_key),
    Place(page="key-rotate", name="key-rotate", person="ada", path="/admin/keys/clients/1/rotate/"),
    Place(page="key-revoke", name="key-revoke", person="ada", path="/admin/keys/1/revoke/"),
    Place(
        page="ingestion_activity_changelist",
        name="activity",
        person="otto",
        path="/admin/ingestion/activity/",
    ),
    Place(page="auth_user_changelist", name="accounts", person="ada", path="/admin/auth/user/"),
    Place(page="auth_user_add", name="account-new", person="ada", path="/admin/auth/user/add/"),
    Place(page="auth_user_change", name="account", person="ada", path="/admin/auth/user/3/change/"),
    Place(
        page="auth_user_history",
        name="account-history",
        person="ada",
        path="/admin/auth/user/3/history/",
    ),
    Place(
        page="auth_user_password_change",
        name="account-password",
        person="ada",
        path="/admin/auth/user/3/password/",
    ),
    Place(
        page="auth_user_delete",
        name="account-delete",
        person="ada",
        path="/admin/auth/user/6/delete/",
    ),
    Place(page="auth_group_changelist", name="groups", person="ada", path="/admin/auth/group/"),
    Place(page="auth_group_change", name="group", person="ada", path="/admin/auth/group/1/change/"),
    Place(
        page="auth_group_history",
        name="group-history",
        person="ada",
        path="/admin/auth/group/1/history/",
    ),
    Place(page="", name="forbidden", person="vera", path="/admin/keys/"),
    Place(page="", name="not-found", person="vera", path="/admin/nowhere/"),
)
