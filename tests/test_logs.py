"""What a log line may hold: named fields of our own events; no values of other libraries."""

from __future__ import annotations

import ast
import json
import logging
import re
from pathlib import Path

import pytest
import structlog

from tests.test_request_log import CANARY
from tutormax.logs import FIELDS, logging_config

ROOT = Path(__file__).parent.parent
HOSTILE = "a\nb\r\x1b[2J\x00\x7f\x85\x9b\u2028\u2029\u202e\u2066\u200f\ud800"


def raised(text: str, cause: str) -> Exception:
    """An exception that was raised and caught."""
    try:
        try:
            raise KeyError(cause)
        except KeyError as fault:
            raise ValueError(text) from fault
    except ValueError as caught:
        return caught


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("name", ["django.template", "some.library", "ingestion.by_hand"])
def test_a_foreign_line_tells_who_and_where_and_no_value(log, as_json, name):
    formatter = logging_config(level="DEBUG", as_json=as_json)["formatters"]["events"]
    kind = formatter.pop("()")
    record = logging.getLogger(name).makeRecord(
        name,
        logging.ERROR,
        "/usr/lib/python3/site-packages/some/library/deep.py",
        12,
        f"{CANARY} %s %d",
        (HOSTILE, CANARY),  # these do not even fit the message
        (ValueError, raised(CANARY, CANARY), None),
        sinfo=CANARY,
        extra={CANARY: CANARY},
    )
    line = kind(**formatter).format(record)
    assert CANARY not in line
    for part in (name, "error", "some/library/deep.py:12", "ValueError", "KeyError"):
        assert part in line
    assert "tests/test_logs.py:" in line
    assert line.isprintable()


@pytest.mark.parametrize("as_json", [False, True])
def test_our_own_lines_hold_named_fields_alone_and_stay_one_line(as_json):
    formatter = logging_config(level="DEBUG", as_json=as_json)["formatters"]["events"]
    kind = formatter.pop("()")
    handler = logging.Handler()
    lines = []
    handler.emit = lambda record: lines.append(  # type: ignore[method-assign]
        handler.format(record)
    )
    handler.setFormatter(kind(**formatter))
    plain = logging.getLogger("ingestion.test_logs")
    plain.addHandler(handler)
    try:
        structlog.get_logger("ingestion.test_logs").error(
            "thing_failed", path=HOSTILE, student=CANARY, exc_info=raised(CANARY, CANARY)
        )
    finally:
        plain.removeHandler(handler)
    (line,) = lines
    assert CANARY not in line
    assert "student" not in line
    assert line.isprintable()
    assert "thing_failed" in line
    assert re.search(r"ValueError .*tests/test_logs.py:\d+.* from KeyError", line)
    if as_json:
        assert json.loads(line)["path"].startswith("a")


def test_the_pages_of_staff_leave_no_value_at_any_level(store, operator, log, caplog, record_type):
    record = dict.fromkeys(record_type.serializer_class.example, CANARY)
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, logger="django"):
        operator.post(f"/admin/enter/{record_type.path}/", record)
        operator.post(f"/api/{record_type.path}", record, content_type="application/json")
        for page in ("", "uploads/", "rejections/", "activity/", "upload/", "keys/", f"{CANARY}/"):
            operator.get(f"/admin/{page}?q={CANARY}", follow=True)
    assert any("logger=django.template" in line or "django.template]" in line for line in log())
    assert CANARY not in "".join(log())
    assert all(line.isprintable() for line in log())


def test_every_event_is_a_word_and_its_fields_are_listed():
    for file in [*(ROOT / "ingestion").rglob("*.py"), *(ROOT / "tutormax").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            target = ast.unparse(node.func)
            if re.fullmatch(r"logger\.(debug|info|warning|error|exception|critical)", target):
                (event,) = node.args
                assert isinstance(event, ast.Constant), f"{file}:{node.lineno}"
                assert re.fullmatch("[a-z_]+", str(event.value)), f"{file}:{node.lineno}"
            elif not target.endswith("log_facts.update"):
                continue
            for keyword in node.keywords:
                assert keyword.arg in {*FIELDS, "exc_info", None}, (
                    f"{file}:{node.lineno}: list {keyword.arg} in tutormax.logs.FIELDS if it is a "
                    "count, an id or a word of ours"
                )
