"""`make bench`: the portal beside its peers, every work, in alternating rounds."""

from __future__ import annotations

import argparse
import resource
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from subprocess import SubprocessError
from tempfile import TemporaryDirectory

from redis.exceptions import RedisError

from tests.benchmarks import results
from tests.benchmarks.command_rows import commands
from tests.benchmarks.contenders import MissingError, Site
from tests.benchmarks.data import Files
from tests.benchmarks.rest_rows import growth, intake
from tests.benchmarks.results import Result
from tests.benchmarks.row import Row, Sizes
from tests.benchmarks.serving_rows import serving

_ROUNDS = 5
_PROGRAMS = {"wrk": "wrk", "redis-benchmark": "redis-tools"}


def main() -> int:
    """Measure, and print; write what was measured in full into docs/performance.md."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--rows", default="", help="names of rows, with spaces between (default: all)"
    )
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=1, help="server processes of each peer")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="0.01 sends a hundredth, to try it"
    )
    options = parser.parse_args()
    if absent := {package for program, package in _PROGRAMS.items() if not shutil.which(program)}:
        parser.error(f"the load generators are missing: apt-get install {' '.join(sorted(absent))}")

    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))  # wrk takes many
    with TemporaryDirectory(prefix="tutormax-bench-") as folder:
        sizes = Sizes(scale=options.scale, workers=options.workers)
        files = Files(
            Path(folder),
            lines=sizes.of(1_000_000),
            csv_rows=sizes.of(200_000),
            xlsx_rows=sizes.of(50_000),
        )
        known = {row.name: row for row in rows(sizes, files)}
        chosen = options.rows.split() or list(known)
        if unknown := set(chosen) - known.keys():
            parser.error(f"no row {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        in_full = sizes.scale == 1 and sizes.workers == 1 and options.rounds >= _ROUNDS
        found = []
        for result in measure([known[name] for name in chosen], options.rounds, Site(Path(folder))):
            found.append(result)
            _tell(f"\n{result.table()}\n")
            if in_full:
                results.keep(result)
    if in_full:
        found = results.kept(known.values())
    if any(result.row.goals for result in found):
        _tell(f"\n{results.goals(found)}\n")
    if in_full:
        measured = {result.row.name for result in found}
        results.write(found, absent=[name for name in known if name not in measured])
        _tell(f"\nWritten into {results.PAGE}.")
    else:
        _tell("\nOnly what is measured in full is written into docs/performance.md.")
    return int(any(result.has_failed for result in found))


def rows(sizes: Sizes, files: Files) -> list[Row]:
    """All rows, in the order of the page."""
    return [*intake(sizes), *commands(sizes, files), *serving(sizes), *growth(sizes)]


def measure(chosen: Sequence[Row], rounds: int, site: Site) -> Iterator[Result]:
    """Measure the cases of each row in turn, round after round. Says how far it is."""
    whole, done, begin = rounds * sum(len(row.cases) for row in chosen), 0, time.monotonic()
    for row in chosen:
        result = Result(row=row)
        for round_number in range(1, rounds + 1):
            for case, run in row.cases.items():
                done += 1
                _tell(f"{done}/{whole} {row.name}, round {round_number}: {case} … ", end="")
                if case in result.missing:
                    _tell("left out")
                    continue
                try:
                    sample = run(site)
                except MissingError as reason:
                    result.missing[case] = f"left out: {reason}"
                    _tell(str(reason))
                    continue
                except (RuntimeError, OSError, SubprocessError, HTTPException, RedisError) as fault:
                    result.fail(case)
                    _tell(f"failed: {fault}")
                    continue
                result.samples.setdefault(case, []).append(sample)
                left = (time.monotonic() - begin) / done * (whole - done)
                first = row.figures[0]
                _tell(f"{sample[first]:,.2f} ({first}); about {left / 60:.0f} minutes left")
        yield result


def _tell(text: str, end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
