"""Stream2Omnisci: what the spec says of it, its types, and what it does because HeavyDB differs from other targets."""

import datetime
import inspect
import json
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, get_type_hints

import pandas as pd
import pyarrow as pa
import pytest
from heavydb import Connection
from heavydb.thrift.ttypes import TDBException

import api2db
from api2db import Stream, Stream2Omnisci
from api2db.app._scaffold import make_project
from api2db.stream import stream2omnisci
from api2db.targets.heavydb import HeavydbTarget
from api2db.targets.heavydb._client import Session
from api2db.targets.server import Password, Server
from tests.servers.omnisci import OmnisciServer, statements
from tests.servers.omnisci.columns import RefusedError
from tests.servers.omnisci.reach import Reach
from tests.servers.omnisci.tables import Tables
from tests.stream.cases import frame, records, rejected_rows
from tests.stream.eventually import eventually

TABLE = "flights_stream"
Make = Callable[..., Stream2Omnisci]


@pytest.fixture
def make(omnisci: OmnisciServer, tmp_path: Path) -> Iterator[Make]:
    """Makes streams into the HeavyDB of the tests, and stops them in any case."""
    made: list[Stream2Omnisci] = []

    def make(**options: Any) -> Stream2Omnisci:
        made.append(Stream2Omnisci(**{"name": "flights", "home": tmp_path, **omnisci.reach.options, **options}))
        return made[-1]

    yield make
    for stream in made:
        stream.stop()


@pytest.fixture
def there(omnisci: OmnisciServer) -> Reach:
    return omnisci.reach


def put(stream: Stream, *frames: Any) -> None:
    """Put frames, each as one load, and check that they are delivered."""
    stream.start()
    for each in frames:
        stream.q.put(each)
        assert stream.flush(20), stream.status()


def reasons(home: Path) -> list[str]:
    return [row["_api2db_reason"] for row in rejected_rows(home, "omnisci")]


def test_the_constructor_and_the_methods_are_the_spec_s() -> None:
    wanted = {
        "name": inspect.Parameter.empty,
        "db_name": inspect.Parameter.empty,
        "username": None,
        "password": None,
        "host": None,
        "auth_path": None,
        "protocol": "binary",
        "chunk_size": 0,
        "store": False,
    }
    parameters = inspect.signature(Stream2Omnisci).parameters.values()
    positional = {each.name: each.default for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD}
    assert (list(positional), positional) == (list(wanted), wanted)
    assert list(inspect.signature(Stream2Omnisci.stream).parameters) == ["self", "data", "retry_depth"]
    assert inspect.signature(Stream2Omnisci.stream).parameters["retry_depth"].default == 5
    assert list(inspect.signature(Stream2Omnisci.cast_categorical).parameters) == ["data", "dtypes"]
    assert isinstance(inspect.getattr_static(Stream2Omnisci, "cast_categorical"), staticmethod)
    assert get_type_hints(Stream2Omnisci.stream)["return"] is type(None)
    assert Stream2Omnisci.__bases__ == (Stream,)
    assert stream2omnisci.Stream2Omnisci is api2db.Stream2Omnisci


@pytest.mark.parametrize("lacking", ["username", "password", "host"])
def test_without_a_file_of_credentials_each_of_them_is_asked_for(tmp_path: Path, lacking: str) -> None:
    given: dict[str, Any] = {"username": "me", "password": "secret", "host": "there"}
    with pytest.raises(ValueError, match=lacking):
        Stream2Omnisci("flights", "heavyai", home=tmp_path, **(given | {lacking: None}))


def test_credentials_may_come_from_a_file(make: Make, there: Reach, tmp_path: Path) -> None:
    """The file has the form of the template that ``api2db init`` writes."""
    make_project(tmp_path, ["flights"])
    said = json.loads((tmp_path / "AUTH" / "omnisci_template.json").read_text())
    who = {"db_name": there.database, "username": there.user, "password": there.password, "host": there.host}
    assert said.keys() == who.keys()
    (tmp_path / "AUTH" / "omnisci_auth.json").write_text(json.dumps({**who, "port": there.port}))
    nothing = dict.fromkeys(("username", "password", "host"))
    put(make(auth_path="AUTH/omnisci_auth.json", port="", **nothing), frame(1))
    assert there.execute(f"SELECT id_t FROM {TABLE}") == [(1,)]


@pytest.mark.parametrize("content", [None, "not JSON", '{"user": "me"}', '{"username": "me", "host": "there"}'])
def test_a_file_of_credentials_that_is_none_is_said_to_be(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "auth.json").write_text(content)
    with pytest.raises(ValueError, match=r"auth\.json"):
        Stream2Omnisci("flights", "heavyai", auth_path="auth.json", home=tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"protocol": "carrier pigeon"},
        {"protocol": ["binary"]},
        {"db_name": ""},
        {"port": "near"},
        {"port": "0"},
        {"port": 65_536},
        {"table": 'a"b'},
        {"chunk_size": -1},
    ],
    ids=str,
)
def test_an_option_that_can_not_be_used_is_a_value_error(make: Make, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|can't be named"):
        make(**options)


def test_the_attributes_are_the_spec_s_and_none_tells_the_password(make: Make, there: Reach) -> None:
    stream = make()
    assert (stream.con, stream.connected(stream.con), stream.stream_type) == (None, False, "omnisci")
    assert "flights" in stream.log_str
    connection: Any = stream.connect()
    assert list(connection.execute("SELECT 1")) == [(1,)]
    assert stream.connected(stream.con) is True
    assert stream.connect() is stream.con is connection
    said = [repr(stream), stream.log_str, stream.describe(), stream.identity, str(stream.status())]
    assert not [each for each in said if there.password in each]
    stream.stop()
    assert stream.con is None


@pytest.mark.parametrize("protocol", ["binary", "http"])
def test_the_connection_has_all_that_the_client_s_constructor_gives_it(
    make: Make, omnisci: OmnisciServer, protocol: str
) -> None:
    port = {"binary": omnisci.port, "http": omnisci.http_port}[protocol]
    ours = vars(make(protocol=protocol, port=port).connect())
    user, password, database, host = omnisci.user, omnisci.password, omnisci.database, omnisci.host
    theirs = Connection(user=user, password=password, host=host, port=port, dbname=database, protocol=protocol)
    assert ours.keys() == vars(theirs).keys()
    alike = ours.keys() - {"_client", "_transport", "_socket", "_session", "_host"}
    assert {name: ours[name] for name in alike} == {name: vars(theirs)[name] for name in alike}
    theirs.close()
    theirs._transport.close()


@pytest.mark.parametrize("protocol", ["binary", "http"])
@pytest.mark.parametrize("answers", range(4))
def test_connect_waits_no_longer_than_it_should_whichever_answer_never_comes(
    make: Make, omnisci: OmnisciServer, monkeypatch: pytest.MonkeyPatch, answers: int, protocol: str
) -> None:
    monkeypatch.setattr(stream2omnisci, "_ANSWER_S", 0.2)
    left, go_on = iter(range(answers)), threading.Event()

    def stalling(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if next(left, None) is None:
                go_on.wait()
            return real(*arguments)

        return call

    for name in ("connect", "disconnect", "get_version"):
        monkeypatch.setattr(omnisci.handler, name, stalling(getattr(omnisci.handler, name)))
    port = {"binary": omnisci.port, "http": omnisci.http_port}[protocol]
    connecting = threading.Thread(target=make(protocol=protocol, port=port).connect, daemon=True)
    connecting.start()
    connecting.join(10)
    is_waiting = connecting.is_alive()
    go_on.set()
    assert not is_waiting


def test_a_server_that_lets_nobody_in_gives_no_connection_and_says_why(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    stream = make(password="wrong one")
    assert stream.connect() is None
    assert "Authentication failure" in caplog.text
    assert "wrong one" not in caplog.text


def test_a_server_that_repeats_the_password_is_quoted_without_it(
    make: Make, omnisci: OmnisciServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def connect(user: str, password: str, _database: str) -> str:
        raise TDBException(f"nobody is {user} with {password}")

    monkeypatch.setattr(omnisci.handler, "connect", connect)
    stream = make()
    assert stream.connect() is None
    stream.start()
    stream.q.put(frame(1))
    said = str(eventually(lambda: stream.status().last_error))
    assert "nobody is" in said
    assert "nobody is" in caplog.text
    assert omnisci.password not in said + caplog.text


def test_what_has_ended_leaves_no_session_on_the_server(make: Make, omnisci: OmnisciServer) -> None:
    before = set(omnisci.handler.sessions)
    stream = make()
    put(stream, frame(1))
    assert stream.connect() is not None
    assert len(omnisci.handler.sessions - before) == 2
    stream.stop()
    assert omnisci.handler.sessions == before


def test_streams_into_two_tables_are_two(make: Make) -> None:
    said: list[dict[str, Any]] = [{}, {"table": "other"}, {"db_name": "other"}, {"host": "other"}, {"port": 1}]
    assert len({make(**each).identity for each in said}) == len(said)


def test_an_answer_that_comes_too_late_is_never_taken_for_that_of_the_next_question(
    omnisci: OmnisciServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answered = iter(range(1, 9)), threading.Event()

    def epoch(_session: str, _table: str) -> int:
        number = next(asked)
        if number == 1:
            answered.wait(2)  # longer than the first request waits, and shorter than both
        return number

    monkeypatch.setattr(omnisci.handler, "get_table_epoch_by_name", epoch)
    password = Password(lambda: omnisci.password)
    session = Session(Server(omnisci.host, omnisci.port, omnisci.user, omnisci.database, password), "binary", 1.5)
    assert session.ask("get_table_epoch_by_name", TABLE) == 2
    answered.set()
    session.close()


def test_cast_categorical_makes_text_categorical_and_leaves_the_frame_as_it_was() -> None:
    given = pd.DataFrame({"number": [1, 2], "text": pd.Series(["a", None], dtype=object), 7: ["x", "y"]})
    before = given.copy(deep=True)
    found = Stream2Omnisci.cast_categorical(given, given.dtypes)
    assert list(found.columns) == ["number_t", "text_t", "7_t"]
    assert found["text_t"].dtype == "category"
    assert found["text_t"].tolist() == ["a", ""]
    assert found["number_t"].tolist() == [1, 2]
    pd.testing.assert_frame_equal(given, before)


def test_cast_categorical_makes_json_text_of_what_no_category_can_be() -> None:
    given = pd.DataFrame({"v": [[1, "ü"], {"a": {2}}, "text", None, ([3],)]})
    before = given.copy(deep=True)
    found = Stream2Omnisci.cast_categorical(given, given.dtypes)
    assert found["v_t"].dtype == "category"
    assert found["v_t"].tolist() == ['[1, "ü"]', '{"a": [2]}', "text", "", "[[3]]"]
    pd.testing.assert_frame_equal(given, before)


def test_the_table_has_the_collector_s_name_and_its_columns_end_in_t(make: Make, there: Reach) -> None:
    put(make(), frame(1, 2))
    assert there.rows(TABLE) == [{"id_t": 1, "text_t": "row 1"}, {"id_t": 2, "text_t": "row 2"}]
    text = there.columns(TABLE)["text_t"]
    assert (text.encoding, text.comp_param) == (4, 32), "TEXT ENCODING DICT(32)"


def test_names_that_are_reserved_words_need_no_care(make: Make, there: Reach) -> None:
    put(make(name="select"), pd.DataFrame({"order": [1], "User": [2], "two words": [3]}))
    assert there.rows("select_stream") == [{"order_t": 1, "User_t": 2, "two words_t": 3}]


@pytest.mark.parametrize("protocol", ["binary", "http"])
def test_each_protocol_carries_the_same(make: Make, omnisci: OmnisciServer, protocol: str) -> None:
    port = {"binary": omnisci.port, "http": omnisci.http_port}[protocol]
    put(make(protocol=protocol, port=port), frame(1), frame(2))
    assert omnisci.reach.execute(f"SELECT id_t FROM {TABLE} ORDER BY id_t") == [(1,), (2,)]


@pytest.mark.parametrize(
    ("values", "declared", "wanted"),
    [
        (pa.array([Decimal("1.10"), Decimal("-9.99"), None]), ("DECIMAL", 3, 2), [Decimal("1.10"), Decimal("-9.99")]),
        (pa.array([Decimal("9" * 16 + ".99"), None]), ("DECIMAL", 18, 2), [Decimal("9" * 16 + ".99")]),
        (pa.array([1, None], pa.time32("s")), ("TIME", 0, 0), [datetime.time(0, 0, 1)]),
        (pa.array([1, None], pa.timestamp("s")), ("TIMESTAMP", 6, 0), [datetime.datetime(1970, 1, 1, 0, 0, 1)]),  # noqa: DTZ001
        (pa.array([1.5, None], pa.float32()), ("FLOAT", 0, 0), [1.5]),
        (pa.array([2**32 - 1, None], pa.uint32()), ("BIGINT", 0, 0), [2**32 - 1]),
    ],
    ids=str,
)
def test_arrow_s_own_kinds_have_theirs(
    make: Make, omnisci: OmnisciServer, values: pa.Array, declared: tuple[str, int, int], wanted: list[Any]
) -> None:
    put(make(), pa.table({"v": values}))
    column = omnisci.handler.tables.find(TABLE).columns["v_t"]
    assert (column.name, column.precision, column.scale) == declared
    found = [value for value in omnisci.sql(f'SELECT * FROM "{TABLE}"').column(0).to_pylist() if value is not None]
    assert found == wanted


def test_a_duration_beyond_what_nanoseconds_count_rejects_its_own_row_alone(
    make: Make, omnisci: OmnisciServer, tmp_path: Path
) -> None:
    put(make(), pa.table({"id": [1, 2], "v": pa.array([10**12, 1], pa.duration("s"))}))
    assert omnisci.sql(f'SELECT v_t FROM "{TABLE}"').column(0).to_pylist() == [10**9]
    [reason] = reasons(tmp_path)
    assert "'v_t'" in reason


def test_that_empty_texts_are_null_there_is_said_once_a_column(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    put(make(), *[pd.DataFrame({"a": ["", "x"], "b": ["y", "z"]})] * 2)
    assert [record.getMessage() for record in caplog.records if "empty texts" in record.getMessage()] == [
        "'a_t' has empty texts, which are NULL in HeavyDB"
    ]


def test_columns_that_come_later_are_added(make: Make, there: Reach) -> None:
    put(make(), frame(1), frame(2).assign(more=[2.5]), frame(3))
    assert [row["more_t"] for row in there.rows(TABLE)] == [None, 2.5, None]


def test_a_frozen_table_stays_as_it_is(make: Make, there: Reach, tmp_path: Path) -> None:
    put(make(schema="freeze"), frame(1), frame(2).assign(more=[2.5]))
    assert there.rows(TABLE) == [{"id_t": 1, "text_t": "row 1"}]
    assert reasons(tmp_path) == ["the table has no column 'more_t'"]


def test_no_column_of_a_frozen_table_is_widened(make: Make, there: Reach, tmp_path: Path) -> None:
    put(make(), pd.DataFrame({"v": [1]}))
    put(make(schema="freeze", stream_id="another life"), pd.DataFrame({"v": [2.5]}))
    assert there.rows(TABLE) == [{"v_t": 1}]
    assert len(reasons(tmp_path)) == 1


def test_whole_numbers_become_fractions_where_no_row_loses_by_it(make: Make, there: Reach) -> None:
    put(make(), pd.DataFrame({"v": [1, 2]}), pd.DataFrame({"v": [2.5]}))
    assert [row["v_t"] for row in there.rows(TABLE)] == [1.0, 2.0, 2.5]


def test_whole_numbers_that_a_fraction_does_not_hold_stay_and_the_fraction_is_rejected(
    make: Make, there: Reach, tmp_path: Path
) -> None:
    put(make(), pd.DataFrame({"v": [2**53 + 1]}), pd.DataFrame({"v": [2.5]}))
    assert there.rows(TABLE) == [{"v_t": 2**53 + 1}]
    assert len(reasons(tmp_path)) == 1


def test_a_server_that_changes_no_type_rejects_what_does_not_fit_and_says_so_once(
    make: Make, there: Reach, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    known = [each for each in statements._STATEMENTS if each[1] is not statements._change_type]
    monkeypatch.setattr(statements, "_STATEMENTS", known)
    put(make(), pd.DataFrame({"v": [1]}), pd.DataFrame({"v": [2.5]}), pd.DataFrame({"v": [3.5]}))
    assert there.rows(TABLE) == [{"v_t": 1}]
    assert len(reasons(tmp_path)) == 2
    assert caplog.text.count("the column 'v_t' stays BIGINT") == 1


def test_a_column_of_numbers_never_becomes_one_of_text(make: Make, there: Reach, tmp_path: Path) -> None:
    put(make(), pd.DataFrame({"v": [1]}), pd.DataFrame({"v": [2**63]}), pd.DataFrame({"v": [Decimal("1e30")]}))
    assert there.rows(TABLE) == [{"v_t": 1}]
    assert len(reasons(tmp_path)) == 2


def test_an_all_null_first_frame_does_not_fix_a_type(make: Make, there: Reach) -> None:
    put(make(), pd.DataFrame({"v": [None, None]}), pd.DataFrame({"v": [7]}))
    assert [row["v_t"] for row in there.rows(TABLE)] == [None, None, 7]


def test_a_change_of_type_that_was_cut_short_is_made_again(make: Make, there: Reach) -> None:
    put(make(), pd.DataFrame({"v": [None, None]}))
    there.execute(f'ALTER TABLE {TABLE} ADD COLUMN "_api2db_new" BIGINT')
    put(make(stream_id="another life"), pd.DataFrame({"v": [2.5]}))
    assert there.rows(TABLE) == [{"v_t": None}, {"v_t": None}, {"v_t": 2.5}]


def test_names_that_differ_in_case_are_one_column_there(make: Make, there: Reach, tmp_path: Path) -> None:
    put(make(), pd.DataFrame({"v": [1]}), pd.DataFrame({"V": [2]}), pd.DataFrame([[3, 4]], columns=["v", "V"]))
    assert [row["v_t"] for row in there.rows(TABLE)] == [1, 2]
    [reason] = reasons(tmp_path)
    assert "one column" in reason


def test_a_column_s_name_with_a_quote_rejects_its_rows(make: Make, there: Reach, tmp_path: Path) -> None:
    put(make(), frame(1), pd.DataFrame({'a"b': [1]}), frame(2))
    assert [row["id_t"] for row in there.rows(TABLE)] == [1, 2]
    [reason] = reasons(tmp_path)
    assert "quotes" in reason


def test_a_table_of_the_user_s_own_takes_what_it_holds_exactly(
    make: Make, there: Reach, omnisci: OmnisciServer, tmp_path: Path
) -> None:
    there.execute(
        f"CREATE TABLE {TABLE} (a_t BIGINT ENCODING FIXED(16), b_t TIMESTAMP(0), c_t DECIMAL(5,1), d_t TEXT NOT NULL)"
    )
    good: dict[str, list[Any]] = {
        "a": [1],
        "b": [pd.Timestamp("2026-02-28 01:02:03")],
        "c": [Decimal("1.5")],
        "d": ["x"],
    }
    bad: list[dict[str, list[Any]]] = [
        {"a": [2**15]},
        {"b": [pd.Timestamp("2026-02-28 01:02:03.5")]},
        {"c": [Decimal("1.55")]},
        {"d": [None]},
    ]
    stream = make(schema="freeze")
    put(stream, pd.DataFrame(good), *[pd.DataFrame({**good, **each}) for each in bad])
    assert omnisci.sql(f"SELECT count(*) FROM {TABLE}").column(0).to_pylist() == [1]
    assert [reason.split(":")[0] for reason in reasons(tmp_path)] == ["'a_t'", "'b_t'", "'c_t'", "'d_t'"]


def test_the_row_that_only_the_server_refuses_is_found_among_others(
    make: Make, there: Reach, omnisci: OmnisciServer, tmp_path: Path
) -> None:
    there.execute(f"CREATE TABLE {TABLE} (id_t BIGINT, day_t DATE ENCODING DAYS(16))")
    days = [datetime.date(2026, 1, 1)] * 100
    days[37] = datetime.date(2100, 1, 1)
    put(make(), pd.DataFrame({"id": range(100), "day": days}))
    assert omnisci.sql(f"SELECT id_t FROM {TABLE}").column(0).to_pylist() == [n for n in range(100) if n != 37]
    assert [row["id"] for row in rejected_rows(tmp_path, "omnisci")] == [37]


def test_a_table_with_shards_is_not_written_to(make: Make, there: Reach) -> None:
    there.execute(f"CREATE TABLE {TABLE} (id_t BIGINT, text_t TEXT, SHARD KEY (id_t)) WITH (shard_count=2)")
    stream = make()
    stream.start()
    stream.q.put(frame(1))
    assert "shards" in str(eventually(lambda: stream.status().last_error))
    there.drop(TABLE)
    assert stream.flush(20)


def test_a_table_that_is_dropped_or_altered_between_loads_is_followed(
    make: Make, there: Reach, caplog: pytest.LogCaptureFixture
) -> None:
    stream = make()
    put(stream, frame(1))
    there.execute(f"ALTER TABLE {TABLE} DROP COLUMN text_t")
    put(stream, frame(2))
    assert there.rows(TABLE) == [{"id_t": 1, "text_t": None}, {"id_t": 2, "text_t": "row 2"}]
    assert "not delivered" not in caplog.text
    there.drop(TABLE)
    put(stream, frame(3))
    assert there.rows(TABLE) == [{"id_t": 3, "text_t": "row 3"}]


def test_a_table_without_an_epoch_is_looked_at_anew(
    make: Make, there: Reach, omnisci: OmnisciServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """HeavyDB's call raises nothing: it returns a negative number if it fails."""
    stream = make()
    put(stream, frame(1))
    epochs, plans = iter([-1]), []
    real_epoch: Callable[..., int] = omnisci.handler.get_table_epoch_by_name
    real_plan = HeavydbTarget.plan

    def epoch(session: str, table: str) -> int:
        return next(epochs, None) or real_epoch(session, table)

    def plan(target: HeavydbTarget, *arguments: Any) -> Any:
        plans.append(real_plan(target, *arguments))
        return plans[-1]

    monkeypatch.setattr(omnisci.handler, "get_table_epoch_by_name", epoch)
    monkeypatch.setattr(HeavydbTarget, "plan", plan)
    put(stream, frame(2))
    assert [each.details["epoch"] for each in plans] == [1]
    assert [row["id_t"] for row in there.rows(TABLE)] == [1, 2]
    assert "not delivered" not in caplog.text


@pytest.mark.parametrize(
    "said",
    [
        "Session not valid or expired.",
        "Session not valid.",
        "Idle Session Timeout. User should re-authenticate.",
        "Maximum active Session Timeout. User should re-authenticate.",
    ],
)
def test_sessions_that_the_server_has_ended_are_begun_anew_without_a_word(
    make: Make, omnisci: OmnisciServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, said: str
) -> None:
    monkeypatch.setattr(omnisci.faults, "session_ended", said)
    stream = make()
    for number in range(3):
        put(stream, frame(number))
        omnisci.forget_sessions()
    assert omnisci.sql(f"SELECT count(*) FROM {TABLE}").column(0).to_pylist() == [3]
    assert [record.getMessage() for record in caplog.records if record.name.startswith("api2db")] == []


@pytest.mark.parametrize("name", ["user_session", "Session not valid."])
def test_a_name_with_session_in_it_is_not_taken_for_a_session_that_has_ended(
    make: Make, there: Reach, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The server names the missing table, and the column whose type it can't change."""

    def refuse(_tables: Tables, _table: object, column: str, _type: object) -> None:
        raise RefusedError(f"Cannot change the type of column {column}")

    monkeypatch.setattr(Tables, "change_type", refuse)
    put(make(name=name), pd.DataFrame({"session": [1]}), pd.DataFrame({"session": [2.5]}))
    assert there.rows(f"{name}_stream") == [{"session_t": 1}]
    [row] = rejected_rows(tmp_path, "omnisci", name)
    assert "Cannot change the type of column session_t" in row["_api2db_reason"]


def test_a_server_that_takes_nothing_now_is_waited_for(make: Make, omnisci: OmnisciServer, tmp_path: Path) -> None:
    omnisci.faults.refuse.extend(["Not enough memory available to load"] * 3)
    stream = make()
    put(stream, frame(1))
    assert omnisci.sql(f"SELECT count(*) FROM {TABLE}").column(0).to_pylist() == [1]
    assert reasons(tmp_path) == []


def seen_late(omnisci: OmnisciServer) -> Callable[[HeavydbTarget, Any], int | None]:
    """Return a ``rows_committed`` that finds that somebody else has just written to the table, so it can't tell."""
    real = HeavydbTarget.rows_committed

    def rows_committed(target: HeavydbTarget, plan: Any) -> int | None:
        omnisci.handler.tables.change(omnisci.handler.tables.find(TABLE), f"INSERT INTO {TABLE} (id_t) VALUES (9)")
        return real(target, plan)

    return rows_committed


def test_a_row_refused_for_itself_keeps_its_reason_where_nobody_can_tell_whether_the_others_are_in(
    make: Make, omnisci: OmnisciServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HeavydbTarget, "rows_committed", seen_late(omnisci))
    stream = make()
    put(stream, pd.DataFrame({"id": [1]}))
    omnisci.faults.lose_answers = 1
    put(stream, pd.DataFrame({"id": [2, "x", 3]}))
    found = {row["id"]: row["_api2db_reason"] for row in rejected_rows(tmp_path, "omnisci")}
    assert ["is not known" in found[value] for value in ("2", '"x"', "3")] == [True, False, True]
    assert "'id_t'" in found['"x"']


def test_a_frame_of_no_rows_behind_a_load_whose_answer_was_lost_does_not_bring_it_again(
    make: Make, omnisci: OmnisciServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = make()
    put(stream, frame(1))
    stream.stop()
    monkeypatch.setattr(HeavydbTarget, "rows_committed", seen_late(omnisci))
    omnisci.faults.lose_answers = 1
    stream = make()
    for each in (frame(2), frame(3).iloc[:0]):
        stream.q.put(each)
    put(stream)
    assert stream.flush(20), stream.status()
    assert omnisci.sql(f"SELECT id_t FROM {TABLE} WHERE id_t < 9").column(0).to_pylist() == [1, 2]
    assert [row["id"] for row in rejected_rows(tmp_path, "omnisci")] == [2]


def test_a_stream_method_of_one_s_own_may_hand_frames_on(tmp_path: Path, there: Reach) -> None:
    class Doubled(Stream2Omnisci):
        def stream(self, data: pd.DataFrame, retry_depth: int = 5) -> None:
            super().stream(data.assign(id=2 * data["id"]))

    stream = Doubled("flights", home=tmp_path, **there.options)
    put(stream, frame(1, 2), frame(3))
    stream.stop()
    assert [row["id_t"] for row in there.rows(TABLE)] == [2, 4, 6]


def test_what_is_too_large_for_one_message_is_loaded_in_several(
    make: Make, omnisci: OmnisciServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HeavydbTarget, "largest_bytes", 10_000)
    stream = make()
    for first in range(0, 3_000, 1_000):
        stream.q.put(pd.DataFrame({"id": range(first, first + 1_000)}))
    stream.q.put(pd.DataFrame({"id": [3_000], "text": ["x" * 20_000]}))
    stream.start()
    assert stream.flush(20), stream.status()
    assert omnisci.sql(f"SELECT id_t FROM {TABLE}").column(0).to_pylist() == list(range(3_001))
    assert omnisci.handler.largest_bytes < 25_000
    assert stream.status().last_error is None


def test_no_more_is_read_than_one_message_holds(
    make: Make, omnisci: OmnisciServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cast: list[int] = []

    def shape(target: HeavydbTarget, rows: pa.Table, *arguments: Any) -> pa.Table:
        cast.append(rows.num_rows)
        return real(target, rows, *arguments)

    real = HeavydbTarget.shape
    monkeypatch.setattr(HeavydbTarget, "shape", shape)
    monkeypatch.setattr(HeavydbTarget, "largest_bytes", 10_000)
    stream, loads = make(), omnisci.loads
    for first in range(0, 3_000, 100):
        stream.q.put(pd.DataFrame({"id": range(first, first + 100)}))
    stream.start()
    assert stream.flush(20), stream.status()
    assert sum(cast) == 3_000
    assert len(cast) == omnisci.loads - loads


def test_words_in_the_names_of_tables_and_columns_are_not_taken_for_what_the_server_says(
    make: Make, there: Reach, tmp_path: Path
) -> None:
    there.execute('CREATE TABLE clocks_stream (id_t BIGINT, "disk space_t" DATE ENCODING DAYS(16))')
    put(make(name="clocks"), pd.DataFrame({"id": [1], "disk space": [datetime.date(2100, 1, 1)]}))
    assert len(rejected_rows(tmp_path, "omnisci", "clocks")) == 1


@pytest.mark.disk_journal  # in a cluster a parked batch has no file
def test_a_failed_upload_is_parked_under_omnisci_and_loaded_later(tmp_path: Path) -> None:
    with OmnisciServer() as server:
        options = server.reach.options
        stream = Stream2Omnisci("flights", home=tmp_path, **options)
        put(stream, frame(1))
        stream.stop()
    stream = Stream2Omnisci("flights", home=tmp_path, **options)
    stream.stream(frame(2), retry_depth=0)
    [parked] = (tmp_path / "STORE" / "upload_failed" / "flights" / "omnisci").glob("[0-9]*.parquet")
    assert records(pd.read_parquet(parked)) == [{"id": 2, "text": "row 2"}]
    assert stream.flush(0) is False
    stream.stop()
