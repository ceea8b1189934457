"""Tests of what only BigQuery has: types, how a table follows the data, refusals, key files, and recovery."""

import datetime
import inspect
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import google.cloud.bigquery.client
import pandas as pd
import pyarrow as pa
import pytest
from google.api_core.exceptions import BadRequest

from api2db import Stream, Stream2Bigquery
from api2db.errors import BatchRefusedError, ConfigurationError, TargetError, TargetUnavailableError
from api2db.stream import stream2bigquery
from api2db.stream.commands import retry
from api2db.targets.bigquery import _client as bigquery_client
from api2db.targets.bigquery import _stream as write_stream
from api2db.targets.bigquery import target as bigquery_target
from api2db.targets.bigquery._client import TableLocation, sorted_errors
from api2db.targets.bigquery.table import Table
from api2db.targets.port import Column
from tests.journals.rejected import rejected_files
from tests.servers.bigquery import PROJECT, BigqueryServer, catalog
from tests.servers.bigquery.catalog import ApiError
from tests.stream.bigqueries import DATASET, bigquery_stream, google_of, use_bigquery
from tests.stream.cases import frame, rejected_rows
from tests.stream.eventually import eventually
from tests.stream.kinds import every_kind

Make = Callable[..., Stream2Bigquery]
UTC = datetime.UTC
NOT_FOUND = 404
CANARY = "canary-of-a-key"
_OPTIONS: dict[str, dict[str, Any]] = {"replace": {"if_exists": "replace"}, "keys": {"keys": ["id"]}}


@pytest.fixture
def server(request: pytest.FixtureRequest) -> BigqueryServer:
    return use_bigquery(request)


@pytest.fixture
def make(tmp_path: Path, server: BigqueryServer) -> Iterator[Make]:
    made: list[Stream2Bigquery] = []

    def make(**options: Any) -> Stream2Bigquery:
        made.append(bigquery_stream(tmp_path, **options))
        return made[-1]

    yield make
    for stream in made:
        stream.stop()


@pytest.fixture
def deliver(make: Make, server: BigqueryServer) -> Callable[..., list[dict[str, Any]]]:
    """Put frames one after another through a new stream, and return the table."""

    def deliver(*frames: object, **options: Any) -> list[dict[str, Any]]:
        with make(**options) as stream:
            for each in frames:
                stream.q.put(each)
                assert stream.flush(30), stream.status()
        return server.rows(DATASET, "flights")

    return deliver


Deliver = Callable[..., list[dict[str, Any]]]


def make_table(server: BigqueryServer, *fields: dict[str, Any], name: str = "flights") -> None:
    if DATASET not in server.catalog.datasets:
        server.catalog.make_dataset({"datasetReference": {"datasetId": DATASET}})
    server.catalog.make_table(DATASET, {"tableReference": {"tableId": name}, "schema": {"fields": list(fields)}})


def ids(rows: list[dict[str, Any]]) -> list[Any]:
    return [row["id"] for row in rows]


def reasons(home: Path) -> list[str]:
    return [row["_api2db_reason"] for row in rejected_rows(home, "bigquery")]


def test_a_new_column_is_added_and_older_rows_are_null_there(deliver: Deliver, server: BigqueryServer) -> None:
    rows = deliver(frame(1), pd.DataFrame({"id": [2], "new": [2.5]}), pd.DataFrame({"id": [0.5]}))
    assert [tuple(row.values()) for row in rows] == [(1, "row 1", None), (2, None, 2.5), (0.5, None, None)]
    changes = server.rows(DATASET, "_api2db_schema_changes")
    assert [tuple(change.values())[1:5] for change in changes] == [
        ("flights", "new", None, "FLOAT"),
        ("flights", "id", "INTEGER", "FLOAT"),
    ]


def test_where_a_change_can_not_be_recorded_it_is_made_all_the_same_and_said(
    deliver: Deliver, server: BigqueryServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.rest.forbidden = {"jobs.insert"}
    assert ids(deliver(frame(1), pd.DataFrame({"id": [2], "new": [2.5]}))) == [1, 2]
    assert any("are not recorded" in record.getMessage() for record in caplog.records)


def test_rows_wait_while_the_write_api_does_not_see_a_new_column_and_none_is_refused(
    make: Make, server: BigqueryServer
) -> None:
    with make() as stream:
        stream.stream(frame(1))
        server.catalog.sees_changes = False
        stream.q.put(pd.DataFrame({"id": [2], "new": [2.5]}))
        stream.q.put(frame(3))
        assert "does not know the column 'new'" in eventually(lambda: stream.status().last_error or "")
        assert ids(server.rows(DATASET, "flights")) == [1]
        server.catalog.let_changes_be_seen()
        stream.check_failures()
        assert stream.flush(20)
        assert stream.status().rows_rejected == 0
    assert ids(server.rows(DATASET, "flights")) == [1, 2, 3]


def test_rows_wait_also_where_somebody_else_has_widened_a_column_and_the_write_api_has_not_heard(
    make: Make, server: BigqueryServer
) -> None:
    make_table(server, {"name": "n", "type": "INTEGER"}, {"name": "text", "type": "STRING", "maxLength": "3"})
    table = server.catalog.table(DATASET, "flights")
    server.catalog.sees_changes = False
    server.catalog.change_type(table, "n", "FLOAT")
    with make() as stream:
        stream.q.put(pd.DataFrame({"n": [0.5]}))
        assert "as FLOAT yet" in eventually(lambda: stream.status().last_error or "")
        server.catalog.let_changes_be_seen()
        table.fields = [table.fields[0], {**table.fields[1], "maxLength": "5"}]
        stream.check_failures()
        assert "as STRING(5) yet" in eventually(lambda: (said := stream.status().last_error or "") * ("5" in said))
        server.catalog.let_changes_be_seen()
        stream.check_failures()
        assert stream.flush(20)
        assert stream.status().rows_rejected == 0
    assert [row["n"] for row in server.rows(DATASET, "flights")] == [0.5]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda fields: fields[:1], "does not know a new column yet"),
        (lambda fields: [{**fields[0], "type": "STRING"}, fields[1]], "may not know that yet"),
    ],
    ids=["column", "type"],
)
def test_rows_wait_too_where_the_write_api_forgets_for_a_while_what_it_has_told_of_a_new_table(
    make: Make, server: BigqueryServer, changed: Callable[[list[Any]], list[Any]], said: str
) -> None:
    with make() as stream:
        stream.stream(frame(1))
        table = server.catalog.table(DATASET, "flights")
        server.catalog.sees_changes, table.seen = False, changed(table.fields)
        stream.q.put(frame(2))
        assert eventually(lambda: said in (stream.status().last_error or ""))
        server.catalog.let_changes_be_seen()
        stream.check_failures()
        assert stream.flush(20)
        assert stream.status().rows_rejected == 0
    assert ids(server.rows(DATASET, "flights")) == [1, 2]


def test_a_row_that_ends_every_call_is_found_and_rejected_and_the_others_go_in(
    make: Make, server: BigqueryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bigquery_target, "_SEEN_AFTER_S", 0)
    with make() as stream:
        stream.stream(frame(0))
        server.write_api.ends_at = 3
        stream.q.put(frame(1, 2, 3, 4))
        while not stream.flush(0.01):
            stream.check_failures()
    assert ids(server.rows(DATASET, "flights")) == [0, 1, 2, 4]
    assert [row["id"] for row in rejected_rows(tmp_path, "bigquery")] == [3]
    assert "Errors found" in reasons(tmp_path)[0]


def test_a_fault_of_the_server_that_lasts_is_waited_for_and_no_row_is_set_aside_for_it(
    make: Make, server: BigqueryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bigquery_target, "_SEEN_AFTER_S", 0)
    with make() as stream:
        stream.stream(frame(0))
        server.faults.fail("AppendRows", "before", "internal", times=40)
        stream.q.put(frame(1, 2))
        while not stream.flush(0.01):
            stream.check_failures()
            assert (stream.status().last_error or "planted").count("planted") == 1
        assert (server.faults.met["AppendRows"], stream.status().rows_rejected) == (40, 0)
    assert ids(server.rows(DATASET, "flights")) == [0, 1, 2]


@pytest.mark.parametrize("case", ["append", "jobs"])
def test_a_column_that_somebody_else_widens_while_rows_go_in_has_none_of_them_rejected(
    make: Make, server: BigqueryServer, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr(bigquery_target, "_SEEN_AFTER_S", 0)
    server.write_api.forbidden = case == "jobs"
    with make() as stream:
        stream.stream(pd.DataFrame({"n": [1]}))
        server.catalog.change_type(server.catalog.table(DATASET, "flights"), "n", "FLOAT")
        stream.stream(pd.DataFrame({"n": [2]}))
        assert stream.status().rows_rejected == 0
    assert [row["n"] for row in server.rows(DATASET, "flights")] == [1, 2]


def test_rows_wait_too_while_the_write_api_does_not_see_a_wider_type(make: Make, server: BigqueryServer) -> None:
    with make() as stream:
        stream.stream(pd.DataFrame({"n": [1]}))
        server.catalog.sees_changes = False
        stream.q.put(pd.DataFrame({"n": [0.5]}))
        assert "does not know the column 'n'" in eventually(lambda: stream.status().last_error or "")
        server.catalog.let_changes_be_seen()
        stream.check_failures()
        assert stream.flush(20)
        assert stream.status().rows_rejected == 0
    assert [row["n"] for row in server.rows(DATASET, "flights")] == [1, 0.5]


@pytest.mark.parametrize(
    ("first", "then", "type_"),
    [
        ([1, 2**53], [0.5], "FLOAT"),
        ([1], pa.array([2**64 - 1], pa.uint64()), "NUMERIC"),
        ([1], pa.array([Decimal("1.5")]), "NUMERIC"),
        (pa.array([Decimal("1.5")]), pa.array([Decimal("1.0000000000000001")]), "BIGNUMERIC"),
    ],
    ids=["float", "unsigned", "decimal", "longer decimal"],
)
def test_a_column_is_widened_where_nothing_is_lost(
    deliver: Deliver, server: BigqueryServer, first: Any, then: Any, type_: str
) -> None:
    rows = deliver(pa.table({"n": first}), pa.table({"n": then}))
    assert [Decimal(str(row["n"])) for row in rows] == [
        Decimal(str(n)) for n in [*list(pa.array(first).to_pylist()), *pa.array(then).to_pylist()]
    ]
    assert server.types(DATASET, "flights") == {"n": type_}


def test_values_that_do_not_fit_are_rejected_row_by_row_and_nothing_waits_behind_them(
    deliver: Deliver, tmp_path: Path
) -> None:
    rows = deliver(
        pd.DataFrame({"n": [2**53 + 1]}),
        pd.DataFrame({"n": ["two", None]}),
        pd.DataFrame({"n": [0.5, 3.0]}),
        pd.DataFrame({"n": [4]}),
    )
    assert [row["n"] for row in rows] == [2**53 + 1, None, 3, 4]
    assert [reason.split(" does")[0].replace("large_", "") for reason in reasons(tmp_path)] == [
        "'n': text",
        "'n': double",
    ]


def test_a_first_frame_of_nulls_alone_does_not_fix_a_type(deliver: Deliver, server: BigqueryServer) -> None:
    rows = deliver(pd.DataFrame({"n": [None, None]}), pd.DataFrame({"n": [7]}), pd.DataFrame({"n": [8]}))
    assert [row["n"] for row in rows] == [None, None, 7, 8]
    assert server.types(DATASET, "flights") == {"n": "INTEGER"}


def test_a_frozen_table_takes_what_fits_and_rejects_the_rest(
    deliver: Deliver, server: BigqueryServer, tmp_path: Path
) -> None:
    deliver(frame(1))
    odd = pd.DataFrame({"id": [2, 3], "text": ["row 2", "row 3"], "new": [None, "x"]})
    assert ids(deliver(odd, schema="freeze")) == [1, 2]
    assert list(server.types(DATASET, "flights")) == ["id", "text"]
    assert reasons(tmp_path) == ["the table has no column 'new'"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["id", "Text", "tEXT"], "are one column"),
        (["id", "a.b"], "no columns named"),
        (["id", "_TABLE_x"], "no columns"),
    ],
)
def test_names_that_bigquery_does_not_take_are_rejected_with_the_reason(
    deliver: Deliver, tmp_path: Path, names: list[str], said: str
) -> None:
    odd = pd.DataFrame([[2, "x", "y"][: len(names)]], columns=names)
    assert ids(deliver(frame(1), odd, frame(3))) == [1, 3]
    [reason] = reasons(tmp_path)
    assert said in reason


@pytest.mark.parametrize("case", ["append", "jobs"])
def test_rows_that_the_server_refuses_are_found_one_by_one(
    server: BigqueryServer, deliver: Deliver, tmp_path: Path, case: str
) -> None:
    server.write_api.forbidden = case == "jobs"
    make_table(server, {"name": "id", "type": "INTEGER"}, {"name": "text", "type": "STRING", "maxLength": "6"})
    many = frame(*range(130))
    rows = deliver(many, frame(200))
    assert ids(rows) == list(range(100))
    assert sorted(row["id"] for row in rejected_rows(tmp_path, "bigquery")) == [*range(100, 130), 200]
    assert all("too long" in reason for reason in reasons(tmp_path))


def test_lists_of_one_type_go_into_a_repeated_column_and_others_are_rejected(
    server: BigqueryServer, deliver: Deliver, tmp_path: Path
) -> None:
    make_table(
        server,
        {"name": "id", "type": "INTEGER"},
        {"name": "tags", "type": "STRING", "mode": "REPEATED"},
        {"name": "sizes", "type": "INTEGER", "mode": "REPEATED"},
    )
    rows = deliver(
        pd.DataFrame({"id": [1, 2], "tags": [["a", "b"], None], "sizes": [[], [1, 2**60]]}),
        pd.DataFrame({"id": [3, 4, 5, 6], "sizes": [[1, "x"], [None], {"a": 1}, [7]]}),
    )
    assert rows == [
        {"id": 1, "tags": ["a", "b"], "sizes": []},
        {"id": 2, "tags": [], "sizes": [1, 2**60]},
        {"id": 6, "tags": [], "sizes": [7]},
    ]
    assert [reason.split(";")[0].split(" the column")[1] for reason in reasons(tmp_path)] == [
        "'s type ARRAY<INTEGER>"
    ] * 3


@pytest.mark.parametrize("case", ["append", "jobs", "keys"])
def test_a_null_in_a_repeated_column_is_an_empty_list_there_and_that_is_said_once(
    make: Make, server: BigqueryServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    server.write_api.forbidden = case == "jobs"
    make_table(
        server,
        {"name": "id", "type": "INTEGER"},
        {"name": "sizes", "type": "FLOAT", "mode": "REPEATED"},
        {"name": "flags", "type": "BOOLEAN", "mode": "REPEATED"},
        {"name": "note", "type": "JSON"},
    )
    options: dict[str, Any] = _OPTIONS.get(case, {})
    with make(**options) as stream:
        stream.stream(pd.DataFrame({"id": [1, 2], "sizes": [[0.5, 2], None], "flags": [[True], []]}))
        stream.stream(pd.DataFrame({"id": [3, 4], "flags": [[None], [False]], "note": [{"a": 1}] * 2}))
    assert [(row["id"], row["sizes"] or [], row["flags"] or []) for row in server.rows(DATASET, "flights")] == [
        (1, [0.5, 2], [True]),
        (2, [], []),
        (4, [], [False]),
    ]
    [reason] = reasons(tmp_path)
    assert reason.startswith("'flags': JSON does not fit the column's type ARRAY<BOOLEAN>; ")
    assert sum("keeps a null there as an empty list" in record.getMessage() for record in caplog.records) == 2


def test_a_column_of_a_type_that_nothing_is_written_into_is_left_as_it_is(
    server: BigqueryServer, deliver: Deliver, tmp_path: Path
) -> None:
    make_table(server, {"name": "id", "type": "INTEGER"}, {"name": "days", "type": "DATE", "mode": "REPEATED"})
    assert ids(deliver(frame(1), pd.DataFrame({"id": [2, 3], "days": [[datetime.date(2026, 1, 2)], None]}))) == [1, 3]
    [reason] = reasons(tmp_path)
    assert reason.startswith("'days': JSON does not fit the column's type ARRAY<DATE>; ")
    assert not [job for job in server.catalog.jobs.values() if "ALTER" in str(job) and "days" in str(job)]


def test_into_a_table_with_another_schema_goes_what_fits_and_the_rest_is_told_row_by_row(
    server: BigqueryServer, deliver: Deliver, tmp_path: Path
) -> None:
    make_table(server, {"name": "id", "type": "STRING"}, {"name": "mine", "type": "DATE"})
    rows = deliver(frame(1), pd.DataFrame({"id": ["two"], "mine": [datetime.date(2026, 1, 2)]}))
    assert rows == [{"id": "two", "mine": datetime.date(2026, 1, 2), "text": None}]
    told = "; to store it as text, give the stream dtypes={'id': 'str'}"
    assert reasons(tmp_path) == [f"'id': int64 does not fit the column's type STRING{told}"]


def test_rows_without_a_value_in_a_required_column_are_rejected(
    server: BigqueryServer, deliver: Deliver, tmp_path: Path
) -> None:
    make_table(server, {"name": "id", "type": "INTEGER"}, {"name": "text", "type": "STRING", "mode": "REQUIRED"})
    assert ids(deliver(pd.DataFrame({"id": [1, 2], "text": ["x", None]}), pd.DataFrame({"id": [3]}))) == [1]
    assert len(rejected_rows(tmp_path, "bigquery")) == 2


def test_a_large_frame_goes_in_requests_below_the_limit_ahead_of_the_answers(
    make: Make, server: BigqueryServer
) -> None:
    text = "x" * 1000
    with make() as stream:
        stream.stream(pd.DataFrame({"id": range(40_000), "text": text}))
        assert stream.status().rows_rejected == 0
    assert server.faults.calls["AppendRows"] >= 5
    assert server.faults.calls["CreateWriteStream"] == 1
    assert ids(server.rows(DATASET, "flights")) == list(range(40_000))


def test_a_row_that_no_request_holds_is_rejected_and_the_others_go_in(
    make: Make, server: BigqueryServer, tmp_path: Path
) -> None:
    with make() as stream:
        stream.stream(pd.DataFrame({"id": [1, 2, 3], "text": ["x", "y" * 11_000_000, "z"]}))
    assert ids(server.rows(DATASET, "flights")) == [1, 3]
    assert "10 MB" in reasons(tmp_path)[0]


def test_the_names_of_many_columns_count_towards_the_limit_of_a_request(
    make: Make, server: BigqueryServer, tmp_path: Path
) -> None:
    names = [f"{number:04}{'n' * 290}" for number in range(300)]
    rows = {"text": ["x" * 9_900_000, "short"], **{name: [1, 2] for name in names}}
    with make() as stream:
        stream.stream(pd.DataFrame(rows))
    assert [row["text"] for row in server.rows(DATASET, "flights")] == ["short"]
    assert "10 MB with the names" in reasons(tmp_path)[0]


def test_rejected_rows_go_aside_together_with_the_step_that_they_stand_in(
    make: Make, server: BigqueryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_stream, "_REQUEST_BYTES", 500)
    with make() as stream:
        stream.stream(frame(0))
        stream.stream(
            pa.table({"id": pa.array(range(1, 301)), "text": ["x"] * 300, "n": pa.array([None] * 300, pa.int8())})
        )
        odd = [f"odd {n}" if n % 50 == 0 else None for n in range(301, 601)]
        stream.stream(pa.table({"id": pa.array(range(301, 601)), "n": odd}))
        status = stream.status()
    rejected = sorted(row["id"] for row in rejected_rows(tmp_path, "bigquery"))
    assert rejected == list(range(350, 601, 50))
    assert sorted([*ids(server.rows(DATASET, "flights")), *rejected]) == list(range(601))
    assert ids(server.rows(DATASET, "flights")) == sorted(ids(server.rows(DATASET, "flights")))
    assert (status.rows_delivered, status.rows_rejected) == (601 - len(rejected), len(rejected))


def test_rejected_rows_are_aside_once_though_answers_are_lost_between_the_steps(
    make: Make, server: BigqueryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_stream, "_REQUEST_BYTES", 500)
    odd = [f"odd {n}" if n % 10 == 0 else None for n in range(1, 301)]
    with make() as stream:
        stream.stream(pa.table({"id": [0], "n": pa.array([1], pa.int8())}))
        server.faults.fail("AppendRows", "after", times=6, chance=0.4)
        stream.q.put(pa.table({"id": pa.array(range(1, 301)), "n": odd}))
        assert eventually(lambda: server.faults.met.get("AppendRows", 0) > 0)
        for _ in range(10):
            stream.check_failures()
            stream.flush(0.2)
        assert stream.flush(30)
    rejected = [row["id"] for row in rejected_rows(tmp_path, "bigquery")]
    assert sorted(rejected) == list(range(10, 301, 10))
    assert sorted([*ids(server.rows(DATASET, "flights")), *rejected]) == list(range(301))


def test_a_table_that_is_dropped_while_a_stream_runs_is_made_again(make: Make, server: BigqueryServer) -> None:
    with make() as stream:
        stream.stream(frame(1))
        server.catalog.drop_table(DATASET, "flights")
        stream.stream(pd.DataFrame({"other": ["x"]}))
        assert stream.status().rows_rejected == 0
    assert server.rows(DATASET, "flights") == [{"other": "x"}]


def test_a_stream_that_expires_while_nothing_is_in_doubt_costs_nothing(make: Make, server: BigqueryServer) -> None:
    with make() as stream:
        stream.stream(frame(1))
        server.write_api.expire()
        stream.stream(frame(2))
        assert stream.status().rows_rejected == 0
    assert ids(server.rows(DATASET, "flights")) == [1, 2]


def test_rows_of_which_nobody_can_tell_any_more_are_set_aside_with_their_range(
    make: Make, server: BigqueryServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with make() as stream:
        stream.stream(frame(1))
        server.faults.fail("AppendRows", "after")
        server.faults.fail("FinalizeWriteStream", "before", times=1_000)
        stream.q.put(frame(2, 3))
        eventually(lambda: server.faults.met.get("FinalizeWriteStream"))
        server.write_api.expire()
        server.faults.heal()
        stream.check_failures()
        assert stream.flush(30)
        stream.stream(frame(4))
        assert "are set aside" in (stream.status().last_error or "")
    assert [row["id"] for row in rejected_rows(tmp_path, "bigquery")] == [2, 3]
    assert all("is not known" in reason for reason in reasons(tmp_path))
    assert any("2 rows, from" in record.getMessage() for record in caplog.records)
    assert ids(server.rows(DATASET, "flights")) == [1, 2, 3, 4]  # it had been committed; a person must check


def test_rows_that_were_refused_keep_their_reason_where_the_fate_of_the_others_is_not_known(
    make: Make, server: BigqueryServer, tmp_path: Path
) -> None:
    stream = make()
    stream.stream(frame(1))
    server.faults.fail("AppendRows", "after")
    server.faults.fail("FinalizeWriteStream", "before", times=1_000)
    stream.q.put(pd.DataFrame({"id": [2, "x", 3]}))
    eventually(lambda: server.faults.met.get("FinalizeWriteStream"))
    stream.stop()
    server.write_api.expire()
    server.faults.heal()
    with make() as again:
        assert again.flush(20)
        assert "2 rows, from" in (again.status().last_error or "")
    assert ["is not known" in reason for reason in reasons(tmp_path)] == [True, False, True]
    assert "does not fit" in reasons(tmp_path)[1]


def test_what_a_killed_run_has_sent_is_not_sent_again(make: Make, server: BigqueryServer) -> None:
    first = make()
    first.stream(frame(1))
    server.faults.fail("AppendRows", "after")
    server.faults.fail("FinalizeWriteStream", "before", times=1_000)
    first.q.put(frame(2))
    eventually(lambda: server.faults.met.get("FinalizeWriteStream"))
    first.stop()
    assert first.status().frames_waiting == 1
    server.faults.heal()
    with make() as second:
        second.q.put(frame(3))
    assert ids(server.rows(DATASET, "flights")) == [1, 2, 3]
    assert second.status().frames_delivered == 3


def test_where_the_write_api_is_forbidden_load_jobs_are_used_and_it_is_said_once(
    make: Make, server: BigqueryServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bigquery_target, "_TRY_AGAIN_S", 0)
    server.write_api.forbidden = True
    with make() as stream:
        for number in range(3):
            stream.stream(frame(number))
    assert ids(server.rows(DATASET, "flights")) == [0, 1, 2]
    assert sum("rows are loaded by jobs" in record.getMessage() for record in caplog.records) == 1
    assert all(
        job["configuration"]["load"]["writeDisposition"] == "WRITE_APPEND" for job in server.catalog.jobs.values()
    )


@pytest.mark.parametrize("begins", ["trouble", "time"])
def test_the_write_api_is_tried_again_where_it_was_forbidden_for_a_while(
    make: Make, server: BigqueryServer, monkeypatch: pytest.MonkeyPatch, begins: str
) -> None:
    server.faults.fail("CreateWriteStream", "before", "forbidden")
    with make() as stream:
        stream.stream(frame(1))
        stream.stream(frame(2))
        assert "AppendRows" not in server.faults.calls
        if begins == "trouble":
            server.faults.fail("jobs.insert", "before")
        else:
            monkeypatch.setattr(bigquery_target, "_TRY_AGAIN_S", 0)
        stream.stream(frame(3))
    assert server.faults.calls["AppendRows"] == 1
    assert ids(server.rows(DATASET, "flights")) == [1, 2, 3]


@pytest.mark.parametrize("case", ["jobs", "replace", "keys", "lines"])
def test_types_of_a_table_of_others_are_kept_by_load_jobs(make: Make, server: BigqueryServer, case: str) -> None:
    server.write_api.forbidden = case in {"jobs", "lines"}
    options: dict[str, Any] = _OPTIONS.get(case, {})
    fields: list[dict[str, Any]] = [
        {"name": "id", "type": "INTEGER", "mode": "NULLABLE" if case == "keys" else "REQUIRED"},
        {"name": "short", "type": "STRING", "maxLength": "3"},
        {"name": "price", "type": "NUMERIC", "precision": "10", "scale": "2"},
        {"name": "long", "type": "BIGNUMERIC", "precision": "20", "scale": "1"},
        {"name": "tags", "type": "STRING", "mode": "REPEATED"},
        *([{"name": "note", "type": "JSON"}] if case == "lines" else []),
    ]
    make_table(server, *fields)
    row = {"id": 1, "short": "abc", "price": Decimal("1.25"), "long": Decimal("7.5"), "tags": ["a", "b"]}
    rows = pa.table({name: [value] for name, value in row.items()}, pa.schema([
        ("id", pa.int64()), ("short", pa.string()), ("price", pa.decimal128(10, 2)), ("long", pa.decimal256(20, 1)),
        ("tags", pa.list_(pa.string())),
    ]))  # fmt: skip
    with make(**options) as stream:
        stream.q.put(rows)
        assert stream.flush(20)
        assert (stream.status().last_error, stream.status().rows_rejected) == (None, 0)
    [there] = server.rows(DATASET, "flights")
    assert (there["id"], there["short"], there["price"]) == (1, "abc", Decimal("1.25"))
    assert Decimal(there["long"]) == Decimal("7.5")
    if case != "replace":  # the table takes the types of the frame
        assert there["tags"] == ["a", "b"]
        assert server.catalog.table(DATASET, "flights").fields == fields


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("if_exists", ["append", "replace"])
def test_a_load_job_whose_answer_is_lost_runs_once(
    make: Make, server: BigqueryServer, moment: Any, if_exists: str
) -> None:
    server.write_api.forbidden = True
    with make(if_exists=if_exists) as stream:
        stream.stream(frame(1))
        server.faults.fail("jobs.insert", moment, "cut")
        stream.stream(frame(2))
    assert ids(server.rows(DATASET, "flights")) == ([2] if if_exists == "replace" else [1, 2])


def test_a_load_job_that_never_came_can_not_come_any_more_once_it_was_asked_for(
    make: Make, server: BigqueryServer
) -> None:
    with make(if_exists="replace") as stream:
        stream.stream(frame(1))
        server.faults.fail("jobs.insert", "before", "cut")
        stream.stream(frame(2))
    kinds = [next(iter(job["configuration"])) for job in server.catalog.jobs.values()]
    assert kinds.count("load") == 2
    assert "query" in kinds  # the query has taken the id of the lost load


def test_a_load_whose_id_was_taken_by_a_question_that_was_not_answered_is_known_to_be_lost(
    make: Make, server: BigqueryServer
) -> None:
    with make(if_exists="replace") as stream:
        stream.stream(frame(1))
        server.faults.fail("jobs.insert", "before", "cut")
        server.faults.fail("jobs.insert", "after", "cut")
        stream.stream(frame(2))
        assert server.faults.met["jobs.insert"] == 2
    assert ids(server.rows(DATASET, "flights")) == [2]


@pytest.mark.parametrize("case", ["jobs", "replace", "keys"])
def test_a_table_that_is_dropped_is_made_again_by_load_jobs_too(make: Make, server: BigqueryServer, case: str) -> None:
    server.write_api.forbidden = case == "jobs"
    options: dict[str, Any] = _OPTIONS.get(case, {})
    with make(**options) as stream:
        stream.stream(frame(1))
        server.catalog.drop_table(DATASET, "flights")
        stream.stream(frame(2))
        assert stream.status().rows_rejected == 0
    assert ids(server.rows(DATASET, "flights")) == [2]


@pytest.mark.parametrize("case", ["jobs", "replace", "keys"])
def test_a_load_job_that_fails_for_no_fault_of_its_rows_is_run_again(
    make: Make, server: BigqueryServer, case: str
) -> None:
    server.write_api.forbidden = case == "jobs"
    options: dict[str, Any] = _OPTIONS.get(case, {})
    with make(**options) as stream:
        stream.stream(frame(1))
        server.faults.of_loads = ["accessDenied", "billingNotEnabled", "stopped", "notFound"]
        stream.q.put(frame(2))
        said = eventually(lambda: stream.status().last_error or "")
        assert stream.flush(20)
        assert (stream.status().rows_rejected, server.faults.of_loads) == (0, [])
    assert "planted in a load job" in said
    assert ids(server.rows(DATASET, "flights")) == ([2] if case == "replace" else [1, 2])


def test_fail_waits_while_a_table_of_others_stands_there(make: Make, server: BigqueryServer) -> None:
    make_table(server, {"name": "id", "type": "INTEGER"})
    with make(if_exists="fail") as stream:
        stream.q.put(frame(1))
        assert "if_exists='fail'" in eventually(lambda: stream.status().last_error or "")
        server.catalog.drop_table(DATASET, "flights")
        stream.check_failures()
        assert stream.flush(20)
    with make(if_exists="fail") as again:
        again.stream(frame(2))
    assert ids(server.rows(DATASET, "flights")) == [1, 2]


def test_fail_by_key_goes_on_with_the_table_that_it_made_though_its_first_load_failed(
    make: Make, server: BigqueryServer
) -> None:
    with make(if_exists="fail", keys=["id"]) as stream:
        server.faults.of_loads = ["stopped"]
        stream.q.put(frame(1))
        assert stream.flush(20), stream.status()
        assert server.faults.of_loads == []
    assert ids(server.rows(DATASET, "flights")) == [1]


@pytest.mark.parametrize("keys", [[], ["id"]])
def test_fail_waits_too_where_somebody_else_makes_the_table_at_the_same_moment(
    make: Make, server: BigqueryServer, monkeypatch: pytest.MonkeyPatch, keys: list[str]
) -> None:
    real = Table.create

    def create_second(self: Table, *arguments: Any) -> list[Column]:
        if (DATASET, "flights") not in server.catalog.tables:
            make_table(server, {"name": "id", "type": "INTEGER"}, {"name": "text", "type": "STRING"})
        return real(self, *arguments)

    monkeypatch.setattr(Table, "create", create_second)
    with make(if_exists="fail", keys=keys) as stream:
        stream.q.put(frame(1))
        assert "if_exists='fail'" in eventually(lambda: stream.status().last_error or "")
        assert server.rows(DATASET, "flights") == []
        monkeypatch.undo()
        server.catalog.drop_table(DATASET, "flights")
        stream.check_failures()
        assert stream.flush(20)
    assert ids(server.rows(DATASET, "flights")) == [1]


def test_a_table_of_its_own_stays_its_own_and_its_columns_what_they_are_when_a_type_is_settled(
    make: Make, server: BigqueryServer
) -> None:
    with make(if_exists="fail") as stream:
        stream.stream(pd.DataFrame({"a": [None], "b": [None], "c": [None]}))
        server.faults.fail("tables.patch", "before", times=1_000)
        for column, value in {"a": 1, "b": datetime.timedelta(1), "c": 0.5}.items():
            stream.q.put(pd.DataFrame({column: [value]}))
            assert stream.flush(5), stream.status()
        assert stream.status().rows_rejected == 0
    fields = server.catalog.table(DATASET, "flights").fields
    assert [(each["type"], each.get("description")) for each in fields] == [
        ("INTEGER", None),
        ("INTEGER", "nanoseconds"),
        ("FLOAT", None),
    ]
    assert list(server.catalog.table(DATASET, "flights").labels) == ["api2db_stream"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "not a usable key file"),
        ("{}", "not a usable key file"),
        ("nonsense", "not a usable key file"),
        ("[]", "not a usable key file"),
        ("null", "not a usable key file"),
        ('{"client_email": "a@b", "private_key": 5, "token_uri": "https://a"}', "not a usable key file"),
        ('{"client_email": "a@b", "private_key": "x", "token_uri": null}', "not a usable key file"),
        ("gone", "refuses the key"),
        ("no address", "not a usable key file"),
    ],
)
def test_a_wrong_key_file_is_told_and_nothing_is_lost(
    make: Make,
    server: BigqueryServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
    said: str,
) -> None:
    google = google_of(server, monkeypatch)
    key = tmp_path / "AUTH" / "google.json"
    key.parent.mkdir()
    if content == "gone":
        server.key_file(key, known=False)
    elif content == "no address":
        good = json.loads(server.key_file(key).read_text())
        key.write_text(json.dumps({**good, "token_uri": "accounts.google.com/token"}))
    elif content is not None:
        key.write_text(content)
    with make(**{**google, "auth_path": "AUTH/google.json"}) as stream:
        assert stream.connect() is False
        stream.q.put(frame(1))
        error = eventually(lambda: stream.status().last_error or "")
        assert said in error
        assert "key" in error.split(";")[1]
        assert "PRIVATE" not in error
        server.key_file(key)
        stream.check_failures()
        assert stream.flush(20)
    assert ids(server.rows(DATASET, "flights")) == [1]


def test_no_secret_of_a_key_file_is_in_an_error_a_log_or_a_representation(
    make: Make,
    server: BigqueryServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    key = tmp_path / "key.json"
    google = {**google_of(server, monkeypatch), "auth_path": str(key)}
    good = json.loads(server.key_file(key).read_text())
    private_key = f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n"
    nowhere = f"http://user:{CANARY}@127.0.0.1:1/token?assertion={CANARY}"
    stream = make(**google)
    for content in (f'{{"private_key": "{CANARY}", ', {"private_key": private_key}, {"token_uri": nowhere}):
        key.write_text(content if isinstance(content, str) else json.dumps({**good, **content}))
        assert stream.connect() is False
        with pytest.raises(TargetUnavailableError) as caught:
            stream.head(by="id")
        seen = [
            str(caught.value),
            repr(caught.value),
            repr(stream),
            repr(stream.cred),
            repr(stream.status()),
            caplog.text,
        ]
        assert CANARY not in "".join(seen)
        assert not any(line in "".join(seen) for line in good["private_key"].splitlines()[1:-1])


def test_a_token_that_is_good_no_more_is_fetched_anew(
    make: Make, server: BigqueryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make(**google_of(server, monkeypatch)) as stream:
        stream.stream(frame(1))
        server.accounts.forget_tokens()
        stream.stream(pd.DataFrame({"id": [2], "new": [1]}))
        assert stream.status().last_error is None
    assert server.faults.calls["token"] == 2
    assert ids(server.rows(DATASET, "flights")) == [1, 2]


@pytest.mark.parametrize("keys", [[], ["id"]])
def test_what_is_missing_is_known_by_its_reason_whatever_the_message_says(
    make: Make, server: BigqueryServer, monkeypatch: pytest.MonkeyPatch, keys: list[str]
) -> None:
    def reworded(status: int, reason: str, message: str) -> ApiError:
        return ApiError(status, reason, "nothing there" if status == NOT_FOUND else message)

    monkeypatch.setattr(catalog, "ApiError", reworded)
    with make(keys=keys) as stream:
        assert stream.head(by="id").empty
        stream.stream(frame(1))
        server.catalog.drop_table(DATASET, "flights")
        stream.stream(frame(2))
        assert stream.status().rows_rejected == 0
    assert ids(server.rows(DATASET, "flights")) == [2]


def test_a_ledger_that_can_not_be_read_for_a_while_ends_no_worker(
    make: Make, server: BigqueryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = server.rest.queries.run
    refused: list[Any] = []

    def run(configuration: Any) -> Any:
        if "SELECT epoch" in configuration["query"] and not refused:
            refused.append(configuration)
            raise ApiError(400, "invalidQuery", "queries have no parameters here")
        return real(configuration)

    monkeypatch.setattr(server.rest.queries, "run", run)
    with make(keys=["id"]) as stream:
        stream.stream(frame(1))
    assert refused
    assert ids(server.rows(DATASET, "flights")) == [1]


def test_a_project_that_does_not_exist_is_told(make: Make) -> None:
    stream = make(pid="nowhere")
    stream.start()
    stream.q.put(frame(1))
    error = eventually(lambda: stream.status().last_error or "")
    assert "nowhere" in error
    assert "check pid" in error


def test_a_missing_permission_is_told_with_the_roles_that_give_it(make: Make, server: BigqueryServer) -> None:
    server.rest.forbidden = {"datasets.insert", "tables.insert"}
    with make() as stream:
        stream.q.put(frame(1))
        assert "bigquery.datasets.insert" in eventually(lambda: stream.status().last_error or "")
        server.catalog.make_dataset({"datasetReference": {"datasetId": DATASET}})
        stream.check_failures()
        error = eventually(lambda: (said := stream.status().last_error or "") and "tables" in said and said)
        assert "BigQuery Data Editor" in str(error)
        server.rest.forbidden.clear()
        stream.check_failures()
        assert stream.flush(20)
    assert ids(server.rows(DATASET, "flights")) == [1]


def test_a_quota_that_is_spent_is_waited_for(make: Make, server: BigqueryServer) -> None:
    with make() as stream:
        stream.stream(frame(1))
        server.faults.fail("AppendRows", "before", "quota", times=2)
        stream.stream(frame(2))
        assert stream.status().rows_rejected == 0
    assert ids(server.rows(DATASET, "flights")) == [1, 2]


@pytest.mark.parametrize("address", ["{host}", "http://{host}", "http://{host}/"])
@pytest.mark.parametrize("said_by", ["endpoint", "BIGQUERY_EMULATOR_HOST"])
def test_an_emulator_takes_one_option_and_no_key(
    server: BigqueryServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    said_by: str,
    address: str,
) -> None:
    named = address.format(host=server.url.removeprefix("http://"))
    if said_by != "endpoint":
        monkeypatch.setenv(said_by, named)
    endpoint = named if said_by == "endpoint" else None
    with Stream2Bigquery("flights", "", PROJECT, DATASET, "flights", home=tmp_path, endpoint=endpoint) as stream:
        stream.stream(frame(1))
        server.faults.fail("AppendRows", "before")
        stream.stream(frame(2))
        assert server.url in stream.describe()
    assert ids(server.rows(DATASET, "flights")) == [1, 2]
    said = [record.getMessage() for record in caplog.records if "emulator" in record.getMessage()]
    place = f"the BigQuery emulator at {server.url} (gRPC at {server.write_address})"
    assert said == [f"{PROJECT}.{DATASET}.flights is on {place}, not on Google's BigQuery; no key is used"]


def test_a_key_goes_to_no_emulator(make: Make, server: BigqueryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    google = google_of(server, monkeypatch)
    stream = make(**{**google, "endpoint": server.url, "write_endpoint": server.write_address})
    stream.start()
    stream.q.put(frame(1))
    assert "demands credentials" in eventually(lambda: stream.status().last_error or "")
    assert "token" not in server.faults.calls


def test_an_emulator_that_is_named_after_the_start_gets_no_token_of_google_s(
    server: BigqueryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = server.key_file(tmp_path / "key.json")
    stream = Stream2Bigquery("flights", str(key), PROJECT, DATASET, "flights", home=tmp_path)
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", server.url)
    clients = stream._new_target("append").clients
    assert clients.rest._connection.API_BASE_URL == "https://bigquery.googleapis.com"
    clients.close()


def test_a_stream_into_an_emulator_has_a_position_of_its_own(tmp_path: Path) -> None:
    place = ("flights", "", PROJECT, DATASET, "flights")
    google, one, other = (
        Stream2Bigquery(*place, home=tmp_path, endpoint=endpoint).identity
        for endpoint in (None, "localhost:9050", "localhost:9051")
    )
    assert google == f"bigquery:{PROJECT}.{DATASET}.flights"
    assert len({google, one, other}) == 3


def test_a_wrong_address_in_the_environment_is_told_by_its_name(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "localhost:port")
    with pytest.raises(ConfigurationError, match="BIGQUERY_EMULATOR_HOST can't be 'localhost:port'"):
        make(endpoint=None)


def test_a_grpc_address_alone_is_refused(make: Make) -> None:
    with pytest.raises(ConfigurationError, match="write_endpoint"):
        make(endpoint=None)


@pytest.mark.parametrize("case", ["jobs", "keys"])
def test_jobs_in_another_location_than_the_data_set_s_are_told(make: Make, server: BigqueryServer, case: str) -> None:
    server.write_api.forbidden = True
    server.catalog.make_dataset({"datasetReference": {"datasetId": DATASET}, "location": "EU"})
    stream = make(keys=["id"] if case == "keys" else [])
    stream.start()
    stream.q.put(frame(1))
    error = eventually(lambda: stream.status().last_error or "")
    assert f"set location to where the data set {DATASET} is kept" in error
    assert stream.status().rows_rejected == 0


def test_connect_makes_what_the_spec_names(make: Make, server: BigqueryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = make(**google_of(server, monkeypatch), location="EU")
    assert (stream.cred, stream.client, stream.dataset, stream.table) == (None, None, None, None)
    assert (stream.schema, stream.bq_schema, stream.connected) == (None, None, False)
    assert stream.connect() is True
    assert stream.connected is True
    assert server.catalog.dataset(DATASET)["location"] == "EU"
    assert stream.table is None  # the columns are not known yet
    stream.stream(every_kind())
    assert stream.connect() is True
    assert stream.table is not None
    assert stream.table.full_table_id == f"{PROJECT}:{DATASET}.flights"
    assert stream.dataset is not None
    assert stream.client is not None
    assert stream.cred is not None
    assert stream.cred.service_account_email.startswith("api2db-")
    assert stream.client.query("SELECT COUNT(*) AS n FROM `" + f"{PROJECT}.{DATASET}.flights`").result() is not None
    stream.client.close()


def test_the_schema_follows_from_the_dtypes_and_connect_makes_the_table(make: Make, server: BigqueryServer) -> None:
    with make() as first:
        first.stream(
            pd.DataFrame({"id": [1], "price": [0.5], "text": ["x"], "at": [pd.Timestamp("2026-01-01", tz="UTC")]})
        )
    server.clear()
    stream = make()
    assert (
        stream.bq_schema
        == stream.build_bq_schema()
        == [
            {"name": "id", "type": "INTEGER"},
            {"name": "price", "type": "FLOAT"},
            {"name": "text", "type": "STRING"},
            {"name": "at", "type": "TIMESTAMP"},
        ]
    )
    assert [(field.name, field.field_type) for field in stream.build_schema() or ()] == [
        (each["name"], each["type"]) for each in stream.bq_schema or ()
    ]
    assert stream.connect() is True
    assert list(server.types(DATASET, "flights").values()) == ["INTEGER", "FLOAT", "STRING", "TIMESTAMP"]
    assert stream.client is not None
    stream.client.close()  # type: ignore[no-untyped-call]


def test_a_column_whose_dtype_does_not_tell_gets_the_type_of_its_first_value_in_a_table_that_connect_made(
    make: Make, server: BigqueryServer
) -> None:
    day, odd = datetime.date(2026, 1, 2), {"text": ["x"], "price": [Decimal("1.5")], "raw": [b"x"]}
    with make() as first:
        first.stream(pd.DataFrame({"id": [1], "day": [day], **odd}))
        wanted = server.types(DATASET, "flights")
    server.clear()
    with make() as stream:
        assert stream.connect() is True
        assert set(server.types(DATASET, "flights").values()) == {"INTEGER", "STRING"}
        stream.stream(pd.DataFrame({"id": [2], "day": [day], **odd}))
        assert stream.status().rows_rejected == 0
        assert stream.client is not None
        stream.client.close()  # type: ignore[no-untyped-call]
    assert server.types(DATASET, "flights") == wanted
    assert [(row["id"], row["day"], row["price"]) for row in server.rows(DATASET, "flights")] == [(2, day, 1.5)]


@pytest.mark.parametrize("keys", [[], ["id"]])
def test_connect_makes_no_table_that_fail_would_take_for_one_of_others(
    make: Make, server: BigqueryServer, keys: list[str]
) -> None:
    with make(if_exists="fail", keys=keys) as first:
        first.stream(frame(1))
    server.clear()
    with make(if_exists="fail", keys=keys) as stream:
        assert stream.connect() is True
        stream.stream(frame(2))
        assert stream.client is not None
        stream.client.close()  # type: ignore[no-untyped-call]
    assert ids(server.rows(DATASET, "flights")) == [2]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("if_exists", "sometimes"),
        ("pid", "Mine"),
        ("did", "my-set"),
        ("did", ""),
        ("tid", "a.b"),
        ("keys", "id"),
        ("endpoint", "a host"),
        ("endpoint", "ftp://localhost:1"),
    ],
)
def test_an_argument_that_can_not_be_used_is_told_at_once(make: Make, option: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=option):
        make(**{option: value})


def test_without_google_s_libraries_it_is_said_what_to_install(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['google.cloud'] = None\n"
        "from api2db import Stream2Bigquery\n"
        "stream = Stream2Bigquery('flights', 'key.json', 'p', 'd', 't', home=sys.argv[1])\n"
        "assert stream.connect() is False\n"
        "stream.start()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "pip install 'api2db[bigquery]'" in ended.stderr.splitlines()[-1]


def test_what_google_calls_a_wrong_request_is_no_refusal_of_rows_where_it_has_none(
    make: Make, server: BigqueryServer
) -> None:
    with make() as stream:
        stream.stream(frame(1))
        server.faults.fail("AppendRows", "after")
        server.faults.fail("FinalizeWriteStream", "before", "invalid", times=2)
        stream.q.put(frame(2))
        assert stream.flush(20)
        server.catalog.streams.clear()
        server.faults.fail("CreateWriteStream", "before", "invalid", times=2)
        stream.stream(frame(3))
        assert stream.status().rows_rejected == 0
    assert ids(server.rows(DATASET, "flights")) == [1, 2, 3]


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("invalidQuery", BatchRefusedError),
        ("resourcesExceeded", TargetUnavailableError),
        ("billingNotEnabled", TargetUnavailableError),
    ],
)
def test_of_what_comes_with_status_400_only_what_speaks_of_rows_or_columns_is_a_refusal(
    reason: str, error: type[TargetError]
) -> None:
    place = TableLocation(Path("key.json"), PROJECT, DATASET, "flights")
    with pytest.raises(error, match="writing: it is so"), sorted_errors(place, "writing", refusable=True):
        raise BadRequest("it is so", errors=[{"reason": reason}])  # type: ignore[no-untyped-call]


def by_id(server: BigqueryServer) -> list[tuple[Any, ...]]:
    return sorted(tuple(row.values()) for row in server.rows(DATASET, "flights"))


def test_of_rows_with_one_key_the_last_is_there_within_a_frame_a_batch_and_across_them(
    make: Make, server: BigqueryServer
) -> None:
    stream = make(keys=["id"])
    stream.q.put(pd.DataFrame({"id": [1, 2, 1], "text": ["a", "b", "c"]}))
    stream.q.put(pd.DataFrame({"id": [3, 2], "text": ["d", "e"]}))
    with stream:
        assert stream.flush(20)
        stream.stream(pd.DataFrame({"id": [1, 4, 4], "text": ["f", "g", None]}))
        stream.stream(pd.DataFrame({"id": [3], "text": ["h"]}))
        status = stream.status()
    assert by_id(server) == [(1, "f"), (2, "e"), (3, "h"), (4, None)]
    assert (status.rows_delivered, status.duplicates_dropped) == (6, 3)
    assert not [name for _, name in server.catalog.tables if "staged" in name]


@pytest.mark.parametrize("if_exists", ["append", "replace"])
def test_a_key_is_the_table_s_column_also_where_it_is_written_in_another_case(
    make: Make, server: BigqueryServer, if_exists: str
) -> None:
    make_table(server, {"name": "ID", "type": "INTEGER"}, {"name": "text", "type": "STRING"})
    with make(keys=["id"], if_exists=if_exists, schema="freeze") as stream:
        stream.stream(pd.DataFrame({"id": [1, 1, 2], "text": ["a", "b", "c"]}))
        stream.stream(pd.DataFrame({"id": [1, 2, 2], "text": ["d", "e", "f"]}))
        assert stream.status().rows_rejected == 0
    assert by_id(server) == [(1, "d"), (2, "f")]


def test_a_key_in_another_case_makes_a_table_too(make: Make, server: BigqueryServer) -> None:
    with make(keys=["ID"]) as stream:
        stream.stream(pd.DataFrame({"id": [1, 1], "text": ["a", "b"]}))
        assert stream.status().rows_rejected == 0
    assert by_id(server) == [(1, "b")]


def test_a_column_that_a_frame_lacks_keeps_what_it_had_and_a_null_is_a_value(
    make: Make, server: BigqueryServer
) -> None:
    with make(keys=["id"]) as stream:
        stream.stream(pd.DataFrame({"id": [1, 2], "a": [{"x": 1}, {"y": 2}], "b": [1, 2]}))
        stream.stream(pd.DataFrame({"id": [1, 3], "b": [5, 6]}))
        stream.stream(pd.DataFrame({"id": [2], "a": [None], "c": [7]}))
    assert by_id(server) == [(1, '{"x": 1}', 5, None), (2, None, 2, 7), (3, None, 6, None)]


def test_a_retried_row_never_takes_the_place_of_a_row_with_its_key(
    make: Make, server: BigqueryServer, tmp_path: Path
) -> None:
    with make(keys=["id"]) as stream:
        stream.stream(pd.DataFrame({"id": [1], "v": [1]}))
        stream.stream(pd.DataFrame({"id": [1, 2], "v": ["old", "new"]}))
    server.catalog.drop_table(DATASET, "flights")
    make_table(server, {"name": "id", "type": "INTEGER"}, {"name": "v", "type": "STRING"})
    with make(keys=["id"]) as stream:
        stream.stream(pd.DataFrame({"id": [1], "v": ["newer"]}))
        [file] = rejected_files(tmp_path)
        retry(tmp_path, file)
        assert stream.flush(20)
    assert by_id(server) == [(1, "newer"), (2, "new")]
    assert ["a row of the same key (id), which may be newer" in reason for reason in reasons(tmp_path)] == [True]


def test_rows_without_a_key_are_rejected_and_the_others_go_in(
    make: Make, server: BigqueryServer, tmp_path: Path
) -> None:
    with make(keys=["id"]) as stream:
        stream.stream(pd.DataFrame({"text": ["no key at all"]}))
        stream.stream(pd.DataFrame({"id": [1, None], "text": ["a", "b"]}))
    assert by_id(server) == [(1, "a")]
    assert len(reasons(tmp_path)) == 2
    assert all("part of the key" in reason for reason in reasons(tmp_path))


def test_a_key_in_which_bigquery_compares_no_values_is_told_with_each_row(
    make: Make, server: BigqueryServer, tmp_path: Path
) -> None:
    with make(keys=["id"]) as stream:
        stream.q.put(pd.DataFrame({"id": [{"a": 1}, {"a": 2}], "n": [1, 2]}))
        assert stream.flush(20), stream.status()
    assert server.rows(DATASET, "flights") == []
    assert ["'id' is JSON" in reason and "choose another key" in reason for reason in reasons(tmp_path)] == [True, True]


def test_rows_by_key_that_the_server_refuses_are_found_one_by_one(
    make: Make, server: BigqueryServer, tmp_path: Path
) -> None:
    make_table(server, {"name": "id", "type": "INTEGER"}, {"name": "text", "type": "STRING", "mode": "REQUIRED"})
    with make(keys=["id"]) as stream:
        stream.stream(pd.DataFrame({"id": range(9), "text": ["x", None, "y"] * 3}))
    assert [row[0] for row in by_id(server)] == [0, 2, 3, 5, 6, 8]
    assert len(reasons(tmp_path)) == 3


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_transaction_whose_answer_is_lost_is_not_repeated(make: Make, server: BigqueryServer, moment: Any) -> None:
    with make(keys=["id"]) as stream:
        stream.stream(frame(1))
        for _ in range(3):
            server.faults.fail("jobs.insert", moment, "cut")
            stream.stream(frame(2))
    [(loaded,)] = server.catalog.ask(f'SELECT loaded FROM "{DATASET}"."_api2db_ledger_flights"')
    assert loaded == 4
    assert by_id(server) == [(1, "row 1"), (2, "row 2")]


def test_a_replacing_frame_has_each_key_once(make: Make, server: BigqueryServer, tmp_path: Path) -> None:
    with make(keys=["id"], if_exists="replace") as stream:
        stream.stream(pd.DataFrame({"id": [1, 2, 1], "text": ["a", "b", "c"]}))
        stream.stream(pd.DataFrame({"id": [2, 2, None], "text": ["d", "e", "f"]}))
        assert stream.status().duplicates_dropped == 2
    assert by_id(server) == [(2, "e")]
    assert len(reasons(tmp_path)) == 1


def test_signatures_and_inheritance_are_the_spec_s() -> None:
    nothing, positional = inspect.Parameter.empty, inspect.Parameter.POSITIONAL_OR_KEYWORD
    wanted: dict[str, dict[str, object]] = {
        "__init__": {
            **dict.fromkeys(("name", "auth_path", "pid", "did", "tid"), nothing),
            "location": "US",
            "if_exists": "append",
            "chunk_size": 0,
            "store": False,
        },
        "connect": {},
        "stream": {"data": nothing, "retry_depth": 5},
        "build_schema": {},
        "build_bq_schema": {},
    }
    for method, arguments in wanted.items():
        found = inspect.signature(vars(Stream2Bigquery)[method]).parameters.values()
        defaults = {each.name: each.default for each in found if each.kind is positional and each.name != "self"}
        assert (list(defaults), defaults) == (list(arguments), arguments)
    assert Stream2Bigquery.__bases__ == (Stream,)
    assert stream2bigquery.Stream2Bigquery is Stream2Bigquery


@pytest.mark.disk_journal  # in a cluster a parked batch has no file
def test_failed_uploads_lie_under_bigquery(make: Make, server: BigqueryServer, tmp_path: Path) -> None:
    stream = make()
    stream.stream(frame(1))
    server.faults.fail("AppendRows", "before", times=2)
    stream.stream(frame(2), retry_depth=0)
    [parked] = (tmp_path / "STORE" / "upload_failed" / "flights" / "bigquery").glob("[0-9]*.parquet")
    stream.check_failures()
    assert stream.flush(20)
    assert eventually(lambda: not parked.exists())
    assert ids(server.rows(DATASET, "flights")) == [1, 2]


def test_a_transaction_that_comes_late_has_moved_the_ledger_and_its_rows_are_not_merged_again(
    make: Make, server: BigqueryServer
) -> None:
    with make(keys=["id"]) as stream:
        stream.stream(frame(1))
        server.catalog.ask(f'UPDATE "{DATASET}"."_api2db_ledger_flights" SET sequence = sequence + 1')
        stream.stream(frame(2))
        stream.stream(frame(3))
    assert by_id(server) == [(1, "row 1"), (3, "row 3")]


@pytest.mark.parametrize(
    ("said", "times"),
    [
        ("Transaction is aborted due to concurrent update against table {table}. A row length changed", 1),
        ("Transaction is aborted due to concurrent update against table {table}. A row length changed", 2),
        ("Query exceeded resource limits for {table}", 1),
        ("Query exceeded resource limits for {table}", 2),
        ("Required field text cannot be null", 2),
    ],
)
def test_a_transaction_that_fails_for_a_while_has_no_good_row_rejected_and_ends_no_worker(
    make: Make, server: BigqueryServer, said: str, times: int
) -> None:
    with make(keys=["id"], tid="length") as stream:
        stream.stream(frame(1))
        server.faults.of_transactions = [said.format(table=f"{PROJECT}:{DATASET}.length")] * times
        stream.stream(frame(2))
        assert (stream.status().rows_rejected, server.faults.of_transactions) == (0, [])
    assert ids(server.rows(DATASET, "length")) == [1, 2]


def test_an_answer_to_a_query_that_never_comes_is_waited_for_no_longer_than_a_while(
    make: Make, server: BigqueryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bigquery_client, "_POLL_S", 0.2)
    monkeypatch.setattr(google.cloud.bigquery.client, "_MIN_GET_QUERY_RESULTS_TIMEOUT", 0.2)
    with make(keys=["id"]) as stream:
        server.faults.stalled = {"jobs.getQueryResults"}
        stream.q.put(frame(1))
        try:
            assert "can't be reached" in eventually(lambda: stream.status().last_error or "", 5)
        finally:
            server.faults.heal()
        stream.check_failures()
        assert stream.flush(20)
        server.faults.stalled = {"jobs.getQueryResults"}
        stream.stream(frame(2))
    assert ids(server.rows(DATASET, "flights")) == [1, 2]
