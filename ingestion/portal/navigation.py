"""The portal's navigation, for one person on one page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.http import HttpRequest
from django.urls import reverse

from ingestion.records import RECORD_TYPES


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """One entry. `right` is the permission that its page needs. If `home` is set, the entry also
    counts as current for all addresses below `home`."""

    title: str
    url: str
    icon: str
    right: str
    home: str = ""

    def holds(self, path: str) -> bool:
        """Whether the page at `path` belongs to this entry."""
        return path.startswith(self.home or self.url)


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """Entries under a title, each with a mark if it is the current one."""

    title: str
    links: tuple[tuple[Link, bool], ...]


def sections(request: HttpRequest) -> list[Section]:
    """The entries that the signed-in person may open, without sections that would be empty."""
    allowed = [
        (title, [link for link in links if request.user.has_perm(link.right)])
        for title, links in _all()
    ]
    # If two entries hold the page (/admin/ holds every page), the more specific one is current.
    holding = [link for _, links in allowed for link in links if link.holds(request.path)]
    present = max(holding, key=lambda link: len(link.home or link.url), default=None)
    return [
        Section(title=title, links=tuple((link, link is present) for link in links))
        for title, links in allowed
        if links
    ]


def _all() -> Iterator[tuple[str, list[Link]]]:
    view = "ingestion.view_portal"
    first = next(iter(RECORD_TYPES))
    index = reverse("admin:index")
    yield "", [Link(title="Overview", url=index, icon="overview", right=view)]
    yield (
        "Queues",
        [
            Link(
                title=path.capitalize(),
                url=reverse("admin:queue", args=[path]),
                icon="queue",
                right=view,
            )
            for path in RECORD_TYPES
        ],
    )
    yield (
        "Records",
        [
            Link(
                title="New upload",
                url=reverse("admin:upload-new"),
                icon="upload",
                right="ingestion.upload_files",
            ),
            Link(title="Uploads", url=reverse("admin:uploads"), icon="file", right=view),
            Link(
                title="Enter one record",
                url=reverse("admin:enter", args=[first]),
                icon="pencil",
                right="ingestion.enter_records",
                home=f"{index}enter/",
            ),
            Link(title="Rejections", url=reverse("admin:rejections"), icon="reject", right=view),
            Link(
                title="Field guide",
                url=reverse("admin:guide", args=[first]),
                icon="book",
                right=view,
                home=f"{index}guide/",
            ),
        ],
    )
    yield (
        "Administration",
        [
            Link(
                title="Activity",
                url=reverse("admin:ingestion_activity_changelist"),
                icon="clock",
                right=view,
            ),
            Link(
                title="Keys", url=reverse("admin:keys"), icon="key", right="ingestion.manage_keys"
            ),
            Link(
                title="Accounts",
                url=reverse("admin:auth_user_changelist"),
                icon="people",
                right="auth.view_user",
                home=f"{index}auth/",
            ),
        ],
    )
