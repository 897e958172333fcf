"""For any text in a file, the database stores what is found: SQLite and PostgreSQL alike.

SQLite accepts text that PostgreSQL refuses, so PostgreSQL is tested too if it is installed. `make
test-matrix` tests whole uploads on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.models import FoundText
from tests import postgres
from tests.record_types import SESSIONS
from tests.uploading import counts, error_file, read

EXAMPLE = {**SESSIONS.serializer_class.example, "duration_minutes": 999}

texts = st.one_of(
    st.sampled_from(["\x00", "\\u0000", "\\\x00", "\ud83d", "\ude00", "😀", "\\ud83d", "\ufffd"]),
    st.text(st.sampled_from("\\u0d83é\x00\ud83d\ude00"), max_size=8),
)


values = st.recursive(texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner))


@pytest.fixture(scope="module")
def postgresql() -> Iterator[psycopg.Cursor]:
    """A server of PostgreSQL, as it is installed here."""
    programs = postgres.programs()
    assert programs is not None
    with (
        postgres.running(programs) as url,
        psycopg.connect(url, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        yield cursor


@pytest.mark.slow
@given(values)
@settings(max_examples=200, deadline=None)
def test_what_no_database_keeps_is_replaced_and_nothing_else(value: Any) -> None:
    encoder = FoundText().encoder
    assert encoder is not None
    kept = json.loads(json.dumps(value, cls=encoder))

    def replaced(text: str) -> str:
        # Two halves that stand side by side are one character in JSON.
        joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return joined.replace("\x00", "\ufffd")

    def walk(one: Any) -> Any:
        if isinstance(one, str):
            return replaced(one)
        if isinstance(one, list):
            return [walk(inner) for inner in one]
        return {replaced(name): walk(inner) for name, inner in one.items()}

    assert kept == walk(value)
    json.dumps(kept, ensure_ascii=False).encode()


def as_csv(bad: bytes, *, header: bytes = b"note") -> bytes:
    names = [*map(str.encode, EXAMPLE), header]
    cells = [*(str(value).encode() for value in EXAMPLE.values()), bad]
    return b"\xef\xbb\xbf" + b"\n".join([b";".join(names), b";".join(cells), b";".join(cells), b""])


ODD_FILES = {
    "NUL in a cell": as_csv(b"a\x00b"),
    "NUL in a name": as_csv(b"x", header=b"a\x00b"),
    "no UTF-8 in a cell": as_csv(b"a\xff\xfeb"),
    "no UTF-8 in a name": as_csv(b"x", header=b"a\xffb"),
    "half a pair in UTF-16": as_csv(b"aQb")
    .decode("utf-8-sig")
    .replace("Q", "\ud83d")
    .encode("utf-16", "surrogatepass"),
    "NUL in JSON": json.dumps([{**EXAMPLE, "subject": "a\x00"}, EXAMPLE]).encode(),
    "half a pair in JSON": json.dumps([{**EXAMPLE, "subject": "a\ud83d"}, EXAMPLE]).encode(),
    "half a pair in a name": json.dumps([{**EXAMPLE, "\ud83d\x00": "\udc00"}, EXAMPLE]).encode(),
    "NUL in NDJSON": b"\n".join(
        json.dumps({**EXAMPLE, "no_show": word}).encode() for word in ("\x00", True)
    ),
    "1e999": json.dumps([EXAMPLE, EXAMPLE]).replace("0.92", "1e999").encode(),
}


@pytest.mark.processes
@pytest.mark.django_db
@pytest.mark.parametrize("name", ODD_FILES)
def test_a_row_with_text_that_no_database_keeps_is_one_refused_row(name: str) -> None:
    upload = read(ODD_FILES[name], SESSIONS)
    assert (upload.state, upload.failure) == ("review", "")
    assert counts(upload) == (0, 2, 0, 0)
    child = read(error_file(upload), SESSIONS)
    assert counts(child) == (0, 2, 0, 0)
    assert child.parent == upload


@pytest.mark.processes
@pytest.mark.skipif(postgres.programs() is None, reason="PostgreSQL is not installed")
@given(values=st.lists(values, min_size=20, max_size=40))
@settings(max_examples=5, deadline=None)
def test_postgresql_keeps_what_is_found(values: list[Any], postgresql: psycopg.Cursor) -> None:
    for value in values:
        text = json.dumps(value, cls=FoundText().encoder)
        (kept,) = postgresql.execute("SELECT %s::jsonb", [text]).fetchone() or [None]
        assert kept == json.loads(text)


@pytest.mark.processes
@pytest.mark.skipif(postgres.programs() is None, reason="PostgreSQL is not installed")
@pytest.mark.parametrize("text", ["\x00", "\ud83d"])
def test_without_that_postgresql_refuses_it(text: str, postgresql: psycopg.Cursor) -> None:
    with pytest.raises(psycopg.DataError):
        postgresql.execute("SELECT %s::jsonb", [json.dumps(text)])
