"""`make test-matrix`: the tests on Debian's PostgreSQL and Redis instead of the embedded ones.

python -m tests.matrix [arguments of pytest]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from tests import postgres


def main(arguments: list[str]) -> int:
    """Run pytest on both; returns its exit status."""
    programs = postgres.programs()
    redis = shutil.which("redis-server")
    if programs is None or redis is None:
        print("Install both: apt-get install postgresql redis-server", file=sys.stderr)  # noqa: T201
        return 1
    with postgres.running(programs) as url:
        environment = {**os.environ, "TESTS_DATABASE_URL": url, "TESTS_STORE": redis}
        command = [sys.executable, "-m", "pytest", *arguments]
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
