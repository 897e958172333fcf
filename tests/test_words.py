"""Nobody uses words that the glossary rules out, or phrases that are hard to read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLACES = ("*.md", *(f"{folder}/**/*" for folder in ("docs", "ingestion", "templates", "tests")))
PLACES += ("tutormax/**/*",)
SUFFIXES = {".html", ".lua", ".md", ".py"}
OURS = Path(__file__).resolve()


def _texts() -> Iterator[tuple[Path, str]]:
    for place in PLACES:
        for path in ROOT.glob(place):
            if path.suffix in SUFFIXES and path.is_file() and path.resolve() != OURS:
                yield path, path.read_text()


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        ("he|him|his|himself|she|her|hers|herself", "they, them, their"),
        ("blacklist|whitelist", "refused, allowed"),
        (r"can[ _\n]not", "cannot"),
        (r"of\s+late", "lately"),
        (r"(?:nothing|empty|set|none|true|false)\s+where", "if"),
        ("whoever|befall|befalls", "who, anybody who, happen to"),
        (r"this\s+once|why\s+ever|be\s+it|lest", "everyday words"),
        (r"keeps?[\s_]+house", "housekeeping"),
    ],
)
def test_a_word_that_we_do_not_use_is_nowhere(words: str, instead: str) -> None:
    # A name such as `what_he_may` consists of words too.
    ruled_out = re.compile(rf"(?<![^\W_])(?:{words})(?![^\W_])", re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
        for path, text in _texts()
        for match in ruled_out.finditer(text)
    ]
    assert not found, f"say {instead}: {found}"
