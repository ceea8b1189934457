"""The server of the tests is strict where HeavyDB is: else a test on it would prove nothing."""

from collections.abc import Iterator
from typing import Any

import heavydb
import pyarrow as pa
import pytest

from api2db.errors import TargetUnavailableError
from api2db.targets.heavydb._client import Session
from api2db.targets.server import Password, Server
from tests.servers.omnisci import OmnisciServer


class Client:
    """The client of the wheel, with a load that it has no method for."""

    def __init__(self, connection: heavydb.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        return list(self._connection.execute(sql))

    def call(self, name: str, *arguments: Any) -> Any:
        return getattr(self._connection._client, name)(self._connection._session, *arguments)

    def load(self, columns: dict[str, pa.Array], batches: int = 1, *, by_name: bool = True) -> None:
        batch = pa.record_batch(columns)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as stream:
            for _ in range(batches):
                stream.write_batch(batch)
        self.call("load_table_binary_arrow", "t", sink.getvalue().to_pybytes(), by_name)

    @property
    def epoch(self) -> int:
        return int(self.call("get_table_epoch_by_name", "t"))


@pytest.fixture
def client(omnisci: OmnisciServer) -> Iterator[Client]:
    with omnisci.reach.client() as connection:
        yield Client(connection)


REFUSED = {
    "BIGINT": [pa.array([1], pa.int32()), pa.array([1], pa.uint64()), pa.array([1.0]), pa.array(["1"])],
    "INTEGER": [pa.array([1])],
    "DECIMAL(5,2)": [pa.array([1], pa.decimal128(5, 2)), pa.array([100_000])],
    "TEXT": [pa.array(["x"], pa.large_string()), pa.array(["x"]).dictionary_encode(), pa.array(["x" * 32_768])],
    "TIMESTAMP(9)": [pa.array([1])],
    "DOUBLE": [pa.array([1.0], pa.float32())],
    "BOOLEAN": [pa.array([1], pa.int8())],
    "BIGINT ENCODING FIXED(16)": [pa.array([2**15])],
    "BIGINT NOT NULL": [pa.array([None], pa.int64())],
}


@pytest.mark.parametrize(
    ("declared", "values"),
    [(declared, values) for declared, each in REFUSED.items() for values in each],
    ids=lambda each: str(getattr(each, "type", each)),
)
def test_types_are_matched_exactly_and_what_does_not_fit_is_refused_whole(
    client: Client, declared: str, values: pa.Array
) -> None:
    client.execute(f"CREATE TABLE t (v {declared})")
    before = client.epoch
    with pytest.raises(Exception, match=r"Expected|range|too long|NULL"):
        client.load({"v": values})
    assert client.execute("SELECT COUNT(*) FROM t") == [(0,)]
    assert client.epoch == before


@pytest.mark.parametrize("batches", [0, 2])
def test_a_load_is_exactly_one_record_batch(client: Client, batches: int) -> None:
    client.execute("CREATE TABLE t (v BIGINT)")
    with pytest.raises(Exception, match="single Arrow record batch"):
        client.load({"v": pa.array([1])}, batches)


def test_some_values_become_null_without_a_word(client: Client) -> None:
    client.execute("CREATE TABLE t (n BIGINT, s TEXT, f DOUBLE)")
    client.load({"n": pa.array([-(2**63)]), "s": pa.array([""]), "f": pa.array([2.2250738585072014e-308])})
    assert client.execute("SELECT * FROM t") == [(None, None, None)]


def test_a_timestamp_without_digits_and_a_time_end_at_seconds(client: Client, omnisci: OmnisciServer) -> None:
    client.execute("CREATE TABLE t (a TIMESTAMP(0), b TIME)")
    client.load({"a": pa.array([1_999], pa.timestamp("ms")), "b": pa.array([1_999_999], pa.time64("us"))})
    assert omnisci.sql("SELECT epoch(a), epoch(b) FROM t").to_pylist() == [{"epoch(a)": 1.0, "epoch(b)": 1.0}]


def test_columns_are_found_by_name_and_those_left_out_are_null(client: Client) -> None:
    client.execute("CREATE TABLE t (a BIGINT, b BIGINT)")
    client.load({"B": pa.array([1])})
    assert client.execute("SELECT a, b FROM t") == [(None, 1)]
    with pytest.raises(Exception, match="does not exist"):
        client.load({"c": pa.array([1])})
    with pytest.raises(Exception, match="number of columns"):
        client.load({"b": pa.array([1])}, by_name=False)


def test_each_change_moves_the_epoch_by_one(client: Client) -> None:
    client.execute("CREATE TABLE t (v BIGINT)")
    for change in (lambda: client.load({"v": pa.array([1])}), lambda: client.execute("DELETE FROM t WHERE v = 1")):
        before = client.epoch
        change()
        assert client.epoch == before + 1


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE t (select BIGINT)",
        'CREATE TABLE t ("order" BIGINT)',
        "CREATE TABLE table (v BIGINT)",
        "CREATE TABLE two words (v BIGINT)",
        "CREATE TABLE t (v BLOB)",
        "CREATE TABLE t (v DECIMAL(19,2))",
        "CREATE TABLE t (v TIMESTAMP(5))",
        "CREATE TABLE t (v BIGINT, V BIGINT)",
        "ALTER TABLE t ADD COLUMN v BIGINT",
        "MERGE INTO t",
    ],
)
def test_what_heavydb_does_not_take_is_refused(client: Client, sql: str) -> None:
    with pytest.raises(heavydb.Error):
        client.execute(sql)


def test_a_call_that_it_does_not_know_is_refused(client: Client) -> None:
    with pytest.raises(Exception, match="get_memory"):
        client.call("get_memory", "cpu")


def test_nobody_is_let_in_by_a_wrong_password_or_goes_on_in_an_ended_session(omnisci: OmnisciServer) -> None:
    with pytest.raises(TargetUnavailableError, match="Authentication"):
        Session(
            Server(omnisci.host, omnisci.port, omnisci.user, omnisci.database, Password(lambda: "x")), "binary", 10
        ).connect()
    with omnisci.reach.client() as connection:
        omnisci.forget_sessions()
        with pytest.raises(heavydb.Error, match="Session"):
            connection.execute("SELECT 1")
