"""Files a little above the limits, and random files that try to break the readers."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable, Mapping

from tests.workbooks import sheet_xml, workbook

_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_ROWS = "<row><c><v>1</v></c></row>" * 20


def many_sheets(count: int, *, name: str = "s") -> bytes:
    """A workbook with this many sheets on one part."""
    entries = "".join(f'<sheet name="{name}{n}" r:id="b"/>' for n in range(count))
    return _changed({"xl/workbook.xml": f'<workbook xmlns:r="{_OFFICE}">{entries}</workbook>'})


def many_relations(count: int) -> bytes:
    """A workbook whose parts have this many relations."""
    one = "".join(
        f'<Relationship Id="x{n}" Type="{_OFFICE}/worksheet" Target="x"/>' for n in range(count)
    )
    return _changed({"xl/_rels/workbook.xml.rels": f"<r>{one}</r>"})


def many_columns(count: int) -> bytes:
    """A CSV table with this many columns."""
    names = ",".join(f"c{n}" for n in range(count))
    return f"{names}\n{names}\n".encode()


def many_values(count: int) -> bytes:
    """A JSON record with this many empty objects."""
    return b'[{"tutor_id": [' + b",".join([b"{}"] * count) + b"]}]"


def much_space(size: int) -> bytes:
    """JSON that begins with this many spaces."""
    return b'[{"tutor_id": "1"},' + b" " * size + b'{"tutor_id": "2"}]'


def odd(chance: random.Random) -> bytes:
    """A random file of any format, made of parts of such files, and then damaged."""
    return _damaged(chance.choice(_MAKERS)(chance), chance)


def _changed(parts: Mapping[str, str]) -> bytes:
    original = workbook(sheet_xml(_ROWS), texts="<sst/>")
    changed = io.BytesIO()
    with (
        zipfile.ZipFile(original) as before,
        zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as after,
    ):
        for name in before.namelist():
            after.writestr(name, parts.get(name) or before.read(name))
    return changed.getvalue()


def _damaged(content: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(chance.choice([0, 0, 1, 5])):
        at = chance.randrange(len(damaged) + 1)
        damaged[at : at + chance.randrange(4)] = chance.randbytes(chance.randrange(4))
    return bytes(damaged)


_NAMES = ("tutor_id", "session_id", "no_show", "x", "", "_line", "_problem", "#N/A", "a" * 300)
_TEXTS = (*_NAMES, "1", "-1", "1e400", "true", "=1", "\ufeff", "é", '"', ",", ";", "\n", "_xD800_")
_TYPES = ("s", "n", "b", "e", "d", "str", "inlineStr", "?", "")
_PLACES = ("A1", "B2", "XFD1", "XFE1", "a1", "1", "", "AAAAAAA1")
_NUMBERS = ("0", "1", "-1", "45000.5", "1e15", "1E+300", "nan", "inf", "x", "9" * 400, "")


def _xlsx(chance: random.Random) -> bytes:
    def cell() -> str:
        place, kind = chance.choice(_PLACES), chance.choice(_TYPES)
        at = chance.choice(["", f' r="{place}"'])
        head = f'<c{at} t="{kind}" s="{chance.choice("0129")}">'
        inner = chance.choice(
            [
                f"<v>{chance.choice(_NUMBERS)}</v>",
                f"<is><t>{_xml(chance.choice(_TEXTS))}</t></is>",
                "<f>1+1</f>",
                "<v><v>",
                "",
            ]
        )
        return f"{head}{inner}</c>"

    def row() -> str:
        number = chance.choice(["", "", "", ' r="1"', ' r="0"', ' r="1048577"', ' r="x"'])
        return f"<row{number}>{''.join(cell() for _ in range(chance.randrange(6)))}</row>"

    names = "".join(
        f'<c t="inlineStr"><is><t>{_xml(name)}</t></is></c>' for name in chance.sample(_NAMES, 4)
    )
    rows = "".join(row() for _ in range(chance.randrange(8)))
    texts = chance.choice([None, "<sst><si><t>a</t></si></sst>", "<sst><si>", "<!DOCTYPE x>"])
    return workbook(sheet_xml(f"<row>{names}</row>{rows}"), texts=texts).getvalue()


def _xml(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _csv(chance: random.Random) -> bytes:
    mark = chance.choice(",;\t|")
    lines = [mark.join(chance.choices(_TEXTS, k=chance.randrange(1, 9))) for _ in range(9)]
    text = chance.choice(["\n", "\r\n", "\r"]).join(lines)
    return text.encode(chance.choice(["utf-8", "utf-16", "utf-8-sig"]), errors="replace")


def _json(chance: random.Random) -> bytes:
    def value(depth: int = 0) -> str:
        if depth > 3 or chance.random() < 0.4:
            return chance.choice(['"x"', "1", "1e999", "NaN", "null", '"\\ud800"', "9" * 5000, "-"])
        inner = [value(depth + 1) for _ in range(chance.randrange(4))]
        if chance.random() < 0.5:
            return f"[{','.join(inner)}]"
        return "{" + ",".join(f'"{chance.choice(_NAMES)}": {one}' for one in inner) + "}"

    records = [value() for _ in range(chance.randrange(1, 6))]
    whole = chance.choice(["\n", ",\n"]).join(records)
    return (f"[{whole}]" if chance.random() < 0.5 else whole).encode()


_MAKERS: tuple[Callable[[random.Random], bytes], ...] = (_xlsx, _csv, _json)
