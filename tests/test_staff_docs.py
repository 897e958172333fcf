"""The documentation for staff: its quotations are in the portal, and its pictures exist."""

from __future__ import annotations

import re
from html import unescape

import pytest

from ingestion.portal.queues.verdicts import Verdict
from tests.browser.screenshots import IMAGES, LARGEST_BYTES, PICTURES
from tests.test_readme import PAGES, ROOT

DOCS = [ROOT / "docs" / name for name in ("uploaders.md", "operators.md")]


def _shown() -> str:
    """The words that pages are made of, in one line, without markup."""
    sources = [*(ROOT / "templates").rglob("*.html"), *(ROOT / "ingestion").rglob("*.py")]
    text = "\n".join(path.read_text() for path in sources)
    text = re.sub(r"<[^>]*>", "", re.sub(r"{% icon [^%]*%}", "", text))
    return unescape(" ".join(text.replace("{{ record_type.title }}", "session").split()))


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_every_page_button_and_label_that_is_named_is_there(page):
    # Quotations are bold; so are the beginnings of some entries, which end in a punctuation mark.
    bold = re.findall(r"\*\*([^*]+)\*\*", " ".join(page.read_text().split()))
    named = {word.strip("“”") for word in bold if word[-1] not in ".:?"}
    assert len(named) > 15
    shown = _shown()
    assert [word for word in named if word not in shown] == []


def test_every_verdict_is_explained():
    text = (ROOT / "docs" / "operators.md").read_text()
    assert [verdict for verdict in Verdict if f"| **{verdict.words}** |" not in text] == []


def test_every_picture_is_taken_by_the_script_shown_somewhere_and_small():
    shown = {
        name for page in PAGES for name in re.findall(r"images/([\w-]+)\.png", page.read_text())
    }
    assert {picture.stem for picture in IMAGES.iterdir()} == set(PICTURES) == shown
    assert all(picture.stat().st_size < LARGEST_BYTES for picture in IMAGES.iterdir())
