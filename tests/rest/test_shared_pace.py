"""Rate limits and pauses over several processes of one user."""

import fcntl
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from api2db.rest import RestApi
from api2db.rest import _pace as pacing
from api2db.rest import _shared_pace as sharing
from api2db.rest._arguments import rate
from api2db.rest._pace import Pace, TooLongError
from tests.rest.conftest import Polled, Serve
from tests.rest.servers import Asked, Reply

ROOT = Path(__file__).parents[2]
CALL = """
    import sys, time
    from api2db.rest._arguments import rate
    from api2db.rest._pace import Pace, TooLongError

    pace = Pace("host")

    def call(text, seconds=0.0, longest_s=60.0):
        with pace.call((rate(text, "rate"),), longest_s):
            print("begun", flush=True)
            time.sleep(seconds)
"""


@contextmanager
def python(*parts: str) -> "Iterator[subprocess.Popen[str]]":
    """A program in a process of its own."""
    code = "".join(textwrap.dedent(part) for part in parts)
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert process.stdout is not None
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def begun(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"


def is_free(text: str, longest_s: float = 0.0) -> bool:
    """Whether this process may call the host now."""
    try:
        with Pace("host").call((rate(text, "rate"),), longest_s):
            return True
    except TooLongError:
        return False


def test_a_hundred_threads_of_three_processes_keep_to_one_rate(serve: Serve) -> None:
    times: list[float] = []

    def answer(asked: Asked) -> Reply:
        times.append(time.monotonic())
        return Reply([])

    poll = f"""
        import threading
        from api2db.rest import RestApi

        def poll(api, name):
            list(api.get(f"/{{name}}")({{}}))

        api = RestApi("{serve(answer).url}", rate_limit="25/500ms")
        threads = [threading.Thread(target=poll, args=(api, number)) for number in range(34)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    """
    with python(poll) as first, python(poll) as second, python(poll) as third:
        assert [process.wait(100) for process in (first, second, third)] == [0, 0, 0]
    assert len(times) == 102
    times.sort()
    assert all(later - earlier >= 0.5 for earlier, later in zip(times, times[25:], strict=False))
    assert times[-1] - times[0] < 20


def test_a_pause_holds_for_other_processes(serve: Serve) -> None:
    times: list[float] = []

    def answer(asked: Asked) -> Reply:
        times.append(time.monotonic())
        return Reply("slow", 429, {"Retry-After": "2"}) if asked.path == "/a" else Reply([{"id": 1}])

    server = serve(answer)
    ask = f"""
        from api2db.errors import PollError
        from api2db.rest import RestApi

        try:
            list(RestApi("{server.url}", tries=1).get("/a")({{}}))
        except PollError:
            print("begun", flush=True)
    """
    with python(ask) as process:
        begun(process)
        assert Polled(RestApi(server.url).get("/b")).poll() == [{"id": 1}]
    assert times[1] - times[0] >= 2


def test_a_call_of_another_process_counts_until_a_period_after_its_end() -> None:
    with python(CALL, "call('1/300ms', 0.5)") as process:
        begun(process)
        assert not is_free("1/300ms", 0.1)
        assert process.wait(60) == 0
        begin_s = time.monotonic()
        assert is_free("1/300ms", 10)
        assert time.monotonic() - begin_s < 5


def test_a_killed_process_holds_up_nobody() -> None:
    with python(CALL, "call('1/200ms', 600)") as process:
        begun(process)
        assert not is_free("1/200ms", 0.5)
        process.kill()
        process.wait()
    assert is_free("1/200ms", 10)


def test_a_process_that_waits_holds_up_nobody() -> None:
    waits = "print('begun', flush=True); call('1/h', longest_s=4000)"
    with python(CALL, "call('1/h')", "\n" + waits) as process:
        begun(process)
        begun(process)
        begin_s = time.monotonic()
        for _ in range(20):
            assert is_free("1000/h")
        assert not is_free("1/h")
        assert time.monotonic() - begin_s < 5


def test_a_forked_child_counts_for_itself() -> None:
    forks = """
        import os, threading
        from api2db.rest import _hosts as hosts
        from api2db.rest._addresses import origin_of

        def called():
            try:
                with hosts.host_of(origin_of("http://host")).pace.call((rate("3/h", "rate"),), 0):
                    return True
            except TooLongError:
                return False

        def hold():
            with hosts.host_of(origin_of("http://host")).pace.call((rate("3/h", "rate"),), 0):
                inside.set()
                time.sleep(1)

        inside = threading.Event()
        threading.Thread(target=hold).start()
        inside.wait()
        child = os.fork()
        if child == 0:
            os._exit(0 if called() else 1)
        _, status = os.waitpid(child, 0)
        sys.exit(0 if (status, called(), called()) == (0, True, False) else 1)
    """
    with python(CALL, forks) as process:
        assert process.wait(60) == 0


def test_a_process_that_is_stopped_with_the_lock_does_not_block_the_event_loop(shared_files: Path) -> None:
    pace, rates = Pace("host"), (rate("1/h", "rate"),)
    assert pace.try_begin(()) is None
    [path] = (shared_files / f"api2db-{os.getuid()}").iterdir()
    ending = threading.Thread(target=pace.end, args=((),))
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ending.start()
        begin_s = time.monotonic()
        assert pace.try_begin(rates) is not None
        assert ending.is_alive()
        assert time.monotonic() - begin_s < 5
    ending.join(20)
    assert pace.try_begin(rates) is None


def test_the_files_belong_to_this_user_alone(shared_files: Path) -> None:
    assert is_free("1/h")
    folder = shared_files / f"api2db-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


@pytest.mark.parametrize("planted", ["link", "open", "file"])
def test_a_folder_that_others_may_have_made_is_not_used(
    shared_files: Path, tmp_path: Path, planted: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "_told", set())
    folder = shared_files / f"api2db-{os.getuid()}"
    if planted == "link":
        folder.symlink_to(tmp_path)
    elif planted == "open":
        folder.mkdir()
        folder.chmod(0o770)
    else:
        folder.touch()
    pace, rates = Pace("host"), (rate("1/h", "rate"),)
    with caplog.at_level(logging.WARNING), pace.call(rates, 0):
        pass
    with pytest.raises(TooLongError), pace.call(rates, 0):
        pass
    assert is_free("1/h"), "each pace counts for itself"
    assert [record.getMessage()[:44] for record in caplog.records] == ["rate limits hold for this process alone, not"]
    assert not list(tmp_path.iterdir())


def test_removed_files_are_made_again(shared_files: Path) -> None:
    pace, rates = Pace("host"), (rate("2/h", "rate"),)
    with pace.call(rates, 0):
        for path in (shared_files / f"api2db-{os.getuid()}").iterdir():
            path.unlink()
        with pace.call(rates, 0):
            assert is_free("2/h"), "it counts in the new file"
    with pytest.raises(TooLongError), pace.call(rates, 0):
        pass


def test_times_of_another_boot_and_of_the_future_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace("host")
    pace.pause(600)
    with pytest.raises(TooLongError), pace.call((), 0):
        pass
    monkeypatch.setattr(sharing, "_boot", lambda: b"another boot    ")
    assert is_free("1/h")
    assert not is_free("1/h")
    now_s = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now_s - 10)
    assert is_free("1/h")


def test_damaged_files_are_begun_again(shared_files: Path) -> None:
    assert is_free("1/h")
    for path in (shared_files / f"api2db-{os.getuid()}").iterdir():
        path.write_bytes(os.urandom(5000))
    assert is_free("1/h")
    assert not is_free("1/h")


def test_a_disk_that_refuses_is_told_once_and_the_process_counts_for_itself(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "_told", set())
    pace, rates = Pace("host"), (rate("3/h", "rate"),)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with pace.call(rates, 0):
        monkeypatch.setattr(os, "pwrite", full)
    for _ in range(3):
        with pace.call(rates, 0):
            pass
    with pytest.raises(TooLongError), pace.call(rates, 0):
        pass
    assert len(caplog.records) == 1


def test_threads_of_one_process_share_its_slot() -> None:
    pace, rates = Pace("host"), (rate("4/h", "rate"),)
    inside, leave = threading.Semaphore(0), threading.Event()

    def hold() -> None:
        with pace.call(rates, 0):
            inside.release()
            leave.wait(10)

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert inside.acquire(timeout=10)
    assert not is_free("4/h")
    leave.set()
    for thread in threads:
        thread.join()
