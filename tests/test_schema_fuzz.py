"""The API against its own OpenAPI schema: examples, edges of every rule, and random requests.

Checked for every answer: no 5xx; no status, header or body that the schema does not name; nothing
accepted that the schema forbids; nothing refused that it allows. There are four exceptions, each
below with its reason. There is no stateful phase, because no answer names an address for a next
request.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import hypothesis
import pytest
import schemathesis
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from ingestion.outcomes import FieldCode
from tests.raw_requests import without_database
from tutormax.wsgi import application

# JSON schema could say these, but nobody could read it; the fields' descriptions say them.
BETWEEN_FIELDS = {
    FieldCode.FIRST_SESSION_MISMATCH,
    FieldCode.FIRST_SESSION_ONLY,
    FieldCode.NO_SHOW_HAS_START,
}

statuses: defaultdict[str, set[int]] = defaultdict(set)


def site(environ, start_response):
    """The site as a program on this machine reaches it."""
    with without_database():
        return application({**environ, "REMOTE_ADDR": "127.0.0.1"}, start_response)


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    """NDJSON is text in the schema, and goes as it is."""
    return str(value).encode()


schema = schemathesis.openapi.from_wsgi("/openapi.json", site)


@pytest.fixture(scope="module", autouse=True)
def both_verdicts_were_reached() -> Iterator[None]:
    """Fuzzing that is always refused finds nothing, so records were accepted and refused."""
    yield
    for operation, found in statuses.items():
        if operation.startswith("POST"):
            assert {201, 422} <= found, (operation, found)
        else:
            assert 200 in found, (operation, found)


@pytest.mark.slow
@schema.parametrize()
@hypothesis.settings(
    max_examples=30,
    deadline=None,
    derandomize=True,  # a failure in CI is then caused by the change
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_the_api_does_what_its_schema_says(case, store):
    # Many cases share an Idempotency-Key: each must be validated, not refused because of its key.
    store.flushall()
    answer = case.call()
    statuses[case.operation.label].add(answer.status_code)
    excluded = []
    if answer.status_code in (207, 413):
        # By contract, the good records of a batch are queued whatever the others are. And 413 is a
        # refusal that schemathesis does not count as one.
        excluded.append(negative_data_rejection)
    if "the 'date-time' format" in (getattr(case.meta.phase.data, "description", None) or ""):
        # The format tells tools what the text is. By contract a time may have no offset, but the
        # strict definition of the format requires one.
        excluded.append(negative_data_rejection)
    if case.media_type == "application/x-ndjson":
        # OpenAPI cannot describe a single line, so any text is valid for it.
        excluded.append(positive_data_acceptance)
    if answer.status_code == 422 and codes(answer.json()["errors"]) <= BETWEEN_FIELDS:
        excluded.append(positive_data_acceptance)
    case.validate_response(answer, excluded_checks=excluded)


def codes(errors) -> set[str]:
    """The codes in the `errors` of a record or a batch."""
    nested = [codes(error["errors"]) if "errors" in error else {error["code"]} for error in errors]
    return set().union(*nested)
