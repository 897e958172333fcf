"""The documentation: the schema, and the two pages that show it, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from playwright.sync_api import Browser, Page, expect
from redis import Redis

from ingestion import embedded
from ingestion.api.schema import Described
from ingestion.outcomes import Code, FieldCode
from ingestion.records import RECORD_TYPES, RecordType
from tests.browser import tabs
from tests.browser.chromium import CHROMIUM, chromium
from tests.portal_process import Portal
from tutormax import urls

# The pages render themselves; on a busy machine that takes long.
BOUND_MS = 60_000


@pytest.fixture
def schema(client) -> dict[str, Any]:
    """The schema as a client gets it."""
    answer = client.get("/openapi.json")
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
    return answer.json()


def operations(schema) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every method of every address: `POST /api/tutors` and its description."""
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


# --- The schema --------------------------------------------------------------------------------


def test_the_schema_is_valid_openapi(schema):
    assert schema["openapi"].startswith("3.1.")
    validate_schema(schema)


def test_the_schema_is_the_same_in_yaml(client, schema):
    answer = client.get("/openapi.yaml")
    assert answer["Content-Type"].startswith("application/yaml")
    assert yaml.safe_load(answer.content) == schema
    assert client.get("/openapi.json?lang=de").status_code == 400


@pytest.mark.parametrize("path", ["/openapi.json", "/openapi.yaml"])
def test_the_schema_is_made_once_and_sent_only_to_clients_that_do_not_have_it(
    client, path, monkeypatch
):
    first = client.get(path)
    monkeypatch.setattr(SchemaGenerator, "get_schema", None)
    again = client.get(path)
    assert (again.status_code, again.content) == (200, first.content)
    assert "no-cache" in again["Cache-Control"]
    known = client.get(path, headers={"If-None-Match": first["ETag"]})
    assert (known.status_code, known.content) == (304, b"")


def test_the_schema_says_what_tools_ask_for(schema):
    assert schema["servers"] == [{"url": "/", "description": "The portal that serves this page."}]
    assert {"contact", "license"} <= schema["info"].keys()
    scheduled = schema["components"]["schemas"]["Session"]["properties"]["scheduled_start"]
    assert scheduled["format"] == "date-time"
    for name, operation in operations(schema):
        if name.startswith("POST"):
            for status, answer in operation["responses"].items():
                (media,) = answer["content"].values()
                assert media["examples"], (name, status)


def test_every_address_of_the_api_is_in_the_schema_and_no_other(schema):
    described = {
        "/" + str(pattern.pattern)
        for pattern in urls.urlpatterns
        if isinstance(getattr(getattr(pattern.callback, "cls", None), "schema", None), Described)
    }
    assert described == schema["paths"].keys()
    assert len(described) == 6 + 2 * len(RECORD_TYPES)


def test_the_examples_of_the_contract_are_those_of_the_schema(schema, record_type):
    example = dict(record_type.serializer_class.example)
    bodies = {
        path: schema["paths"][path]["post"]["requestBody"]["content"]
        for path in (f"/api/{record_type.path}", f"/api/{record_type.path}/batch")
    }
    one, many = bodies.values()
    assert [e["value"] for e in one["application/json"]["examples"].values()] == [example]
    second = example | {record_type.id_field: "another-id"}
    assert [e["value"] for e in many["application/json"]["examples"].values()] == [
        [example, second]
    ]
    (in_lines,) = many["application/x-ndjson"]["examples"].values()
    assert [json.loads(line) for line in in_lines["value"].splitlines()] == [example, second]


def test_every_example_is_what_its_schema_says(schema):
    seen = 0
    for name, operation in operations(schema):
        parts = [operation.get("requestBody", {}), *operation["responses"].values()]
        for media in (media for part in parts for media in part.get("content", {}).values()):
            for example in media.get("examples", {}).values():
                whole = media["schema"] | {"components": schema["components"]}
                validator = jsonschema.Draft202012Validator(
                    whole, format_checker=jsonschema.FormatChecker()
                )
                assert [error.message for error in validator.iter_errors(example["value"])] == [], (
                    name
                )
                seen += 1
    assert seen > 100


def test_every_default_is_what_its_schema_says(schema):
    defaults = {}
    for record_type in RECORD_TYPES.values():
        name = record_type.serializer_class.__name__.removesuffix("Serializer")
        for field, rule in schema["components"]["schemas"][name]["properties"].items():
            if "default" in rule:
                defaults[field] = rule["default"]
                whole = rule | {"components": schema["components"]}
                jsonschema.Draft202012Validator(whole).validate(rule["default"])
    assert defaults == {"status": "active", "session_type": "1-on-1", "free_text_feedback": ""}


def test_every_example_that_can_be_sent_is_accepted(schema, post, store):
    for name, operation in operations(schema):
        for media_type, media in operation.get("requestBody", {}).get("content", {}).items():
            for example in media["examples"].values():
                value = example["value"]
                body = value.encode() if isinstance(value, str) else value
                assert post(name.removeprefix("POST "), body, media_type).status_code == 201
    assert [store.llen(record_type.queue) for record_type in RECORD_TYPES.values()] == [5] * len(
        RECORD_TYPES
    )


def test_everything_is_described_for_people(schema):
    components = schema["components"]["schemas"]
    for record_type in RECORD_TYPES.values():
        fields = components[record_type.serializer_class.__name__.removesuffix("Serializer")][
            "properties"
        ]
        assert fields.keys() == record_type.serializer_class().fields.keys()
        assert all(field["description"] for field in fields.values())
    for name, operation in operations(schema):
        assert operation["summary"], name
        assert operation["description"], name
        assert all(response["description"] for response in operation["responses"].values()), name
    assert [tag["name"] for tag in schema["tags"]] == [*RECORD_TYPES, "operation"]


def test_the_closed_lists_of_codes_are_in_the_schema(schema):
    components = schema["components"]["schemas"]
    assert components["ErrorCodeEnum"]["enum"] == [code.value for code in Code]
    assert components["FieldErrorCodeEnum"]["enum"] == [code.value for code in FieldCode]


# --- The pages ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; it opens only addresses of this machine."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there: `apt-get install chromium` brings it")
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser: Browser, portal: Portal) -> Iterator[Page]:
    """A tab in which any error fails the test."""
    with tabs.opened(browser, portal.address, None) as tab:
        yield tab
        tab.wait_for_load_state("networkidle")


def queued(portal: Portal, record_type: RecordType) -> list[Any]:
    """The records on a queue of the running portal, oldest first; they are taken off."""
    with Redis.from_url(embedded.url(portal.data_dir)) as store:
        return [json.loads(message)["data"] for message in store.rpop(record_type.queue, 100) or []]


def execute(page: Page, operation: str, media_type: str | None = None) -> str:
    """Press “Try it out” and “Execute” below an operation; returns the status that is shown."""
    page.goto("/docs")
    block = page.locator(f"#operations-{operation}")
    block.locator(".opblock-summary").click()
    block.get_by_role("button", name="Try it out").click()
    if media_type:
        block.get_by_label("Request content type").select_option(media_type)
    block.get_by_role("button", name="Execute").click()
    status = block.locator(".live-responses-table .response-col_status")
    expect(status.last).to_contain_text("20")
    assert "csrf" not in block.locator(".curl").inner_text().lower()
    return status.last.inner_text().split()[0]


@pytest.mark.processes
def test_the_example_of_a_record_can_be_sent_from_swagger_ui(page, portal, record_type):
    queued(portal, record_type)
    path = record_type.path
    assert execute(page, f"{path}-send_{path}") == "201"
    assert queued(portal, record_type) == [dict(record_type.serializer_class.example)]


@pytest.mark.processes
@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
def test_the_example_of_a_batch_can_be_sent_from_swagger_ui(page, portal, media_type):
    record_type = RECORD_TYPES["tutors"]
    queued(portal, record_type)
    assert execute(page, "tutors-send_tutors_batch", media_type) == "201"
    example = dict(record_type.serializer_class.example)
    assert queued(portal, record_type) == [example, example | {"tutor_id": "another-id"}]


@pytest.mark.processes
@pytest.mark.parametrize(
    ("path", "heading"),
    [("/", "Send records"), ("/docs", "TutorMax"), ("/redoc", "Send one tutor profile")],
)
def test_a_page_shows_itself_whole_on_a_desk_and_on_a_phone(page, path, heading):
    page.goto(path)
    expect(page.get_by_role("heading", name=heading).first).to_be_visible(timeout=BOUND_MS)
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.processes
def test_the_front_page_leads_to_the_documentation(page):
    for name, address in (("Try the API", "/docs"), ("API reference", "/redoc")):
        page.goto("/")
        page.get_by_role("link", name=name).click()
        expect(page.get_by_role("heading", name="TutorMax").first).to_be_visible(timeout=BOUND_MS)
        assert page.url.endswith(address)


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_a_page_may_load_from_this_site_alone(client, path):
    policy = client.get(path)["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "script-src" not in policy  # so default-src applies to scripts: none is inline
