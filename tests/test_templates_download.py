"""Sample files: a downloaded file can be filled in and uploaded as it is."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from typing import Any

import pytest
from openpyxl import load_workbook

from ingestion import file_rows, validation
from ingestion.decoding import Row
from ingestion.fields import Boolean, Choice
from ingestion.files import registry
from ingestion.files.registry import FORMATS
from ingestion.portal.record_fields import sample_records
from ingestion.validation import Valid
from tests.reading import read_as
from tests.staff import member, signed_in


@pytest.fixture
def download(db, record_type):
    """Downloads a template of a record type as a person who may only view pages."""
    browser = signed_in(member("Viewer"))

    def get(ending):
        answer = browser.get(f"/admin/templates/{record_type.path}.{ending}")
        assert answer.status_code == 200
        name = f'filename="{record_type.path}.{ending}"'
        assert answer["Content-Disposition"] == f"attachment; {name}"
        return answer.content

    return get


def names_of(record_type):
    return list(record_type.serializer_class().fields)


def test_both_sample_records_are_valid_and_different(record_type):
    samples = sample_records(record_type)
    verdicts = validation.validate(record_type, [Row(value=one) for one in samples])
    assert all(isinstance(verdict, Valid) for verdict in verdicts)
    assert len({verdict.id for verdict in verdicts}) == 2


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_template_is_read_back_as_the_sample_records(download, record_type, file_format):
    file = io.BytesIO(download(file_format))
    assert registry.recognise(file).name == file_format
    assert file_rows.guess_record_type(file_rows.look(file)) is record_type
    samples = [
        {name: value for name, value in record.items() if value is not None}
        for record in sample_records(record_type)
    ]
    rows = [row.value for row in read_as(file, file_format, record_type)]
    rows = [{name: v for name, v in row.items() if v is not None} for row in rows]
    assert rows == samples


def test_csv_has_every_column_and_tells_excel_that_it_is_utf_8(download, record_type):
    content = download("csv")
    assert content.startswith(b"\xef\xbb\xbf")
    header, *rows = csv.reader(io.StringIO(content.decode("utf-8-sig")))
    assert header == names_of(record_type)
    assert [len(row) for row in rows] == [len(header)] * 2


def test_excel_has_every_column_its_own_kind_of_values_and_words_to_choose(download, record_type):
    book = load_workbook(io.BytesIO(download("xlsx")))
    (sheet,) = book.worksheets
    header, first, second = sheet.iter_rows(values_only=True)
    assert list(header) == names_of(record_type)
    example = record_type.serializer_class.example
    value: Any
    for name, value in zip(header, first, strict=True):
        expected = example.get(name)
        if isinstance(value, datetime):
            value = value.isoformat()
        elif isinstance(expected, list):
            value = value.split("; ")
        assert value == expected, name
    assert second[0] not in (None, first[0])
    offered = {
        str(choice.sqref): choice.formula1 for choice in sheet.data_validations.dataValidation
    }
    fields = record_type.serializer_class().fields.values()
    assert len(offered) == sum(isinstance(field, Boolean | Choice) for field in fields)
    assert sheet.freeze_panes == "A2"


def test_the_guide_offers_every_template(db, record_type):
    text = signed_in(member("Viewer")).get(f"/admin/guide/{record_type.path}/").text
    assert all(f'href="/admin/templates/{record_type.path}.{ending}"' in text for ending in FORMATS)


@pytest.mark.parametrize("name", ["tutors.exe", "pupils.csv", "tutors."])
def test_other_names_are_not_found(db, name):
    assert signed_in(member("Viewer")).get(f"/admin/templates/{name}").status_code == 404
