"""One table for all campaigns of a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.figures import LONG, Figures


def pytest_itemcollected(item: pytest.Item) -> None:
    """Each test here starts processes."""
    item.add_marker("processes")


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Iterator[Figures]:
    """Where a campaign notes its result; `make faults` writes all of them into the docs."""
    noted = Figures()
    yield noted
    # A part of the campaigns, or a run with a failure, gives no table to publish.
    if LONG and not request.config.option.keyword and not request.session.testsfailed:
        noted.write()
