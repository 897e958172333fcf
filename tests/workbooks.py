"""Workbooks made by hand, with content that no program would write."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_NONE: Mapping[str, str] = {}


def sheet_xml(rows: str) -> str:
    """The part of a sheet that holds these rows."""
    return f"<sheetData>{rows}</sheetData>"


def workbook(
    sheet: str,
    *,
    texts: str | None = None,
    styles: str | None = None,
    before: Mapping[str, str] = _NONE,
    stored: bool = False,
) -> io.BytesIO:
    """A workbook with one sheet, "Sheet"; `before` is put in front of the XML of parts."""
    parts = {
        "_rels/.rels": f'<r><Relationship Id="a" Type="{_OFFICE}/officeDocument" '
        'Target="xl/workbook.xml"/></r>',
        "xl/workbook.xml": f'<workbook xmlns:r="{_OFFICE}"><sheets>'
        '<sheet name="Sheet" sheetId="1" r:id="b"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<r><Relationship Id="b" Type="{_OFFICE}/worksheet" '
        f'Target="worksheets/sheet1.xml"/><Relationship Id="c" Type="{_OFFICE}/sharedStrings" '
        'Target="/xl/sharedStrings.xml"/>'
        f'<Relationship Id="d" Type="{_OFFICE}/styles" Target="styles.xml"/></r>',
        "xl/worksheets/sheet1.xml": f"<worksheet>{sheet}</worksheet>",
    }
    if texts is not None:
        parts["xl/sharedStrings.xml"] = texts
    if styles is not None:
        parts["xl/styles.xml"] = styles
    file = io.BytesIO()
    packing = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(file, "w", packing) as archive:
        for name, content in parts.items():
            archive.writestr(name, before.get(name, "") + content)
    return file
