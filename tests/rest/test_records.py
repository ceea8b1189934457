"""Records: where they are, what becomes of their fields, and which rows are rejected for which reason."""

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from api2db import Collector, Run, Stream2Sql
from api2db.errors import PollError
from api2db.frames import Refused, reason_of
from api2db.rest import Cursor, NextToken, PageNumber, RestApi
from tests.rest.conftest import Polled, Serve
from tests.rest.servers import Asked, Reply

DOCUMENTS: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "a list": ([{"a": 1}], [{"a": 1}]),
    "one list of objects": ({"ok": True, "tags": ["x"], "data": {"items": [{"a": 1}]}}, [{"a": 1}]),
    "an odd name": ({"a b.c": [{"a": 1}]}, [{"a": 1}]),
    "a full and an empty list": ({"items": [{"a": 1}], "errors": []}, [{"a": 1}]),
    "one empty list": ({"ok": True, "items": []}, []),
    "an object": ({"a": 1, "tags": ["x"]}, [{"a": 1, "tags": ["x"]}]),
    "an empty list at the top": ([], []),
}


def reply_of(text: str | bytes, content_type: str = "application/json") -> Reply:
    return Reply(text.encode() if isinstance(text, str) else text, headers={"Content-Type": content_type})


@pytest.mark.parametrize(("document", "expected"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_records_are_found_where_there_is_one_place_for_them(
    serve: Serve, document: Any, expected: list[dict[str, Any]]
) -> None:
    assert Polled(RestApi(serve(lambda asked: Reply(document)).url).get("/x")).poll() == expected


def test_where_there_are_several_places_the_error_lists_them(serve: Serve) -> None:
    server = serve(lambda asked: Reply({"users": [{"a": 1}], "data": {"posts": [{"b": 1}]}}))
    with pytest.raises(PollError, match=r"any of 'users', 'data.posts'; name the right one, as in records='users'"):
        Polled(RestApi(server.url).get("/x")).poll()
    assert Polled(RestApi(server.url).get("/x", records="data.posts")).poll() == [{"b": 1}]


def test_where_records_were_once_they_are_looked_for_again(serve: Serve) -> None:
    documents = [
        {"items": [{"a": 1}], "errors": []},
        {"items": [], "errors": [{"why": "x"}]},
        {"items": [], "errors": []},
    ]
    polled = Polled(RestApi(serve(lambda asked: Reply(documents.pop(0))).url).get("/x"))
    assert polled.poll() == [{"a": 1}]
    assert polled.poll() == []
    assert polled.poll() == []


GUESSES: dict[str, list[Any]] = {
    "null": [{"items": None}, {"items": [{"id": 1}, {"id": 2}]}],
    "an empty list": [{"data": [], "warnings": [{"code": 7}]}, {"data": [{"id": 1}, {"id": 2}], "warnings": []}],
    "another empty list": [{"hits": []}, {"items": [{"id": 1}, {"id": 2}]}],
}


@pytest.mark.parametrize("documents", GUESSES.values(), ids=GUESSES)
def test_a_document_without_records_says_nothing_about_where_they_are(serve: Serve, documents: list[Any]) -> None:
    left = list(documents)
    polled = Polled(RestApi(serve(lambda asked: Reply(left.pop(0))).url).get("/x"))
    assert polled.poll() == []
    assert "records" not in polled.state
    assert polled.poll() == [{"id": 1}, {"id": 2}]


def test_a_full_and_an_empty_list_are_two_places(serve: Serve) -> None:
    server = serve(lambda asked: Reply({"data": [], "facets": [{"a": 1}]}))
    with pytest.raises(PollError, match=r"any of 'data', 'facets'"):
        Polled(RestApi(server.url).get("/x")).poll()


@pytest.mark.parametrize("first", [[{"id": 1}], {"items": [{"id": 1}]}], ids=["a list", "a path"])
def test_a_place_that_was_found_and_is_missing_later_is_an_error(serve: Serve, first: Any) -> None:
    documents = [first, {"message": "try again later"}]
    polled = Polled(RestApi(serve(lambda asked: Reply(documents.pop(0))).url).get("/x"))
    assert polled.poll() == [{"id": 1}]
    with pytest.raises(PollError, match="an object with 'message'"):
        polled.poll()


def test_an_object_that_looks_like_an_error_is_no_record(serve: Serve) -> None:
    server = serve(lambda asked: Reply({"status": 500, "message": "try again later"}))
    with pytest.raises(PollError, match=r"looks like an error.*records='@'"):
        Polled(RestApi(server.url).get("/x")).poll()
    assert len(Polled(RestApi(server.url).get("/x", records="@")).poll()) == 1


def test_a_page_without_the_named_records_does_not_end_the_list(serve: Serve) -> None:
    rows = [{"id": number, "at": 100 - number} for number in range(6)]
    is_down = True

    def answer(asked: Asked) -> Reply:
        page, since = int(asked.params["page"]), int(asked.params.get("since", 0))
        found = [row for row in rows if row["at"] >= since]
        return Reply({"message": "later"} if page == 2 and is_down else {"items": found[(page - 1) * 2 : page * 2]})

    cursor = Cursor("at", param="since")
    resource = RestApi(serve(answer).url).get("/x", records="items", pagination=PageNumber(), cursor=cursor, keys="id")
    polled = Polled(resource)
    with pytest.raises(PollError, match="nothing at records='items'; it is an object with 'message'"):
        polled.poll()
    is_down = False
    polled.poll()
    assert polled.rows == rows


WITHOUT: dict[str, tuple[Any, str]] = {
    "null": ({"items": None}, "items"),
    "null above": ({"data": None}, "data.items"),
    "an empty list": ({"items": []}, "items"),
    "a choice": ({}, "items || `[]`"),
    "an element": ({"groups": []}, "groups[0].items"),
}
MISSING: dict[str, tuple[Any, str]] = {
    "nothing": ({}, "items"),
    "nothing below": ({"data": {}}, "data.items"),
    "a list": ([], "data.items"),
    "a quoted name": ({}, '"@items"'),
    "a filter": ({}, "items[?a]"),
}


@pytest.mark.parametrize(("document", "path"), WITHOUT.values(), ids=WITHOUT)
def test_a_place_that_is_there_may_be_empty(serve: Serve, document: Any, path: str) -> None:
    assert Polled(RestApi(serve(lambda asked: Reply(document)).url).get("/x", records=path)).poll() == []


@pytest.mark.parametrize(("document", "path"), MISSING.values(), ids=MISSING)
def test_a_place_that_is_not_there_is_an_error(serve: Serve, document: Any, path: str) -> None:
    polled = Polled(RestApi(serve(lambda asked: Reply(document)).url).get("/x", records=path))
    with pytest.raises(PollError, match="nothing at records="):
        polled.poll()


def test_xml_without_an_element_of_the_records_has_none_of_them(serve: Serve) -> None:
    texts = ["<feed><title>x</title></feed>", "<error>later</error>"]
    polled = Polled(RestApi(serve(lambda asked: reply_of(texts.pop(0))).url).get("/x", format="xml", records="feed.e"))
    assert polled.poll() == []
    with pytest.raises(PollError, match="nothing at records="):
        polled.poll()


@pytest.mark.parametrize("status", [200, 204])
def test_an_empty_body_is_a_list_without_records(serve: Serve, status: int) -> None:
    polled = Polled(RestApi(serve(lambda asked: Reply(b"", status)).url).get("/x", records="items", keys="id"))
    assert polled.poll() == []


def test_an_empty_body_in_the_middle_of_a_list_is_an_error(serve: Serve) -> None:
    def answer(asked: Asked) -> Reply:
        return Reply(b"") if asked.params else Reply({"items": [{"id": 1}], "next": "a"})

    polled = Polled(RestApi(serve(answer).url).get("/x", pagination=NextToken("next", param="token")))
    with pytest.raises(PollError, match="not JSON"):
        polled.poll()


def test_a_record_that_is_no_object_needs_fields(serve: Serve) -> None:
    server = serve(lambda asked: Reply([[1, "2.5"], [2, "3.5"]]))
    with pytest.raises(PollError, match="not an object; give fields="):
        Polled(RestApi(server.url).get("/klines")).poll()
    rows = Polled(RestApi(server.url).get("/klines", fields={"at": "[0]", "price": "[1]"})).poll()
    assert rows == [{"at": 1, "price": "2.5"}, {"at": 2, "price": "3.5"}]


def test_fields_select_and_rename_and_constants_are_added(serve: Serve) -> None:
    document = [{"id": 1, "quote": {"USD": {"price": 1.5}}, "tags": [{"n": "a"}, {"n": "b"}], "x": 0}]
    fields = {"uid": "id", "price": "quote.USD.price", "first": "tags[0].n", "none": "a.b"}
    resource = RestApi(serve(lambda asked: Reply(document)).url).get("/x", fields=fields, include={"source": "test"})
    assert Polled(resource).poll() == [{"uid": 1, "price": 1.5, "first": "a", "none": None, "source": "test"}]


def test_objects_become_dotted_columns_only_where_that_is_asked_for(serve: Serve) -> None:
    api = RestApi(serve(lambda asked: Reply([{"id": 1, "user": {"name": "ann", "at": {"x": 1}}, "no": {}}])).url)
    assert Polled(api.get("/x", flatten=True)).poll() == [{"id": 1, "user.name": "ann", "user.at.x": 1, "no": {}}]
    assert Polled(api.get("/x")).poll() == [{"id": 1, "user": {"name": "ann", "at": {"x": 1}}, "no": {}}]


def test_a_row_that_gives_one_dotted_name_to_two_values_is_rejected(serve: Serve) -> None:
    rows = [{"id": 1, "a.b": 1, "a": {"b": 2}}, {"id": 2, "a": {"b": 3}}]
    polled = Polled(RestApi(serve(lambda asked: Reply(rows)).url).get("/x", flatten=True))
    assert polled.poll() == [{"id": 2, "a.b": 3}]
    assert "gives 'a.b' to two of its values" in reason_of(polled.refused[0].rows.schema)


NUMBERS = '[{"a": 1.10, "big": 123456789012345678901234567890, "long": 0.12345678901234567890, "huge": 1e400}]'


def test_each_digit_of_a_number_is_kept(serve: Serve) -> None:
    [row] = Polled(RestApi(serve(lambda asked: reply_of(NUMBERS)).url).get("/x")).poll()
    assert row["a"] == 1.1
    assert row["big"] == 123456789012345678901234567890
    assert row["long"] == Decimal("0.12345678901234567890")
    assert row["huge"] == Decimal("1e400")


def test_an_integer_of_thousands_of_digits_is_kept_and_rejects_its_row_where_it_does_not_fit(serve: Serve) -> None:
    text = f'[{{"id": 1, "n": {"7" * 5000}}}, {{"id": 2, "n": 7}}]'
    api = RestApi(serve(lambda asked: reply_of(text)).url)
    assert Polled(api.get("/x")).poll()[0]["n"] == Decimal("7" * 5000)
    polled = Polled(api.get("/x", types={"n": "int"}))
    assert polled.poll() == [{"id": 2, "n": 7}]
    assert len(polled.refused) == 1


CASTS: dict[str, tuple[str, Any, Any]] = {
    "a decimal of a number": ("decimal(18,8)", 1.1, Decimal("1.10000000")),
    "a decimal of text": ("decimal(18,2)", "-1.10", Decimal("-1.10")),
    "a decimal of an int": ("decimal(3,0)", 999, Decimal(999)),
    "an int of text": ("int", "42", 42),
    "an int of a whole float": ("int", 42.0, 42),
    "a float of text": ("float", "1.5", 1.5),
    "a boolean of text": ("bool", "false", False),
    "text of a number": ("text", 17, "17"),
    "text of an object": ("text", {"a": 1}, '{"a":1}'),
    "a date": ("date", "2024-02-29", datetime.date(2024, 2, 29)),
    "a moment": ("timestamp", "2024-02-29T12:00:00+02:00", datetime.datetime(2024, 2, 29, 10, tzinfo=datetime.UTC)),
    "unix seconds": ("unix_s", 1.5, datetime.datetime(1970, 1, 1, 0, 0, 1, 500000, datetime.UTC)),
    "unix milliseconds": ("unix_ms", "1500", datetime.datetime(1970, 1, 1, 0, 0, 1, 500000, datetime.UTC)),
    "JSON in text": ("json", '{"a": [1]}', '{"a": [1]}'),
    "null": ("int", None, None),
}


@pytest.mark.parametrize(("type_", "value", "expected"), CASTS.values(), ids=CASTS)
def test_values_become_what_their_type_says(serve: Serve, type_: str, value: Any, expected: Any) -> None:
    [row] = Polled(RestApi(serve(lambda asked: Reply([{"v": value}])).url).get("/x", types={"v": type_})).poll()
    assert row["v"] == expected


POISON: dict[str, tuple[str, Any]] = {
    "a moment before the year 1": ("timestamp", "0001-01-01T00:00:00+05:00"),
    "nanoseconds": ("timestamp", "2024-01-01T00:00:00.123456789Z"),
    "unix seconds without an end": ("unix_s", "1e99999999"),
    "a decimal without an end": ("decimal(18,8)", "1e999999999"),
    "an int without an end": ("int", "1e999999999"),
    "an int with underscores": ("int", "1_0"),
    "beyond floats": ("float", "1e400"),
    "below floats": ("float", "1e-400"),
    "an int of 23 digits": ("float", 12345678901234567890123),
    "an int of 16 digits": ("float", 9007199254740993),
    "Arrow's NaT": ("unix_ns", -(2**63)),
    "NaN in JSON": ("json", "[1, NaN]"),
    "endless nesting": ("json", "[" * 100_000),
}


@pytest.mark.parametrize(("type_", "value"), POISON.values(), ids=POISON)
def test_a_value_that_would_be_changed_or_is_out_of_range_rejects_its_row_alone(
    serve: Serve, type_: str, value: Any
) -> None:
    good = {"timestamp": "2024-01-01", "json": "[]"}.get(type_, 5)
    server = serve(lambda asked: Reply([{"id": 1, "v": value}, {"id": 2, "v": good}]))
    polled = Polled(RestApi(server.url).get("/x", types={"v": type_}))
    assert [row["id"] for row in polled.poll()] == [2]
    assert len(polled.refused) == 1


@pytest.mark.parametrize("text", ["0.1", "0.1000000000000000055511151231257827", "0.30000000000000004", "1e22"])
def test_a_float_may_be_written_with_few_digits_or_with_all_of_them(serve: Serve, text: str) -> None:
    [row] = Polled(RestApi(serve(lambda asked: Reply([{"v": text}])).url).get("/x", types={"v": "float"})).poll()
    assert row == {"v": float(text)}


def test_a_json_text_keeps_the_digits_of_its_numbers(serve: Serve) -> None:
    text = "[1.10000000000000000000000001]"
    [row] = Polled(RestApi(serve(lambda asked: Reply([{"v": text}])).url).get("/x", types={"v": "json"})).poll()
    assert row == {"v": text}


@pytest.mark.parametrize("value", ["1e999999999", 1e300])
def test_a_cursor_passes_over_a_number_without_an_end(serve: Serve, value: Any) -> None:
    server = serve(lambda asked: Reply(f'[{{"id": 1, "v": {value}}}, {{"id": 2, "v": 5}}]'.encode()))
    polled = Polled(RestApi(server.url).get("/x", cursor=Cursor("v", overlap=5)))
    assert len(polled.poll()) == 2
    polled.poll()


REFUSED: dict[str, tuple[str, Any, str]] = {
    "too many digits behind": ("decimal(18,2)", "1.101", "'v' has more than 2 digits after the point"),
    "too many digits before": ("decimal(4,2)", 100, "'v' has more than 2 digits before the point"),
    "no number": ("decimal(4,2)", "abc", "'v' is not a number"),
    "a boolean as a number": ("int", True, "'v' is not a number"),
    "half a number": ("int", 1.5, "'v' is not a whole number of 64 bits"),
    "too large": ("int", 2**63, "'v' is not a whole number of 64 bits"),
    "no boolean": ("bool", "maybe", "'v' is neither true nor false"),
    "no date": ("date", "29.02.2024", "'v' is not an ISO 8601 date"),
    "no moment": ("timestamp", 17, "'v' is not an ISO 8601 date and time"),
    "too late": ("unix_s", 10**15, "'v' is outside of the years 1 to 9999"),
    "no JSON": ("json", "{", "'v' is not JSON"),
}


@pytest.mark.parametrize(("type_", "value", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_value_that_is_not_of_its_type_rejects_its_row_with_the_reason(
    serve: Serve, type_: str, value: Any, reason: str
) -> None:
    polled = Polled(
        RestApi(serve(lambda asked: Reply([{"n": 1, "v": value}, {"n": 2, "v": None}])).url).get(
            "/x", types={"v": type_}
        )
    )
    assert [row["n"] for row in polled.poll()] == [2]
    [refused] = polled.refused
    assert reason_of(refused.rows.schema) == reason
    assert refused.rows.column("n").to_pylist() == [1]


def test_a_typed_column_is_of_its_type_where_all_is_null(serve: Serve) -> None:
    resource = RestApi(serve(lambda asked: Reply([{"a": 1}])).url).get("/x", types={"price": "decimal(18,8)"})
    [[frame]] = resource({})
    assert frame.schema.field("price").type == pa.decimal128(18, 8)


def test_a_page_comes_whole_with_the_state_after_it_though_some_of_its_rows_are_rejected(serve: Serve) -> None:
    server = serve(lambda asked: Reply([{"id": 1, "n": "x"}, {"id": 2, "n": 2}]))
    resource = RestApi(server.url).get("/x", types={"n": "int"}, cursor=Cursor("id", param="since"))
    state: dict[str, Any] = {}
    page = next(iter(resource(state)))
    assert [isinstance(part, Refused) for part in page] == [True, False]
    assert state["cursor"] is not None


def test_rejected_rows_are_set_aside_and_the_others_are_in_the_table(serve: Serve, tmp_path: Path) -> None:
    rows = [{"id": 1, "price": "1.10"}, {"id": 2, "price": "1.123"}, {"id": 3, "price": None}]
    resource = RestApi(serve(lambda asked: Reply(rows)).url).get("/x", keys="id", types={"price": "decimal(9,2)"})
    stream = Stream2Sql("prices", "p.duckdb", "duckdb", home=tmp_path)
    Run([Collector("prices", 60, resource, [stream])]).run(once=True)
    with duckdb.connect(str(tmp_path / "p.duckdb")) as database:
        found = database.execute("SELECT id, price FROM prices ORDER BY id").fetchall()
    assert found == [(1, Decimal("1.10")), (3, None)]
    [file] = (tmp_path / "STORE" / "rejected" / "prices" / "sql.duckdb").iterdir()
    assert "'price' has more than 2 digits after the point" in str(pa.parquet.read_table(file).to_pylist())


def test_a_row_with_half_a_surrogate_pair_is_set_aside_and_the_others_are_loaded(serve: Serve) -> None:
    body = '[{"n": 1, "t": "\\ud800"}, {"n": 2, "t": "ok"}]'
    polled = Polled(RestApi(serve(lambda asked: reply_of(body)).url).get("/x", types={"n": "int"}))
    assert [row["n"] for row in polled.poll()] == [2]
    assert len(polled.refused) == 1


def test_lines_of_json_are_records(serve: Serve) -> None:
    server = serve(lambda asked: reply_of('{"a": 1}\n\n{"a": 2.50}\r\n'))
    assert Polled(RestApi(server.url).get("/x", format="ndjson")).poll() == [{"a": 1}, {"a": 2.5}]


def test_a_broken_line_names_itself_and_nothing_of_its_piece_is_loaded(serve: Serve) -> None:
    server = serve(lambda asked: reply_of('{"a": 1}\n{"a": '))
    polled = Polled(RestApi(server.url).get("/x", format="ndjson"))
    with pytest.raises(PollError, match="line 2: the response is not JSON"):
        polled.poll()
    assert polled.rows == []


def test_csv_has_a_header_and_its_values_are_text_unless_typed(serve: Serve) -> None:
    text = 'id,name,note\r\n1,"a, ""b""",\r\n2,c,"two\nlines"\r\n'
    resource = RestApi(serve(lambda asked: reply_of(text, "text/csv")).url).get("/x", format="csv", types={"id": "int"})
    assert Polled(resource).poll() == [
        {"id": 1, "name": 'a, "b"', "note": None},
        {"id": 2, "name": "c", "note": "two\nlines"},
    ]


def test_an_empty_line_is_a_row_of_a_csv_with_one_column(serve: Serve) -> None:
    server = serve(lambda asked: reply_of("\nname\na\n\nb\n"))
    assert Polled(RestApi(server.url).get("/x", format="csv")).poll() == [{"name": "a"}, {"name": None}, {"name": "b"}]


def test_csv_in_another_charset_is_read_as_it_says(serve: Serve) -> None:
    server = serve(lambda asked: reply_of("name\nGrün\n".encode("latin-1"), "text/csv; charset=iso-8859-1"))
    assert Polled(RestApi(server.url).get("/x", format="csv")).poll() == [{"name": "Grün"}]


def test_csv_rows_of_other_lengths_are_an_error(serve: Serve) -> None:
    server = serve(lambda asked: reply_of("a,b\n1\n"))
    with pytest.raises(PollError, match="row 2 of the CSV has 1 cells, and its header 2"):
        Polled(RestApi(server.url).get("/x", format="csv")).poll()


def test_xml_elements_are_records(serve: Serve) -> None:
    text = '<r xmlns="urn:x"><item id="1"><name>a</name><tag>x</tag><tag>y</tag></item><item id="2"/></r>'
    resource = RestApi(serve(lambda asked: reply_of(text)).url).get("/x", format="xml", records="r.item")
    assert Polled(resource).poll() == [{"id": "1", "name": "a", "tag": ["x", "y"]}, {"id": "2"}]


@pytest.mark.parametrize("text", ["<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>", "<x>"])
def test_xml_with_declarations_or_faults_is_refused(serve: Serve, text: str) -> None:
    with pytest.raises(PollError, match="XML"):
        Polled(RestApi(serve(lambda asked: reply_of(text)).url).get("/x", format="xml", records="x")).poll()


def test_nested_values_are_json_in_the_table(serve: Serve, tmp_path: Path) -> None:
    resource = RestApi(serve(lambda asked: Reply([{"id": 1, "user": {"name": "ann", "tags": [1]}}])).url).get("/x")
    stream = Stream2Sql("x", "p.duckdb", "duckdb", home=tmp_path)
    Run([Collector("x", 60, resource, [stream])]).run(once=True)
    with duckdb.connect(str(tmp_path / "p.duckdb")) as database:
        [(user,)] = database.execute("SELECT user FROM x").fetchall()
    assert json.loads(user) == {"name": "ann", "tags": [1]}
