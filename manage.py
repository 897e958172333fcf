#!/usr/bin/env python3
"""The command line of the project: `./manage.py help` lists the commands."""

import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

_VENV = Path(__file__).resolve().parent / ".venv"


def main() -> None:
    """Run the command that the arguments name."""
    if find_spec("django") is None:  # this is the system's Python: use the one with the packages
        python = str(_VENV / "bin" / "python")
        if Path(sys.prefix) == _VENV or not os.path.exists(python):
            sys.exit("The packages are not installed yet. Run `make run` to install them.")
        os.execv(python, [python, *sys.argv])  # noqa: S606 (no shell is wanted)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tutormax.settings")
    if None in (sys.stdin, sys.stdout, sys.stderr):
        # The next opened file would get its number, and be written to by mistake.
        sys.exit("Standard input, output or error is closed: redirect it, say to /dev/null.")
    # A script that starts this in the background ignores SIGINT; Ctrl-C must work all the same.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        from django.core.management import execute_from_command_line

        execute_from_command_line(sys.argv)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
