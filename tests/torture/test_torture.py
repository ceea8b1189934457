"""``api2db torture`` as its user sees it: what it says of targets that keep the promise, and of one that does not."""

import shlex
from pathlib import Path

import pytest

from api2db.torture import run
from api2db.torture.run import Torture
from api2db.torture.scratch import FAULTS, Scratch, scratch_in
from tests.app.commands import Command, command_of
from tests.faults.children import ROOT
from tests.servers.processes import _as_unprivileged
from tests.servers.server import Server


@pytest.fixture
def torture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process, with the test's folder as the current one."""
    monkeypatch.chdir(tmp_path)
    return command_of(monkeypatch, capfd, "torture")


def url_of(server: Server, database: str, kind: str = "") -> str:
    """The URL of a database; its password is in the environment."""
    return f"{kind or server.kind}://{server.user}:$SECRET@{server.host}:{server.port}/{database}"


@pytest.mark.parametrize("to", ["shards", "sqlite:///mine.sqlite"])
def test_a_target_that_keeps_the_promise_is_left_as_it_was(torture: Command, tmp_path: Path, to: str) -> None:
    ended = torture("--to", to, "--kills", "4", "--seed", "7", "--json")
    assert ended.code == 0, ended
    assert ended.said["held"]
    assert ended.said["faults"] == {"kill": 2, "disk-full": 2}
    assert ended.said["rows"]["stored"] >= ended.said["rows"]["acknowledged"] > 0
    assert not list(tmp_path.iterdir())


def test_a_server_is_tortured_with_each_fault_and_left_as_it_was(
    torture: Command, postgresql: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SECRET", postgresql.password)
    database = postgresql.new_database()
    local = postgresql._own()
    command = postgresql.engine.command(local.folder, postgresql.port, None)
    postgresql.stop()
    to = url_of(postgresql, database)
    ended = torture(
        "--to", to, "--kills", "5", "--seed", "7", "--server-command", shlex.join(_as_unprivileged(command))
    )
    assert ended.code == 0, ended
    for line in ("1 server-kill", "1 lost-commit", "1 cut", "missing         0\n", "The promise held"):
        assert line in ended.out
    assert postgresql.password not in ended.out + ended.error
    assert not list(tmp_path.iterdir())
    postgresql.start()
    assert not postgresql.execute("SELECT * FROM pg_tables WHERE schemaname = 'public'", database)


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_fifty_faults_on_each_server(torture: Command, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", server.password)
    ended = torture("--to", url_of(server, server.new_database()), "--kills", "50", "--json")
    assert ended.code == 0, ended


def test_a_batch_that_is_acknowledged_before_its_commit_is_found(
    torture: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'src'}")
    monkeypatch.setattr(run, "JOBS", "tests.torture.early_jobs")
    ended = torture("--to", "sqlite", "--kills", "3", "--faults", "kill", "--seed", "7", "--json")
    assert ended.code == 1, ended
    assert not ended.said["held"]
    assert ended.said["rows"]["missing"] > 0
    assert ended.said["wrong_frames"]["lost"]
    assert "Repeat it with: api2db torture --to sqlite --kills 3 --faults kill --seed 7" in ended.error
    [home] = tmp_path.iterdir()
    assert (home / "torture.sqlite").exists()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("--to shards --faults cut", "shards has no server; it can have kill, disk-full"),
        ("--to duckdb --faults kill,server-kill", "duckdb has no server"),
        ("--to mysql://me@here/it --faults server-kill", "--server-pid-file, or --server-command"),
        ("--to postgresql://me@here/it?tls=require --faults lost-commit", "no proxy sees the COMMIT"),
        ("--faults flood", "there is no fault flood; there are kill, cut, lost-commit, server-kill, disk-full"),
        ("--to oracle://me@here/it", "--to must be duckdb"),
        ("--to paper", "--to must be duckdb"),
        ("--to postgresql://me:p@ss:geheim@here/it", "--to must be duckdb"),
        ("--to postgresql://me:p@geheim@here/it", "second @"),
        ("--to postgresql://here/it", "the URL lacks the user"),
        ("--to postgresql://me:$NOT_THERE@here/it", "the environment variable NOT_THERE is not set"),
        ("--to sqlite --server-command false", "sqlite has no server"),
    ],
)
def test_what_can_not_be_had_is_refused_with_the_reason(torture: Command, arguments: str, why: str) -> None:
    ended = torture(*arguments.split())
    assert ended.code == 2
    assert why in ended.error
    assert "geheim" not in ended.error


def test_a_server_that_is_not_there_is_named_without_its_password(torture: Command, tmp_path: Path) -> None:
    ended = torture("--to", "postgresql://me:geheim@127.0.0.1:1/it", "--kills", "1")
    assert ended.code == 1
    assert "127.0.0.1:1/it" in ended.error
    assert "can't be reached" in ended.error
    assert "geheim" not in ended.out + ended.error
    assert not list(tmp_path.iterdir())


def scratch(tmp_path: Path) -> Scratch:
    return scratch_in("shards", tmp_path, {})


def test_the_seed_repeats_the_choices(tmp_path: Path) -> None:
    first, again, other = (Torture(scratch(tmp_path), tmp_path, FAULTS, 20, seed) for seed in (7, 7, 8))
    assert first.order == again.order != other.order
    assert set(first.order) == set(FAULTS)
