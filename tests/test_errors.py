"""All errors have the same form, and their words are a closed, documented list."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import path

from ingestion.api.errors import error
from ingestion.api.views import View
from ingestion.outcomes import Code, FieldCode, FieldError
from tests.raw_requests import send
from tutormax import urls
from tutormax.urls import handler400, handler403, handler404, handler500  # noqa: F401

DOCUMENT = Path(__file__).parent.parent / "docs" / "errors.md"
SECRET = "canary-2718281828"


class FailingView(View):
    """An address of the API that raises an error of ours."""

    def get(self, request):
        raise RuntimeError(SECRET)


def failing_page(request) -> HttpResponse:
    """A plain Django view that raises an error of ours."""
    raise RuntimeError(SECRET)


# The site with these two addresses, for the test that uses them.
urlpatterns = [
    path("fails/api", FailingView.as_view()),
    path("fails/page", failing_page),
    *urls.urlpatterns,
]


def assert_is_error(status: int, headers, body, code: Code) -> None:
    """The whole contract of an error, for any request."""
    assert status == code.status
    assert headers["Content-Type"] == "application/json"
    assert set(body) - {"errors", "outcome"} == {
        "success",
        "error",
        "code",
        "timestamp",
        "request_id",
    }
    assert body["success"] is False
    assert body["code"] == code
    assert body["error"].startswith(code.sentence)
    assert body["request_id"] == headers["X-Request-ID"]
    assert body["timestamp"].endswith("Z")
    datetime.fromisoformat(body["timestamp"])


@pytest.mark.parametrize(
    ("method", "address", "code"),
    [
        ("GET", "/nothing", Code.NOT_FOUND),
        ("POST", "/api", Code.NOT_FOUND),
        ("POST", "/api/", Code.NOT_FOUND),
        ("POST", "/api/tutors/", Code.NOT_FOUND),
        ("POST", "/api/Tutors", Code.NOT_FOUND),
        ("POST", "//api/tutors", Code.NOT_FOUND),
        ("POST", "/api/feedbacks", Code.NOT_FOUND),
        ("BREW", "/api/coffee", Code.NOT_FOUND),
        ("GET", "/static/nothing.js", Code.NOT_FOUND),
        ("GET", "/openapi.json/", Code.NOT_FOUND),
        ("GET", "*", Code.NOT_FOUND),
        ("GET", "/\xff\r\n<script>", Code.NOT_FOUND),
        ("POST", "/api/tutors", Code.UNSUPPORTED_MEDIA_TYPE),
    ],
)
def test_an_error_has_the_one_shape(store, method, address, code):
    answer = send(method, address, CONTENT_TYPE="")
    assert_is_error(answer.status, answer.headers, answer.json(), code)
    assert "script" not in answer.content.decode()


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("/", "GET, HEAD"),
        ("/health", "GET, HEAD"),
        ("/health/live", "GET, HEAD"),
        ("/health/ready", "GET, HEAD"),
        ("/metrics", "GET, HEAD"),
        ("/api/queue/stats", "GET, HEAD"),
        ("/docs", "GET, HEAD"),
        ("/redoc", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
        ("/openapi.yaml", "GET, HEAD"),
        ("/api/tutors", "POST"),
        ("/api/tutors/batch", "POST"),
    ],
)
def test_a_method_that_an_address_does_not_know_is_405_with_those_that_it_does(
    client, store, address, allowed
):
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"):
        answer = client.generic(method, address)
        if method in allowed:
            assert answer.status_code != 405
            continue
        assert_is_error(answer.status_code, answer.headers, answer.json(), Code.METHOD_NOT_ALLOWED)
        assert answer["Allow"] == allowed


@pytest.mark.parametrize("host", ["evil.example", "localhost:x", "a b", "localhost@evil.example"])
def test_a_host_that_is_not_ours_is_a_malformed_request(client, host):
    answer = client.get("/health", headers={"Host": host})
    assert_is_error(answer.status_code, answer.headers, answer.json(), Code.MALFORMED_REQUEST)
    assert host not in answer.text
    assert answer.json()["error"].startswith("The request is malformed. Its Host header")


@pytest.mark.parametrize("address", ["/fails/api", "/fails/page"])
@pytest.mark.urls("tests.test_errors")
def test_a_fault_of_ours_is_a_plain_500_and_its_place_is_in_the_log(address, log):
    answer = Client(raise_request_exception=False).get(address)
    assert_is_error(answer.status_code, answer.headers, answer.json(), Code.INTERNAL_ERROR)
    assert SECRET not in answer.text
    assert "Traceback" not in answer.text
    assert len([line for line in log() if "[error" in line]) == 1
    assert len([line for line in log() if "raised='RuntimeError " in line]) == 1
    assert SECRET not in "".join(log())


def test_an_outage_is_no_fault_of_ours_and_leaves_no_further_error_in_the_log(
    no_store, client, log
):
    assert client.get("/api/queue/stats").status_code == 503
    assert any("status=503" in line for line in log())
    assert not [line for line in log() if "[error" in line]


def told(code: Code, **facts: Any) -> Any:
    return msgspec.to_builtins(error(code, request_id="x", **facts))


def test_an_unknown_outcome_is_told():
    document = told(Code.STORE_ANSWER_LOST, outcome_unknown=True)
    assert document["outcome"] == "unknown"
    assert "nothing was queued" not in document["error"]


def test_an_error_without_fields_at_fault_has_no_list_of_them():
    assert "errors" not in told(Code.QUEUE_FULL)
    fault = FieldError(field=None, code=FieldCode.REQUIRED, message="m")
    document = told(Code.INVALID_RECORD, errors=[fault])
    assert document["errors"] == [{"field": None, "code": "required", "message": "m"}]


# --- The closed list ---------------------------------------------------------------------------


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading of the document."""
    section = DOCUMENT.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("code", Code)
def test_every_code_has_its_status_and_sentence(code):
    assert code.status >= 400
    assert re.fullmatch(r"[A-Z].*[.:)]", code.sentence)


@pytest.mark.parametrize("code", [code for code in Code if re.match("store_|queue_", code)])
def test_every_fault_of_the_store_is_told_to_staff_in_one_sentence_without_advice(code):
    assert re.fullmatch(r"[A-Z][^.]*\.", code.for_staff)


@pytest.mark.parametrize("code", FieldCode)
def test_every_code_of_a_field_has_its_advice(code):
    assert re.fullmatch(r"[A-Z].*\.", code.advice)


def test_the_codes_of_a_request_are_documented_with_status_and_sentence():
    assert [row[:3] for row in rows("Codes of a request")] == [
        [f"`{code}`", str(code.status.value), code.sentence] for code in Code
    ]
    assert all(advice for *_, advice in rows("Codes of a request"))


def test_the_codes_of_a_field_are_documented_with_their_meaning():
    assert [row[0] for row in rows("Codes of a field")] == [f"`{code}`" for code in FieldCode]
    assert all(meaning for _, meaning in rows("Codes of a field"))
