"""Where a record came in, as the text of the contract and as a value."""

from __future__ import annotations

import pytest

from ingestion.sources import COMMAND, Source, before_line, parse

TEXTS = {
    "api:crm": Source(client="crm"),
    "upload:12": Source(upload=12),
    "upload:12#345": Source(upload=12, line=345),
    "command": COMMAND,
}


@pytest.mark.parametrize("text", TEXTS)
def test_the_text_of_a_source_is_the_contract_s_and_is_read_back(text):
    assert str(TEXTS[text]) == text
    assert parse(text) == TEXTS[text]


@pytest.mark.parametrize(
    "text",
    ["", "x", "api", "upload:", "upload:x", "upload:7#", "upload:07", "upload:7#1 ", "commands"],
)
def test_a_text_of_another_program_is_no_source(text):
    assert parse(text) is None


def test_a_client_named_like_an_upload_is_none():
    assert parse("api:upload:4#1") == Source(client="upload:4#1")


def test_the_rows_of_an_upload_are_known_by_the_beginning_of_their_source():
    assert str(Source(upload=4, line=1)).startswith(before_line(4))
    assert not str(Source(upload=44, line=1)).startswith(before_line(4))
