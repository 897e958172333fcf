"""Files that are small to send and expensive to read; made here, so the project holds none."""

from __future__ import annotations

import io
import zipfile

from tests.workbooks import sheet_xml, workbook


def hostile_files(size: int) -> dict[str, bytes]:
    """The name and content of each; their cost grows with `size`, from 1 to about 10."""
    example = '<row r="1"><c r="A1" t="inlineStr"><is><t>tutor_id</t></is></c></row>'
    far = "".join(f'<row r="{at}"><c r="XFD{at}"><v>1</v></c></row>' for at in range(1, 401 * size))
    return {
        "sheets.xlsx": _altered(
            workbook(sheet_xml(example)),
            "xl/workbook.xml",
            '<sheet name="Sheet" sheetId="1" r:id="b"/>',
            "".join(f'<sheet name="S{at}" sheetId="{at}" r:id="b"/>' for at in range(300 * size)),
        ),
        "name.xlsx": _altered(
            workbook(sheet_xml(example)),
            "xl/workbook.xml",
            'name="Sheet"',
            f'name="{"n" * 10_000_000 * size}"',
        ),
        "relationships.xlsx": _altered(
            workbook(sheet_xml(example)),
            "xl/_rels/workbook.xml.rels",
            "<r>",
            "<r>"
            + "".join(
                f'<Relationship Id="x{at}" Type="t" Target="t"/>' for at in range(300_000 * size)
            ),
        ),
        "far.xlsx": workbook(sheet_xml(far)).getvalue(),
        "columns.csv": (",".join(f"c{at}" for at in range(1500 * size)) + "\n").encode(),
        "empty-objects.json": b'[{"tutor_id":[' + b"{}," * (500_000 * size) + b"{}]}]",
        "empty-lists.ndjson": (b'{"tutor_id":[' + b"[]," * 80_000 + b"[]]}\n") * (5 * size),
    }


def _altered(file: io.BytesIO, part: str, old: str, new: str) -> bytes:
    """The workbook with a text of one of its parts replaced."""
    altered = io.BytesIO()
    with zipfile.ZipFile(file) as before, zipfile.ZipFile(altered, "w", zipfile.ZIP_DEFLATED) as z:
        for name in before.namelist():
            content = before.read(name).decode()
            if name == part:
                assert old in content
                content = content.replace(old, new, 1)
            z.writestr(name, content)
    return altered.getvalue()
