"""What a process and its children take, as Linux counts it (proc(5))."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """The process and all below it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                children.setdefault(int(_fields(int(folder.name))[1]), []).append(int(folder.name))
    found = [root]
    for one in found:
        found += children.get(one, [])
    return found


def cpu_seconds(root: int) -> float:
    """CPU time of the process, of all below it, and of those of them that have ended."""
    return sum(map(own_cpu_seconds, tree(root)))


def own_cpu_seconds(pid: int) -> float:
    """CPU time of the process, and of its children that have ended."""
    with suppress(OSError):
        return sum(map(int, _fields(pid)[11:15])) / _TICKS
    return 0.0


def memory_bytes(root: int, *, peak: bool = False) -> int:
    """Memory of the process and all below it, now or at its peak; what they share counts twice."""
    field = "VmHWM:" if peak else "VmRSS:"
    return sum(_kilobytes(one, "status", field) for one in tree(root)) * 1024


def machine_cpu_seconds() -> float:
    """CPU time of everything on this machine."""
    user, nice, system, _, _, *others = Path("/proc/stat").read_text().split()[1:8]
    return sum(map(int, (user, nice, system, *others))) / _TICKS


def forget_peak(root: int) -> None:
    """Let the peak of memory begin anew, for the process and all below it."""
    for one in tree(root):
        with suppress(OSError):
            Path(f"/proc/{one}/clear_refs").write_text("5")


def own_memory_bytes(root: int) -> int:
    """Memory of the process and of all below it now; what they share counts once."""
    return sum(_kilobytes(one, "smaps_rollup", "Pss:") for one in tree(root)) * 1024


def _fields(pid: int) -> list[str]:
    """The fields of `stat` from the state on: parent at 1, times of itself and children at 11."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _kilobytes(pid: int, file: str, field: str) -> int:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/{file}").read_text().partition(f"\n{field}")[2].split()
        return int(words[0]) if words else 0
    return 0
