"""None of our patterns can take exponential time, and none is made of what people typed."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from re import _constants as sre
from re import _parser
from typing import Any

import ingestion

ROOT = Path(ingestion.__file__).parent
REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT)


def patterns() -> Iterator[tuple[str, re.Pattern[Any]]]:
    """Every pattern that stands in a module of the product."""
    for module in pkgutil.walk_packages(ingestion.__path__, "ingestion."):
        if ".migrations" in module.name:
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, re.Pattern):
                yield f"{module.name}.{name}", value


def repeats_inside(parsed: Any, *, within: bool = False) -> bool:
    """Whether an unlimited repeat is inside another one, which may cost exponential time."""
    for code, argument in parsed:
        endless = code in REPEATS and argument[1] == sre.MAXREPEAT
        if within and endless:
            return True
        inner = [part for part in _parts(argument) if isinstance(part, _parser.SubPattern)]
        if any(repeats_inside(part, within=within or endless) for part in inner):
            return True
    return False


def _parts(argument: Any) -> Iterator[Any]:
    if isinstance(argument, tuple | list) and not isinstance(argument, _parser.SubPattern):
        for one in argument:
            yield from _parts(one)
    else:
        yield argument


def test_no_unlimited_repeat_is_inside_another() -> None:
    found = dict(patterns())
    assert len(found) > 15
    evil = re.compile("^(([0-9a-f])+)+x$")
    assert repeats_inside(_parser.parse(evil.pattern))
    bad = [name for name, one in found.items() if repeats_inside(_parser.parse(one.pattern))]
    assert bad == []


def test_no_pattern_is_made_while_a_request_is_answered() -> None:
    """Patterns are compiled when modules are imported; a call in a function uses a literal."""
    call = re.compile(r"\bre\.(?:compile|search|match|fullmatch|sub|split|findall)\(\s*[rbf]*(\S)")
    for file in ROOT.rglob("*.py"):
        for found in call.finditer(file.read_text()):
            line = file.read_text()[: found.start()].rpartition("\n")[2]
            at_import = not line.startswith(" ")
            assert at_import or found[1] in "\"'", f"{file.name}: {found[0]}"
    lookups = re.compile(r"__i?regex\b")
    assert [file.name for file in ROOT.rglob("*.py") if lookups.search(file.read_text())] == []
