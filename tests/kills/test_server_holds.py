"""Others hold what a load needs, or have it held by us: it waits no longer than it should, and no row shows it."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from api2db.targets.mysql import MysqlDatabase
from api2db.targets.mysql import _database as mysql
from api2db.targets.postgresql import PostgresqlDatabase
from api2db.targets.postgresql import _database as postgresql
from api2db.targets.postgresql._dialect import dialect_in
from api2db.targets.server import Password
from api2db.targets.server import Server as TargetServer
from api2db.targets.sql import SqlTarget
from api2db.targets.sql._ledger import Ledger
from api2db.torture.proxy import Proxy
from tests.kills.checker import Verdict, judge, set_aside
from tests.kills.fork_server import ForkServer
from tests.kills.here import running, wait_until
from tests.kills.on_servers import HomeOf, PutsThere, There, home_on, shorten
from tests.kills.strangers import rows_are_lost_without_the_epoch, the_copy_is_stopped
from tests.servers.fixtures import engine
from tests.servers.server import Server, running_server

DATABASES = (PostgresqlDatabase, MysqlDatabase)
CONNECTIONS = {
    "postgresql": "SELECT pid FROM pg_stat_activity WHERE application_name = 'api2db' AND datname = '{}'",
    "mysql": "SELECT id FROM information_schema.processlist WHERE db = '{}' AND id <> connection_id()",
    "mariadb": "SELECT id FROM information_schema.processlist WHERE db = '{}' AND id <> connection_id()",
}
KILL = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}", "mariadb": "KILL {}"}


@pytest.fixture
def there(server: Server) -> There:
    return There(server)


@pytest.fixture
def behind(server: Server, proxy: Proxy) -> There:
    return There(server, proxy)


@pytest.fixture
def _short_waits() -> None:
    shorten()


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "_BEGIN", postgresql._BEGIN)
    monkeypatch.setattr(mysql, "_SESSION", mysql._SESSION)
    monkeypatch.setattr(mysql, "_IDLE_S", mysql._IDLE_S)


def connections(there: There) -> list[int]:
    return [number for (number,) in there.server.execute(CONNECTIONS[there.kind].format(there.database))]


@contextmanager
def before_the_commit(act: Any) -> Iterator[threading.Event]:
    """Do something once, when the rows of a load are in and its COMMIT is the next to be sent."""
    done, stepped = threading.Event(), threading.Event()

    def step(ledger: Ledger, *arguments: Any) -> None:
        real_step(ledger, *arguments)
        stepped.set()

    def load(target: SqlTarget, *arguments: Any, **options: Any) -> None:
        is_trial = not stepped.is_set()
        stepped.clear()
        real_load(target, *arguments, **options)
        if not is_trial and not done.is_set():
            act()
            done.set()

    real_step, real_load = Ledger.step, SqlTarget._load
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "step", step)
        patch.setattr(SqlTarget, "_load", load)
        yield done


@contextmanager
def held_commit(behind: There, proxy: Proxy) -> Iterator[Callable[[], bool]]:
    """The server gets a COMMIT of ours and does not do it until the block ends; gives what says whether it has it.

    To others the backend seems to wait for its client, so they would end it, and the COMMIT would never be done.
    """
    stopped: list[psutil.Process] = []
    sent_bytes: list[int] = []

    def stop() -> None:
        stopped.extend(psutil.Process(pid) for pid in _processes(behind))
        for process in stopped:
            process.send_signal(signal.SIGSTOP)
        sent_bytes.append(proxy.bytes_to_server)

    with pytest.MonkeyPatch.context() as patch, before_the_commit(stop) as done:
        patch.setattr(PostgresqlDatabase, "end_silent", lambda *_: None)
        try:
            yield lambda: done.is_set() and proxy.bytes_to_server > sent_bytes[0]
        finally:
            for process in stopped:
                process.send_signal(signal.SIGCONT)


def _processes(there: There) -> list[int]:
    """Of PostgreSQL the backend of our connection alone; the others have one process for all."""
    return connections(there) if there.kind == "postgresql" else [there.server.pid]


def hold_and_cut(puts: PutsThere, behind: There, proxy: Proxy, more: int) -> None:
    """A COMMIT is held, its connection cut; more rows come, and are tried by a new connection before it is done."""
    with held_commit(behind, proxy) as held:
        puts.put(2)
        wait_until(held, 30)
        before = proxy.connections
        proxy.reset()
        puts.put(more)
        wait_until(lambda: proxy.connections > before, 30)
        if behind.kind == "postgresql":
            wait_until(lambda: _waiting(behind), 30)


def _waiting(there: There) -> bool:
    asked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '{}'"
    ((waiting,),) = there.server.execute(asked.format(there.database))
    return bool(waiting)


ROUNDS = [2, pytest.param(30, marks=[pytest.mark.torture, pytest.mark.timeout(3600)])]


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_commit_that_the_server_still_holds_when_we_are_back_is_not_repeated(
    tmp_path: Path, behind: There, proxy: Proxy, rounds: int
) -> None:
    puts = PutsThere(tmp_path, behind)
    with running(puts.stream):
        for _ in range(rounds):
            hold_and_cut(puts, behind, proxy, 3)
            assert puts.stream.flush(60), puts.stream.status()
    assert puts.verdict() == Verdict()


def refusing(postgresql: Server, proxy: Proxy, place: Path) -> tuple[PutsThere, There]:
    behind = There(postgresql, proxy)
    puts = PutsThere(place, behind)
    behind.execute('ALTER TABLE flights ADD CHECK (n < 4 OR "row" <> 0)')
    return puts, behind


@pytest.fixture
def to_postgresql(postgresql: Server) -> Iterator[Proxy]:
    with Proxy(postgresql.host, postgresql.port) as proxy:
        yield proxy


def found_after_a_held_commit(postgresql: Server, proxy: Proxy, place: Path) -> Verdict:
    """Of a batch that has rows that the table refuses."""
    puts, behind = refusing(postgresql, proxy, place)
    with running(puts.stream):
        hold_and_cut(puts, behind, proxy, 3)
        assert puts.stream.flush(60), puts.stream.status()
    return judge(puts.found(), puts.acknowledged, set_aside(puts.home.path, puts.stream.stream_type))


def test_rows_refused_beside_a_commit_that_is_still_held_are_set_aside_once(
    tmp_path: Path, postgresql: Server, to_postgresql: Proxy
) -> None:
    assert found_after_a_held_commit(postgresql, to_postgresql, tmp_path) == Verdict()


def test_rows_refused_beside_the_first_commit_of_a_stream_are_set_aside_once(
    tmp_path: Path, postgresql: Server, to_postgresql: Proxy
) -> None:
    """The ledger has no row yet that a reader could wait for."""
    others, behind = refusing(postgresql, to_postgresql, tmp_path / "others")
    puts = PutsThere(tmp_path / "own", behind, begun=False)
    puts.acknowledged = [3]
    with running(puts.stream):
        hold_and_cut(puts, behind, to_postgresql, 3)
        assert puts.stream.flush(60), puts.stream.status()
    aside = set_aside(puts.home.path, puts.stream.stream_type)
    assert judge(puts.found(), [*others.acknowledged, *puts.acknowledged[1:]], aside) == Verdict()


class PutsByUrl(PutsThere):
    """A stream into PostgreSQL under a name that api2db does not know."""

    def __init__(self, place: Path, there: There) -> None:
        assert there.proxy is not None
        self.there = there
        address = f"{there.server.user}@{there.proxy.host}:{there.proxy.port}"
        url = f"strange+psycopg://{address}?sslmode=disable&application_name=api2db"
        kind = f"{there.kind}_by_url"
        options = {"db_name": there.database, "url": url, "password": there.server.password}
        self.begin(HomeOf(place, (kind,), there=there), kind, options)


def test_an_unknown_database_has_no_select_that_waits_for_a_held_commit_but_an_update(
    tmp_path: Path, postgresql: Server, to_postgresql: Proxy
) -> None:
    others, behind = refusing(postgresql, to_postgresql, tmp_path / "others")
    puts = PutsByUrl(tmp_path / "own", behind)
    puts.acknowledged = [*others.acknowledged]
    puts.put(1)
    puts.deliver()
    with running(puts.stream):
        hold_and_cut(puts, behind, to_postgresql, 3)
        assert puts.stream.flush(60), puts.stream.status()
    aside = set_aside(puts.home.path, puts.stream.stream_type)
    assert judge(puts.found(), puts.acknowledged, aside) == Verdict()


def read_without_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "dialect_in", lambda schema: replace(dialect_in(schema), locking=""))


def test_without_the_lock_on_the_ledger_they_are_lost_and_the_checker_says_so(
    tmp_path: Path, postgresql: Server, to_postgresql: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_without_lock(monkeypatch)
    assert found_after_a_held_commit(postgresql, to_postgresql, tmp_path).lost


def test_without_compare_and_set_either_rows_are_doubled_and_the_checker_says_so(
    tmp_path: Path, postgresql: Server, to_postgresql: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(ledger: Ledger, session: Any, claim: Any) -> None:
        update = "UPDATE _api2db_ledger SET epoch = ?, sequence = ?, skip = ? WHERE stream = ?"
        session.run(update, (*claim.after, claim.stream))

    behind = There(postgresql, to_postgresql)
    puts = PutsThere(tmp_path, behind)
    read_without_lock(monkeypatch)
    monkeypatch.setattr(Ledger, "step", step)
    with running(puts.stream):
        hold_and_cut(puts, behind, to_postgresql, 3)
        assert puts.stream.flush(60), puts.stream.status()
    assert puts.verdict().doubled


LIMITS = {"a COMMIT": "_ANSWER_S", "a load": "_WORK_S"}


@pytest.mark.parametrize("frozen", LIMITS)
def test_an_answer_that_never_comes_is_not_waited_for_and_costs_nothing(
    tmp_path: Path, postgresql: Server, to_postgresql: Proxy, monkeypatch: pytest.MonkeyPatch, frozen: str
) -> None:
    monkeypatch.setattr(f"api2db.targets.postgresql._connection.{LIMITS[frozen]}", 0.5)
    shorten()
    there = There(postgresql, to_postgresql)
    puts = PutsThere(tmp_path, there)
    with running(puts.stream):
        with held_commit(there, to_postgresql) if frozen == "a COMMIT" else locked_out(there):
            puts.put(2)
            wait_until(lambda: "no answer within" in str(puts.stream.status().last_error), 20)
            puts.stream.stop(20)
            assert not puts.stream.lock.locked(), "it has stopped"
        puts.stream.start()
        assert puts.stream.flush(60), puts.stream.status()
    assert puts.verdict() == Verdict()


@contextmanager
def locked_out(there: There) -> Iterator[None]:
    """A statement of a load waits, without an end to see."""
    postgresql._BEGIN = postgresql._BEGIN.replace("lock_timeout = '1s'", "lock_timeout = 0")
    with closing(there.server.client(there.database, autocommit=False)) as client, client.cursor() as cursor:
        cursor.execute("LOCK TABLE flights IN ACCESS EXCLUSIVE MODE")
        yield


@pytest.fixture
def stranger(tmp_path: Path, there: There) -> tuple[PutsThere, PutsThere]:
    """A project and a copy of it; the original has delivered meanwhile."""
    original = PutsThere(tmp_path / "original", there)
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    copy = PutsThere(tmp_path / "copy", there, begun=False)
    original.put(5)
    original.deliver()
    return original, copy


def test_a_copied_project_beside_the_original_is_stopped_and_told_why(stranger: tuple[PutsThere, PutsThere]) -> None:
    the_copy_is_stopped(*stranger)


def test_without_the_epoch_a_copied_project_loses_rows_and_the_checker_says_so(
    stranger: tuple[PutsThere, PutsThere], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_are_lost_without_the_epoch(*stranger, monkeypatch)


def test_connections_that_are_killed_on_the_server_cost_nothing(tmp_path: Path, there: There) -> None:
    puts = PutsThere(tmp_path, there)
    with running(puts.stream):
        for _ in range(5):
            puts.put(10)
            _kill_all(there)
            assert puts.stream.flush(60), puts.stream.status()
    assert puts.verdict() == Verdict()


def test_a_connection_killed_before_its_commit_costs_nothing(tmp_path: Path, there: There) -> None:
    puts = PutsThere(tmp_path, there)
    with running(puts.stream), before_the_commit(lambda: _kill_all(there)) as done:
        puts.put(5)
        assert puts.stream.flush(60), puts.stream.status()
        assert done.is_set()
    assert puts.verdict() == Verdict()


def _kill_all(there: There) -> None:
    for number in connections(there):
        _kill(there, number)


def _kill(there: There, number: int) -> None:
    try:
        there.server.execute(KILL[there.kind].format(number))
    except Exception as error:  # noqa: BLE001 - it may have gone by itself
        assert "Unknown thread" in str(error)  # noqa: PT017 - what else it says is a fault of the test


@pytest.mark.usefixtures("_short_waits")
def test_a_table_that_somebody_locks_is_waited_for_and_the_status_says_so(tmp_path: Path, there: There) -> None:
    lock = "LOCK TABLE flights IN ACCESS EXCLUSIVE MODE" if there.kind == "postgresql" else "LOCK TABLES flights WRITE"
    puts = PutsThere(tmp_path, there)
    with running(puts.stream):
        with closing(there.server.client(there.database, autocommit=False)) as client, client.cursor() as cursor:
            cursor.execute(lock)
            puts.put(2)
            wait_until(lambda: "lock" in str(puts.stream.status().last_error).lower(), 30)
        puts.stream.check_failures()
        assert puts.stream.flush(60), puts.stream.status()
        wait_until(lambda: puts.stream.status().last_error is None)
    assert puts.verdict() == Verdict()


def test_a_deadlock_with_somebody_is_retried(tmp_path: Path, there: There) -> None:
    puts = PutsThere(tmp_path, there, keys=["n", "row"])
    puts.put(2)  # the column that only some frames have is there, too: to add it would take a lock that is not meant
    puts.deliver()
    theirs = "UPDATE flights SET rows = rows WHERE n = 2"
    if there.kind != "postgresql":
        theirs = theirs.replace("rows", "`rows`")
    for _ in range(3):
        _collide(puts, there, theirs)
    assert puts.verdict() == Verdict()


def _collide(puts: PutsThere, there: There, theirs: str) -> None:
    """They hold rows of the table and ask for the ledger; we hold the ledger and ask for those rows."""
    with closing(there.server.client(there.database, autocommit=False)) as client, client.cursor() as cursor:
        cursor.execute(theirs)
        asking = threading.Thread(target=_ask, args=(cursor,))
        real = SqlTarget._load

        def load(target: SqlTarget, *arguments: Any, **options: Any) -> None:
            if not asking.ident:
                asking.start()
                time.sleep(0.2)  # they wait for the ledger by then; where not, there is no deadlock and no harm
            real(target, *arguments, **options)

        with pytest.MonkeyPatch.context() as patch, running(puts.stream):
            patch.setattr(SqlTarget, "_load", load)
            last = max(puts.acknowledged)
            puts.acknowledged = [1]
            puts.put(1)
            puts.acknowledged = [*range(1, last + 1)]
            puts.put(1)
            wait_until(lambda: asking.ident)
            asking.join(60)
            client.rollback()
            assert puts.stream.flush(60), puts.stream.status()


def _ask(cursor: Any) -> None:
    try:
        cursor.execute("SELECT * FROM _api2db_ledger FOR UPDATE")
    except Exception as error:  # noqa: BLE001 - they may be the ones who are thrown out
        assert "eadlock" in str(error)  # noqa: PT017 - what else it says is a fault of the test


@pytest.mark.usefixtures("_short_pauses")
@pytest.mark.parametrize("kind", ["mariadb", "mysql"])
def test_a_row_that_the_server_has_no_packet_for_is_set_aside_and_the_others_go_on(tmp_path: Path, kind: Any) -> None:
    with running_server(engine(kind), options=("--max-allowed-packet=65536", "--net-buffer-length=8192")) as server:
        for local in (0, 1):
            server.execute(f"SET GLOBAL local_infile = {local}")
            a_row_without_a_packet_is_set_aside(PutsThere(tmp_path / str(local), There(server)))


def a_row_without_a_packet_is_set_aside(puts: PutsThere) -> None:
    with running(puts.stream):
        puts.put(2, rows=1_000)
        assert puts.stream.flush(120), puts.stream.status()
        huge = {"stream_no": "own", "n": -1, "row": 0, "rows": 1, "payload": "x" * 200_000, "proof": "none"}
        puts.stream.q.put(pd.DataFrame([huge]))
        puts.put(2)
        assert puts.stream.flush(120), puts.stream.status()
    aside = set_aside(puts.home.path, puts.stream.stream_type)
    found = [row for row in puts.found() if row["n"] > 0]
    assert judge(found, puts.acknowledged) == Verdict()
    kept = [row for row in puts.found() if row["n"] == -1]
    assert len(aside) + len(kept) == 1
    assert all(row["payload"] == "x" * 200_000 for row in [*aside, *kept])


@pytest.mark.usefixtures("_short_waits")
def test_a_frozen_client_that_holds_the_ledger_is_thrown_out_and_another_goes_on(
    fork_server: ForkServer, tmp_path: Path, there: There
) -> None:
    home = home_on(there, tmp_path / "original", fork_server)
    shutil.copytree(home.path, tmp_path / "copy" / "home")
    with fork_server.start("freeze", home.project, frames=1) as child:
        frozen = psutil.Process(child.pid)
        wait_until(lambda: frozen.status() == psutil.STATUS_STOPPED)
        others = PutsThere(tmp_path / "others", there, begun=False, table="others")
        with running(others.stream):
            others.put(2)
            assert others.stream.flush(20), "another stream is not held up at all"
        copy = PutsThere(tmp_path / "copy", there, begun=False)
        copy.acknowledged = [100]
        copy.put(2)
        copy.deliver()
        os.kill(child.pid, signal.SIGCONT)
        child.wait()
    assert "a copy of this project" in fork_server.errors()
    assert judge(there.rows(), [1, 2, 3, 101, 102]) == Verdict()


def held(there: There) -> str:
    """The stream whose row of the ledger a test is about."""
    ((stream,),) = there.execute("SELECT stream FROM _api2db_ledger")
    return str(stream)


@contextmanager
def another_owner(there: There) -> Iterator[PostgresqlDatabase]:
    """The database as another owner of its streams has it, who reaches it directly."""
    server = there.server
    password = Password(lambda: server.password)
    database = PostgresqlDatabase(TargetServer(server.host, server.port, server.user, there.database, password))
    database.connect()
    yield database
    database.close()


def test_who_holds_the_ledger_and_lives_is_waited_for_no_longer_than_it_takes(
    tmp_path: Path, postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api2db.targets.postgresql._database._SILENT_S", 120.0)
    there = There(postgresql)
    PutsThere(tmp_path, there)
    client = postgresql.client(there.database, autocommit=False)
    with another_owner(there) as database, closing(client), client.cursor() as cursor:
        cursor.execute("UPDATE _api2db_ledger SET loaded = loaded")
        looking = threading.Thread(target=database.end_silent, args=(held(there),), daemon=True)
        looking.start()
        wait_until(lambda: _waiting(there), 30)
        client.commit()
        looking.join(60)
        assert not looking.is_alive()


def test_a_load_over_a_slow_link_is_not_taken_for_silent(
    tmp_path: Path, postgresql: Server, to_postgresql: Proxy
) -> None:
    """Each piece takes most of a second."""
    behind = There(postgresql, to_postgresql)
    puts = PutsThere(tmp_path, behind)
    with another_owner(behind) as database, running(puts.stream):
        puts.put(1)
        assert puts.stream.flush(60)
        to_postgresql.throttle(150)
        connections_before = to_postgresql.connections
        puts.put(1, rows=8_000)
        wait_until(lambda: behind.execute("SELECT 1 FROM pg_stat_progress_copy WHERE bytes_processed > 0"), 30)
        database.end_silent(held(behind))
        assert puts.stream.flush(60), puts.stream.status()
        assert to_postgresql.connections == connections_before
    assert puts.verdict() == Verdict()
