"""An attacker's tools, and the portal that is attacked. Everything goes to 127.0.0.1."""

from __future__ import annotations

import http.cookiejar
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
from redis import Redis

from tests.portal_process import ROOT, Portal, running_portal
from tests.record_types import TUTORS
from tests.store_servers import DURABLE, Server

PASSWORD = "correct horse battery"
STORE_ACCOUNT = "portal"
ROLES = ("Viewer", "Uploader", "Operator", "Admin")

_ACCOUNTS = f"""
from django.contrib.auth.models import Group, User
for role in {ROLES!r}:
    user = User.objects.create_user('the-' + role.lower(), password={PASSWORD!r}, is_staff=True)
    user.groups.add(Group.objects.get(name=role))
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A running portal with two web workers, an account of each role, and its store."""

    portal: Portal
    store: Redis
    # Sign in first: an attack may block this address.
    browsers: dict[str, Browser] = field(default_factory=dict)

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """A `manage.py` command on the portal's data; its output is captured."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tutormax.settings",
                "DATA_DIR": str(self.portal.data_dir),
            },
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def queued(self) -> Counter[str]:
        """The ids of all tutors on the queue."""
        found: Any = self.store.lrange(TUTORS.queue, 0, -1)
        return Counter(re.search(rb'"tutor_id":"([^"]+)"', one)[1].decode() for one in found)

    def is_alive(self) -> bool:
        """Whether the web server answers at all."""
        return self.portal.get("/health/live").status == 200

    def sign_in(self) -> None:
        """Sign in an account of each role."""
        for role in ROLES:
            self.browsers[role] = browser = Browser(self.portal.address)
            form = {"username": f"the-{role.lower()}", "password": PASSWORD}
            assert browser.post("/admin/login/", form).status == 302


@contextmanager
def attacked(folder: Path, **environment: str) -> Iterator[Target]:
    """A portal to be attacked; it ends with the block.

    At first its account at the store may do everything; an attack may take rights away.
    """
    server = Server(folder / "store", **DURABLE, **{"maxmemory-policy": "noeviction"})
    try:
        server.client.acl_setuser(
            STORE_ACCOUNT, enabled=True, nopass=True, keys=["*"], commands=["+@all"]
        )
        with running_portal(
            folder / "var",
            REDIS_URL=f"redis://{STORE_ACCOUNT}:any@127.0.0.1:{server.port}/0",
            **{"WEB_WORKERS": "2", **environment},
        ) as portal:
            target = Target(portal=portal, store=server.client)
            made = target.run("shell", "-v", "0", "-c", _ACCOUNTS)
            assert made.returncode == 0, made.stderr
            target.sign_in()
            yield target
    finally:
        server.close()


class Browser:
    """A session with the portal: cookies, and the token of its forms."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(self._cookies), _Kept()
        )

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Page:
        """GET, without following redirects."""
        return self._open(path + (f"?{urlencode(query)}" if query else ""))

    def post(
        self, path: str, fields: Mapping[str, str], file: tuple[str, bytes] | None = None
    ) -> Page:
        """POST a form as its page would send it, with `file` in the field of that name."""
        self.get("/admin/login/")  # sets the cookie if there is none yet
        token = next(one.value or "" for one in self._cookies if one.name == "csrftoken")
        form: dict[str, Any] = {**fields, "csrfmiddlewaretoken": token}
        if file is not None:
            form["file"] = file
            content, kind = urllib3.encode_multipart_formdata(form)
        else:
            content, kind = urlencode(form).encode(), "application/x-www-form-urlencoded"
        return self._open(path, content, {"Content-Type": kind})

    def _open(
        self, path: str, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Page:
        request = urllib.request.Request(  # noqa: S310 (the portal of this test)
            self._address + path, content, dict(headers or {})
        )
        with self._opener.open(request, timeout=30) as answer:
            return Page(
                status=answer.status,
                text=answer.read().decode(),
                location=answer.headers.get("Location", ""),
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """The answer that a browser got."""

    status: int
    text: str
    location: str


class _Kept(urllib.request.HTTPErrorProcessor):
    """Every answer is returned: no redirect is followed, and no status raises."""

    def http_response(self, request: Any, response: Any) -> Any:
        return response

    https_response = http_response


class Neighbour:
    """An honest client that sends a record now and then while others attack.

    `waits` holds the seconds of each of its requests; `statuses` counts its answers.
    """

    def __init__(self, target: Target, key: str = "") -> None:
        self._url = f"{target.portal.address}/api/tutors"
        self._headers = {"Authorization": f"Api-Key {key}"} if key else {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self.waits: list[float] = []
        self.statuses: Counter[int] = Counter()

    def __enter__(self) -> Neighbour:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(60)

    @property
    def told(self) -> str:
        """The results of its requests, in words."""
        slowest = max(self.waits) * 1000
        return (
            f"its neighbour's {len(self.waits)} records were taken, the slowest in {slowest:.0f} ms"
        )

    def _send(self) -> None:
        with urllib3.PoolManager(retries=False, timeout=30) as pool:
            while not self._stopping.wait(0.05):
                record = {**TUTORS.serializer_class.example, "tutor_id": f"n-{len(self.waits)}"}
                began = time.monotonic()
                answer = pool.request("POST", self._url, json=record, headers=self._headers)
                self.waits.append(time.monotonic() - began)
                self.statuses[answer.status] += 1
