"""One portal for the attacks of a module, with two web workers and a store that has accounts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.attacker import Target, attacked
from tests.attacks.table import LONG, Table


def pytest_itemcollected(item: pytest.Item) -> None:
    """Each test here starts processes."""
    item.add_marker("processes")


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    """Where an attack notes its result; `make attacks` writes all of them into the docs."""
    noted = Table()
    yield noted
    if LONG and not request.config.option.keyword and not request.session.testsfailed:
        noted.write()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The portal that is attacked."""
    with attacked(tmp_path_factory.mktemp("attacked")) as started:
        yield started
