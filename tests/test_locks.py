"""The lock files match the short lists; `make lock` creates them again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_PIN = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[a-z]+\])?==([^\s;\\]+)", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    """Package and version of every line of a list or a lock."""
    found = _PIN.findall((ROOT / name).read_text())
    return {re.sub(r"[-_.]+", "-", package).lower(): version for package, version in found}


@pytest.mark.parametrize("name", ["requirements", "requirements-dev"])
def test_a_lock_holds_everything_that_its_list_asks_for(name):
    asked = pins(f"{name}.txt")
    assert len(asked) > 10
    locked = pins(f"{name}.lock")
    assert asked.items() <= locked.items()


def test_tests_run_on_the_packages_that_production_gets():
    assert pins("requirements.lock").items() <= pins("requirements-dev.lock").items()


@pytest.mark.parametrize("name", ["requirements", "requirements-dev"])
def test_every_locked_package_has_its_hashes(name):
    text = (ROOT / f"{name}.lock").read_text()
    for one in re.split(r"\n(?=\S)", text):
        if _PIN.match(one):
            assert "--hash=sha256:" in one, one
