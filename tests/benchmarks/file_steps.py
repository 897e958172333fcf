"""Times the reading of one file, in a process of its own: `python -m … READER FILE`.

`portal` takes the steps of an upload as the portal's worker takes them, on the portal that the
environment names. The others read the cells alone.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path


def portal(file: Path) -> dict[str, float]:
    """An upload from the file to the queue: seconds of reading and of queueing."""
    import django

    django.setup()
    from django.core.files import File

    from ingestion.models import Upload
    from ingestion.uploads import actions, tasks

    def step(expected: Upload.State) -> float:
        begin = time.perf_counter()
        tasks.advance.call(upload.pk)
        seconds = time.perf_counter() - begin
        upload.refresh_from_db()
        if upload.state != expected:
            raise RuntimeError(f"{upload.state}: {upload.failure} {upload.findings}")
        return seconds

    with file.open("rb") as content:
        upload = actions.create(File(content), file.name, None)
    reading = step(Upload.State.READING) + step(Upload.State.REVIEW)
    upload = Upload.objects.get(pk=upload.pk)
    actions.confirm(upload)
    queueing = step(Upload.State.DONE)
    if upload.rows_queued != upload.rows_read:
        raise RuntimeError(f"{upload.rows_queued} of {upload.rows_read} rows are queued")
    rows = upload.rows_read
    return {
        "seconds": reading,
        "read_per_second": rows / reading,
        "queued_per_second": rows / queueing,
    }


def calamine(file: Path) -> dict[str, float]:
    """All cells, by calamine."""
    from python_calamine import CalamineWorkbook

    return _timed(lambda: CalamineWorkbook.from_path(file).get_sheet_by_index(0).to_python())


def openpyxl(file: Path) -> dict[str, float]:
    """All cells, by openpyxl."""
    from openpyxl import load_workbook

    def read() -> None:
        for _ in load_workbook(file, read_only=True).worksheets[0].iter_rows(values_only=True):
            pass

    return _timed(read)


def _timed(read: Callable[[], object]) -> dict[str, float]:
    begin = time.perf_counter()
    read()
    return {"seconds": time.perf_counter() - begin}


if __name__ == "__main__":
    reader = {"portal": portal, "calamine": calamine, "openpyxl": openpyxl}[sys.argv[1]]
    sys.stdout.write(json.dumps(reader(Path(sys.argv[2]))))
