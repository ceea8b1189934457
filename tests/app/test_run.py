"""Runs in real processes: spread, watched, started again, ended by signals, and nothing lost."""

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from api2db.app._host import Host
from api2db.app.run import Run
from api2db.errors import ConfigurationError, JournalBusyError, JournalError, PollError, TargetUnavailableError
from api2db.ingest import Collector, CollectorStatus, read_status
from api2db.journal import journal_store
from tests.app.projects import ENDS_WITHIN_S, Project, counted
from tests.ingest.tiny import TinyStream, rows_in, wait_until

TWO = 'collectors = [polls("alpha"), polls("beta")]\n'


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_within_ten_seconds_and_no_row_is_lost_or_doubled(
    tmp_path: Path, number: signal.Signals
) -> None:
    project = Project(tmp_path, TWO)
    with project.running() as process:
        pids = project.pids("alpha", "beta")
        wait_until(lambda: len(project.ids("alpha")) > 5)
        process.send_signal(number)
        assert process.wait(ENDS_WITHIN_S) == 0
        assert not any(psutil.pid_exists(pid) for pid in pids)
    assert project.ended("--once").returncode == 0
    for name in ("alpha", "beta"):
        status = read_status(tmp_path, name)
        assert status is not None
        ids = project.ids(name)
        assert ids == counted(ids)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core needs one process")
def test_collectors_are_spread_over_processes_that_are_not_the_parent(tmp_path: Path) -> None:
    project = Project(tmp_path, TWO)
    with project.running() as process:
        alpha, beta = project.pids("alpha", "beta")
        assert len({alpha, beta, process.pid}) == 3


@pytest.mark.parametrize("streams", ["list", "callable"])
def test_collectors_that_write_one_embedded_file_share_a_process(tmp_path: Path, streams: str) -> None:
    project = Project(
        tmp_path,
        """
        def shared(name):
            stream = TinyStream(name, home=HOME)
            stream.embedded_file = HOME / "shared.duckdb"
            return [stream] if LIST else lambda: [stream]

        collectors = [polls(name, streams=shared(name)) for name in ("alpha", "beta")] + [polls("gamma")]
        """.replace("LIST", str(streams == "list")),
    )
    with project.running():
        alpha, beta, gamma = project.pids("alpha", "beta", "gamma")
        assert alpha == beta
        assert (gamma == alpha) is (os.cpu_count() == 1)


def kill_and_see_it_go_on(project: Project, number: signal.Signals) -> None:
    [pid] = project.pids("alpha")
    before = len(project.ids("alpha"))
    os.kill(pid, number)
    wait_until(lambda: project.pids("alpha") != [pid], 30)
    wait_until(lambda: len(project.ids("alpha")) > before + 3, 30)


def test_a_process_that_is_killed_is_started_again_and_goes_on_where_it_was(tmp_path: Path) -> None:
    project = Project(tmp_path, 'collectors = [polls("alpha")]\n')
    with project.running() as process:
        for number in (signal.SIGKILL, signal.SIGTERM):
            kill_and_see_it_go_on(project, number)
        process.send_signal(signal.SIGTERM)
        assert process.wait(ENDS_WITHIN_S) == 0
        assert process.stdout is not None
        said = process.stdout.read()
    assert "has died, killed by SIGKILL; it is restarted" in said
    assert "has died, exit code 0; it is restarted" in said
    ids = project.ids("alpha")
    assert ids == counted(ids)


def test_processes_end_by_themselves_when_their_parent_is_killed(tmp_path: Path) -> None:
    project = Project(tmp_path, TWO)
    with project.running() as process:
        children = [psutil.Process(pid) for pid in project.pids("alpha", "beta")]
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(children, timeout=ENDS_WITHIN_S)
        assert not alive
    assert project.ended("--once").returncode == 0
    assert project.ids("alpha") == counted(project.ids("alpha"))


def test_a_poll_that_hangs_does_not_hold_up_the_end(tmp_path: Path) -> None:
    project = Project(
        tmp_path,
        """
        def hang(state):
            yield count(state)
            time.sleep(3600)

        collectors = [polls("alpha", hang)]
        """,
    )
    with project.running() as process:
        wait_until(lambda: project.ids("alpha"), 30)
        process.send_signal(signal.SIGTERM)
        assert process.wait(ENDS_WITHIN_S) == 0
    assert project.ids("alpha") == [1]


def test_what_cannot_be_delivered_does_not_hold_up_the_end_and_waits_for_the_next_run(tmp_path: Path) -> None:
    project = Project(
        tmp_path,
        """
        collectors = [polls("alpha"), polls("beta")]
        if "--once" not in sys.argv:
            collectors[0].streams[0].open_gate.clear()
        """,
    )
    with project.running() as process:
        project.pids("beta")
        wait_until(lambda: (read_status(tmp_path, "alpha") or CollectorStatus("alpha", 0)).rows >= 3)
        assert project.ids("alpha") == []
        process.send_signal(signal.SIGTERM)
        assert process.wait(ENDS_WITHIN_S) == 0
    rows = (read_status(tmp_path, "alpha") or CollectorStatus("alpha", 0)).rows
    assert project.ended("--once").returncode == 0
    ids = project.ids("alpha")
    assert ids == counted(ids)
    assert len(ids) == rows + 1


def test_a_signal_ends_a_run_of_one_round_too(tmp_path: Path) -> None:
    project = Project(
        tmp_path,
        """
        def hang(state):
            yield count(state)
            time.sleep(3600)

        collectors = [polls("alpha", hang)]
        """,
    )
    with project.running("--once") as process:
        wait_until(lambda: project.ids("alpha"), 30)
        process.send_signal(signal.SIGINT)
        assert process.wait(ENDS_WITHIN_S) == 1
    assert project.ids("alpha") == [1]


def test_a_second_run_on_the_same_home_is_refused_by_name(tmp_path: Path) -> None:
    project = Project(tmp_path, 'collectors = [polls("alpha")]\n')
    with project.running():
        project.pids("alpha")
        second = project.ended()
        assert second.returncode != 0
        assert "JournalBusyError" in second.stderr
        assert f"belongs to a running process (pid {project.pids('alpha')[0]})" in second.stderr
        assert second.stderr.count("Traceback") == 1
        assert "processes: 1" not in second.stderr, "no process is started for that"


def test_a_new_run_waits_for_the_processes_of_one_that_is_just_ending(tmp_path: Path) -> None:
    project = Project(
        tmp_path,
        """
        def slow_to_end(state):
            yield count(state)
            time.sleep(3600)

        collectors = [polls("alpha", slow_to_end)]
        """,
    )
    with project.running() as process:
        project.pids("alpha")
        process.kill()
        process.wait()
        with project.running() as second:
            wait_until(lambda: project.ids("alpha") == [1, 2], 30)
            assert second.poll() is None


def test_a_collector_that_is_made_under_the_guard_is_explained_and_not_tried_forever(tmp_path: Path) -> None:
    project = Project(tmp_path, "", '\nif __name__ == "__main__":\n    Run([polls("alpha")]).run()\n')
    ended = project.ended()
    assert ended.returncode == 1
    assert "ConfigurationError" in ended.stderr
    assert "create it at the top of the file" in ended.stderr


def test_a_run_without_the_guard_is_explained(tmp_path: Path) -> None:
    project = Project(tmp_path, 'collectors = [polls("alpha")]\n', "\nRun(collectors).run()\n")
    ended = project.ended()
    assert ended.returncode == 1
    assert 'put it under if __name__ == "__main__"' in ended.stderr


def test_streams_that_cannot_be_used_end_the_run_with_the_reason(tmp_path: Path) -> None:
    project = Project(tmp_path, 'collectors = [polls("alpha", streams=lambda: [])]\n')
    ended = project.ended()
    assert ended.returncode == 1
    assert "collector alpha has no streams" in ended.stderr


def test_a_run_ends_by_itself_when_nothing_is_left_to_do(tmp_path: Path) -> None:
    project = Project(tmp_path, 'collectors = [polls("alpha", debug=True), polls("beta", seconds=0)]\n')
    ended = project.ended()
    assert ended.returncode == 0
    assert "alpha: 1 row (debug: not stored)" in ended.stdout


def test_log_files_are_private_and_hold_no_secret(tmp_path: Path) -> None:
    project = Project(
        tmp_path,
        """
        def broken():
            raise OSError("https://me:hunter2@example.org/?api_key=abc123 is down")

        collectors = [polls("alpha", broken)]
        """,
    )
    with project.running() as process:
        log = tmp_path / "LOGS" / "process-1.log"
        wait_until(lambda: log.exists() and "is down" in log.read_text(), 30)
        process.send_signal(signal.SIGTERM)
        assert process.wait(ENDS_WITHIN_S) == 0
        assert process.stdout is not None
        said = process.stdout.read()
    assert "the poll of alpha failed" in said
    for text in (said, log.read_text()):
        assert "hunter2" not in text
        assert "abc123" not in text
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "LOGS").iterdir()}
    assert modes == {0o600}
    assert (tmp_path / "LOGS").stat().st_mode & 0o777 == 0o700


ROWS = [{"id": 1}, {"id": 2}]


def broken() -> None:
    raise OSError("the API broke")


def test_once_polls_each_once_delivers_and_returns(tmp_path: Path) -> None:
    collectors = [Collector(name, 5, lambda: ROWS, [TinyStream(name, home=tmp_path)]) for name in ("alpha", "beta")]
    Run(collectors).run(once=True)
    assert rows_in(tmp_path, "alpha") == rows_in(tmp_path, "beta") == ROWS
    Run(collectors[:1]).run(once=True)
    assert len(rows_in(tmp_path, "alpha")) == 4


def test_once_says_which_poll_failed_and_delivers_the_others(tmp_path: Path) -> None:
    targets = {"alpha": broken, "beta": lambda: ROWS}
    collectors = [Collector(name, 5, target, [TinyStream(name, home=tmp_path)]) for name, target in targets.items()]
    with pytest.raises(PollError, match="the poll of alpha failed: OSError: the API broke"):
        Run(collectors).run(once=True)
    assert rows_in(tmp_path, "beta") == ROWS


def test_once_says_what_could_not_be_delivered_in_time(tmp_path: Path) -> None:
    stream = TinyStream("alpha", home=tmp_path)
    stream.open_gate.clear()
    with pytest.raises(TargetUnavailableError, match="waits in the journal"):
        Run([Collector("alpha", 5, lambda: ROWS, [stream])]).run(once=True, timeout=0.2)
    Run([Collector("alpha", 5, lambda: None, [TinyStream("alpha", home=tmp_path)])]).run(once=True)
    assert rows_in(tmp_path, "alpha") == ROWS


def test_without_a_main_file_collectors_run_in_this_process_until_stop(tmp_path: Path) -> None:
    run = Run([Collector("alpha", 0.05, lambda: ROWS, [TinyStream("alpha", home=tmp_path)])])
    thread = threading.Thread(target=run.run)
    thread.start()
    wait_until(lambda: len(rows_in(tmp_path, "alpha")) >= 4)
    begin_s = time.monotonic()
    run.stop()
    thread.join(10)
    assert time.monotonic() - begin_s < 5
    status = read_status(tmp_path, "alpha")
    assert status is not None
    assert status.pid == os.getpid()


def test_a_journal_of_another_process_is_busy_for_this_one_too(tmp_path: Path) -> None:
    project = Project(tmp_path, 'collectors = [polls("alpha")]\n')
    with project.running():
        project.pids("alpha")
        with pytest.raises(JournalBusyError):
            Run([Collector("alpha", 1, lambda: ROWS, [TinyStream("alpha", home=tmp_path)])]).run(once=True)


def test_a_stream_whose_worker_dies_is_started_again(tmp_path: Path) -> None:
    stream = TinyStream("alpha", home=tmp_path)
    run = Run([Collector("alpha", 0.05, lambda: ROWS, [stream])])
    thread = threading.Thread(target=run.run)
    thread.start()
    wait_until(lambda: rows_in(tmp_path, "alpha"))
    stream.die()
    before = len(rows_in(tmp_path, "alpha"))
    wait_until(lambda: len(rows_in(tmp_path, "alpha")) > before + 4)
    run.stop()
    thread.join(10)


def test_an_error_while_collectors_are_stopped_keeps_no_journal(tmp_path: Path) -> None:
    class Failing(TinyStream):
        def flush(self, timeout: float | None = None) -> bool:
            raise JournalError("the journal does not answer")

        def stop(self, timeout: float | None = None) -> None:
            super().stop(timeout)
            raise JournalError("the last position is not saved")

    names = ("alpha", "beta")
    host = Host([Collector(name, 60, lambda: ROWS, [Failing(name, home=tmp_path)]) for name in names])
    host.start()
    assert all(journal_store(tmp_path).overview(name).running for name in names)
    with pytest.raises(JournalError, match="the last position"):
        host.drain(0)
    assert not any(journal_store(tmp_path).overview(name).running for name in names)


def test_two_collectors_of_one_name_are_refused(tmp_path: Path) -> None:
    collectors = [Collector("alpha", 1, broken, [TinyStream("alpha", home=tmp_path)]) for _ in range(2)]
    with pytest.raises(ConfigurationError, match="two collectors are named alpha"):
        Run(collectors)


def test_what_is_no_collector_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="given a str"):
        Run(["alpha"])  # type: ignore[list-item]
