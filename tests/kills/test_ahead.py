"""The next load begins while the one in front of it is under way: whatever ends either, each row is there once."""

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from api2db.delivery import _batches, _prefetch
from api2db.errors import LedgerMovedError
from api2db.targets.port import LedgerRow, LedgerUpdate
from api2db.targets.postgresql import PostgresqlDatabase, _session
from api2db.targets.server import Password
from api2db.targets.server import Server as TargetServer
from api2db.targets.sql import SqlTarget, _ahead
from tests.kills.checker import Verdict, judge, set_aside
from tests.kills.fork_server import ForkServer
from tests.kills.here import wait_until
from tests.kills.marks import AHEAD
from tests.kills.on_servers import HomeOf, PutsThere, There
from tests.kills.test_random_kills import kill_often
from tests.servers.server import Server

# Transactions have their numbers in the order of their loads. Two that insert at once share the table's pages.
IN_ORDER = "age(xmin) DESC, n, row"
FRAMES = 60
SESSIONS = "FROM pg_stat_activity WHERE application_name = 'api2db' AND datname = '{}'"
ROWS = pa.table({"n": [1, 2]})
FIRST, SECOND, THIRD = (LedgerRow("epoch", number, 0) for number in (1, 2, 3))


@pytest.fixture
def there(postgresql: Server) -> There:
    return There(postgresql, order=IN_ORDER)


@pytest.fixture
def _early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_batches, "_LEAST_BEGUN_BYTES", 1)
    monkeypatch.setattr(_prefetch, "_LEAST_BYTES", 1)


@pytest.fixture
def _hasty(_early: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loads begin although other clients use the server."""
    monkeypatch.setattr(_session, "_MAY_OVERLAP", _session._MAY_OVERLAP.replace(_session._IS_QUIET, "TRUE"))


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each load that was begun ahead of its turn was committed."""
    real, found = _ahead._BegunLoad.commit, list[bool]()

    def commit(load: _ahead._BegunLoad, update: LedgerUpdate) -> bool:
        found.append(False)
        found[-1] = real(load, update)
        return found[-1]

    monkeypatch.setattr(_ahead._BegunLoad, "commit", commit)
    return found


def waiting(place: Path, there: There, **options: Any) -> PutsThere:
    """A stream that has delivered a few frames, and for which many wait."""
    puts = PutsThere(place, there, chunk_size=20, **options)
    puts.put(FRAMES)
    return puts


@contextmanager
def meanwhile(act: Callable[[], object]) -> Iterator[None]:
    """Do something again and again during the block."""
    ended = threading.Event()

    def again() -> None:
        while not ended.wait(0.005):
            act()

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.usefixtures("_early")
def test_what_waits_is_loaded_ahead_in_order(tmp_path: Path, there: There, commits: list[bool]) -> None:
    puts = waiting(tmp_path, there)
    puts.deliver()
    assert puts.verdict() == Verdict()
    assert sum(commits) > FRAMES // 4, "hardly a load was begun ahead of its turn"
    assert there.execute("SELECT loaded FROM _api2db_ledger") == [(len(puts.found()),)]


@pytest.mark.usefixtures("_early")
@pytest.mark.parametrize(
    "alter",
    [
        "CREATE UNIQUE INDEX ON flights (n, row)",
        "ALTER TABLE flights ADD COLUMN place BIGSERIAL",
        "CREATE TRIGGER mine BEFORE INSERT ON flights FOR EACH ROW EXECUTE FUNCTION mine()",
        "ALTER TABLE flights ENABLE ROW LEVEL SECURITY",
    ],
)
def test_loads_of_a_table_where_one_may_wait_for_another_stay_apart(
    tmp_path: Path, there: There, commits: list[bool], alter: str
) -> None:
    puts = PutsThere(tmp_path, there, chunk_size=20)
    there.execute("CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    there.execute(alter)
    puts.put(FRAMES)
    puts.deliver()
    assert puts.verdict() == Verdict()
    assert not any(commits)


@pytest.mark.usefixtures("_early")
def test_with_one_connection_nothing_is_begun(tmp_path: Path, there: There, commits: list[bool]) -> None:
    puts = waiting(tmp_path, there, max_connections=1)
    puts.deliver()
    assert puts.verdict() == Verdict()
    assert not commits


@pytest.mark.usefixtures("_early")
@pytest.mark.parametrize("is_busy", [False, True])
def test_a_load_begins_early_only_if_nobody_else_uses_the_server(
    tmp_path: Path, there: There, commits: list[bool], *, is_busy: bool
) -> None:
    puts = waiting(tmp_path, there)
    with closing(there.server.client(there.database)) as client:
        client.execute("SELECT 1")
        time.sleep(1.1)  # longer than what a client did a while ago counts
        if is_busy:
            client.execute("SELECT 1")
        with meanwhile(lambda: client.execute("SELECT 1")) if is_busy else nullcontext():
            puts.deliver()
    assert puts.verdict() == Verdict()
    assert any(commits) != is_busy


@pytest.mark.usefixtures("_early")
def test_columns_that_come_later_are_added_though_the_next_load_has_begun(
    tmp_path: Path, there: There, commits: list[bool]
) -> None:
    puts = PutsThere(tmp_path, there, chunk_size=2)
    for number in range(FRAMES):
        columns = {"n": [number] * 4} | {f"c{each}": ["x"] * 4 for each in range(number // 10)}
        puts.stream.q.put(pd.DataFrame(columns))
    puts.deliver()
    found = there.execute(
        "SELECT n, count(*), count(c0), count(c4) FROM flights WHERE row IS NULL GROUP BY n ORDER BY n"
    )
    assert found == [(n, 4, 4 * (n >= 10), 4 * (n >= 50)) for n in range(FRAMES)]
    assert any(commits)


@pytest.mark.usefixtures("_hasty", "_short_pauses")
@pytest.mark.parametrize("alter", ["ADD COLUMN c{} INT", "ALTER n TYPE BIGINT USING n + 0"])
def test_another_program_may_alter_the_table_meanwhile(
    tmp_path: Path, there: There, commits: list[bool], alter: str
) -> None:
    puts = waiting(tmp_path, there)
    numbers = iter(range(1000))
    for _ in range(5):  # by chance, each begun load may meet a change
        with meanwhile(lambda: there.execute(f"ALTER TABLE flights {alter.format(next(numbers))}")):
            puts.deliver()
        if any(commits):
            break
        puts.put(FRAMES)
    rows = [{name: value for name, value in row.items() if not re.fullmatch(r"c\d+", name)} for row in puts.found()]
    assert judge(rows, puts.acknowledged) == Verdict()
    assert any(commits)


@pytest.mark.usefixtures("_early")
def test_a_row_that_does_not_fit_is_set_aside(tmp_path: Path, there: There, commits: list[bool]) -> None:
    puts = PutsThere(tmp_path, there, chunk_size=20, schema="freeze")
    for number in range(FRAMES):
        puts.put(1)
        if number % 7 == 3:
            puts.stream.q.put(pd.DataFrame({"n": ["no number"]}))
    puts.deliver()
    refused = set_aside(puts.home.path, puts.stream.stream_type)
    ours = [row for row in refused if row["n"] != "no number"]  # of frames with a column that the table lacks
    assert judge(puts.found(), puts.acknowledged, ours) == Verdict()
    assert len(refused) - len(ours) == len(range(3, FRAMES, 7))
    assert any(commits)


@pytest.mark.usefixtures("_hasty", "_short_pauses")
def test_connections_may_break_at_any_time(tmp_path: Path, there: There, commits: list[bool]) -> None:
    puts, dice = waiting(tmp_path, there), random.Random(1)

    def end_some() -> None:
        for (pid,) in there.execute(f"SELECT pid {SESSIONS.format(there.database)}"):
            if dice.random() < 0.2:
                there.execute(f"SELECT pg_terminate_backend({pid})")

    for _ in range(5):
        with meanwhile(end_some):
            puts.stream.start()
            puts.stream.flush(1)
        assert puts.stream.flush(60), puts.stream.status()
        puts.stream.stop()
        puts.put(FRAMES)
    puts.deliver()
    assert puts.verdict() == Verdict()
    assert any(commits)


@pytest.mark.usefixtures("_early")
def test_a_stream_may_stop_at_any_time(tmp_path: Path, there: There) -> None:
    puts, dice = waiting(tmp_path, there), random.Random(2)
    for _ in range(10):
        puts.stream.start()
        puts.stream.flush(dice.uniform(0, 0.05))
        puts.stream.stop(0)
        puts.put(5)
    puts.deliver()
    assert puts.verdict() == Verdict()
    wait_until(lambda: there.execute(f"SELECT count(*) {SESSIONS.format(there.database)}") == [(0,)])


@pytest.fixture
def target(there: There) -> Iterator[SqlTarget]:
    server = there.server
    password = Password(lambda: server.password)
    place = TargetServer(server.host, server.port, server.user, there.database, password)
    target = SqlTarget(PostgresqlDatabase(place), "t", "append", "evolve")
    target.connect()
    target.read_position("stream")
    target.load(ROWS, target.prepare(ROWS.schema), LedgerUpdate("stream", None, FIRST, 2))
    yield target
    target.close()


def begun(target: SqlTarget) -> _ahead._BegunLoad:
    load = target.begin(ROWS, target.prepare(ROWS.schema))
    assert isinstance(load, _ahead._BegunLoad)
    return load


def numbers_in(there: There) -> list[int]:
    return [n for (n,) in there.execute("SELECT n FROM t")]


def test_a_begun_load_is_committed_after_the_one_in_front(target: SqlTarget, there: There) -> None:
    load = begun(target)
    target.load(ROWS, target.prepare(ROWS.schema), LedgerUpdate("stream", FIRST, SECOND, 2))
    assert load.commit(LedgerUpdate("stream", SECOND, THIRD, 2))
    assert numbers_in(there) == [1, 2] * 3
    assert target.read_position("stream") == THIRD


def test_it_is_rolled_back_if_the_one_in_front_fails(target: SqlTarget, there: There) -> None:
    load = begun(target)
    with pytest.raises(LedgerMovedError):
        target.load(ROWS, target.prepare(ROWS.schema), LedgerUpdate("stream", SECOND, THIRD, 2))
    assert not load.commit(LedgerUpdate("stream", FIRST, SECOND, 2))
    assert numbers_in(there) == [1, 2]


def test_it_is_rolled_back_if_the_ledger_has_moved(target: SqlTarget, there: There) -> None:
    load = begun(target)
    target.load(ROWS, target.prepare(ROWS.schema), LedgerUpdate("stream", FIRST, SECOND, 2))
    with pytest.raises(LedgerMovedError):
        load.commit(LedgerUpdate("stream", FIRST, THIRD, 2))
    assert numbers_in(there) == [1, 2] * 2


def test_it_is_rolled_back_before_the_table_changes(target: SqlTarget, there: There) -> None:
    load = begun(target)
    target.prepare(pa.schema({"n": pa.int64(), "more": pa.string()}))
    assert not load.commit(LedgerUpdate("stream", FIRST, SECOND, 2))
    assert numbers_in(there) == [1, 2]
    assert target.begin(ROWS, target.columns() or ()) is None, "it would wait until the change is done"


def test_it_is_rolled_back_if_its_turn_does_not_come(
    target: SqlTarget, there: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_ahead, "LONGEST_S", 0.05)
    load = begun(target)
    target.load(ROWS, target.prepare(ROWS.schema), LedgerUpdate("stream", FIRST, SECOND, 2))
    load._thread.join()
    assert not load.commit(LedgerUpdate("stream", SECOND, THIRD, 2))
    assert numbers_in(there) == [1, 2] * 2


@pytest.mark.parametrize("rounds", [10, pytest.param(200, marks=[pytest.mark.torture, pytest.mark.timeout(3600)])])
def test_whenever_the_client_is_killed_each_acknowledged_row_is_there_once(
    fork_server: ForkServer, tmp_path: Path, there: There, say: list[str], rounds: int
) -> None:
    home = HomeOf(tmp_path, (there.kind,), options=there.options(chunk_size=20), begins_early=True, there=there)
    fork_server.run("produce", home.project, frames=3)
    say.append(kill_often(fork_server, home, rounds))
    begun = (home.logs / "marks").read_text().count(f" {AHEAD}\n")
    assert begun > rounds, "hardly a load was begun ahead of its turn"
    say.append(f"{begun} loads were begun ahead of their turn")
