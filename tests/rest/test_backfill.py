"""A backfill: windows of history into the table of the live collector, resumable."""

from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from api2db.app.command_line import app
from api2db.errors import ConfigurationError, PollError
from api2db.rest import Cursor, PageNumber, Resource, RestApi
from api2db.rest.backfill import Backfill
from tests.rest.conftest import Polled, Serve
from tests.rest.servers import Asked, Reply, Server

ROWS = [
    {"id": day * 3 + part, "at": f"2024-01-{1 + day:02}T{part * 8:02}:00:00Z"} for day in range(20) for part in range(3)
]


def answer(asked: Asked) -> Reply:
    since, until = asked.params.get("since", ""), asked.params.get("until", "9")
    found = [row for row in ROWS if since <= str(row["at"]) < until]
    page = int(asked.params.get("page", 1))
    return Reply(found[(page - 1) * 2 : page * 2])


def resource(server: Server, **options: Any) -> Resource:
    cursor = Cursor("at", param="since", **{"until": "until", **options})
    return RestApi(server.url).get("/x", cursor=cursor, keys="id", pagination=PageNumber(size=2))


def test_all_windows_are_polled_and_the_live_state_stays(serve: Serve) -> None:
    server = serve(answer)
    done: list[tuple[int, int]] = []
    polled = Polled(Backfill(resource(server), "2024-01-01", "2024-01-21", "3d", lambda n, of: done.append((n, of))))  # type: ignore[arg-type]
    polled.state = {"cursor": "2024-01-21T00:00:00Z", "known": {}}
    polled.poll()
    assert sorted(row["id"] for row in polled.rows) == [row["id"] for row in ROWS]
    assert polled.state == {"cursor": "2024-01-21T00:00:00Z", "known": {}}
    assert done[0] == (1, 7)
    assert done[-1] == (7, 7)
    assert server.asked[0].params["since"] == "2024-01-01"
    assert server.asked[0].params["until"] == "2024-01-04"


def test_a_backfill_that_fails_goes_on_at_the_page(serve: Serve) -> None:
    server = serve(answer)
    polled = Polled(Backfill(resource(server), "2024-01-01", "2024-01-21", "3d"))  # type: ignore[arg-type]
    server.answer = lambda asked: Reply("no", 418) if len(server.asked) == 9 else answer(asked)
    with pytest.raises(PollError, match="418"):
        polled.poll()
    server.answer = answer
    polled.poll()
    assert [row["id"] for row in polled.rows] == [row["id"] for row in ROWS]


def test_windows_are_in_the_form_of_the_cursor(serve: Serve) -> None:
    server = serve(answer)
    assert Backfill(resource(server, type="unix_s"), "1970-01-01", "1970-01-01T03:00:00Z", "2h").windows() == [
        (0, 7200),
        (7200, 10800),
    ]
    assert Backfill(resource(server, type="unix_ms"), "1970-01-01", "1970-01-02").windows() == [(0, 86_400_000)]


@pytest.mark.parametrize("options", [{"changes_only": True}, {}], ids=["changes", "cursor"])
def test_a_live_poll_loads_what_differs_from_the_backfill(serve: Serve, options: dict[str, Any]) -> None:
    row = {"id": 1, "at": "2024-01-01T00:00:00Z", "value": "old"}
    cursor = Cursor("at", param="since", until="until")
    found = RestApi(serve(lambda asked: Reply([row])).url).get("/x", cursor=cursor, keys="id", **options)
    polled = Polled(found)
    polled.poll()
    row["value"] = "new"
    for page in Backfill(found, "2024-01-01", "2024-01-02")(polled.state):
        polled.take(page)
    assert polled.rows[-1]["value"] == "new"
    row["value"] = "old"
    polled.poll()
    assert polled.rows[-1]["value"] == "old"


QUERY = "query ($after: String, $since: DateTime, $until: DateTime) { items { nodes pageInfo } }"


def test_windows_of_graphql_are_variables(serve: Serve) -> None:
    info = {"hasNextPage": False, "endCursor": None}
    server = serve(lambda asked: Reply({"data": {"items": {"nodes": [], "pageInfo": info}}}))
    cursor = Cursor("at", param="since", until="until")
    found = RestApi(server.url).graphql(QUERY, records="data.items.nodes", keys="id", cursor=cursor)
    Polled(Backfill(found, "2024-01-01", "2024-01-02")).poll()  # type: ignore[arg-type]
    assert server.asked[0].json == {"query": QUERY, "variables": {"since": "2024-01-01", "until": "2024-01-02"}}


def test_what_a_backfill_needs_is_told(serve: Serve) -> None:
    server = serve(answer)
    with pytest.raises(ConfigurationError, match="param= and until="):
        Backfill(resource(server, until=None), "2024-01-01", "2024-01-02")
    with pytest.raises(ConfigurationError, match="resource with a cursor"):
        Backfill(RestApi(server.url).get("/x", keys="id"), "2024-01-01", "2024-01-02")
    with pytest.raises(ConfigurationError, match="has no window"):
        Backfill(resource(server), "2024-01-02", "2024-01-01")
    with pytest.raises(ConfigurationError, match="begin of the backfill is 'yesterday'"):
        Backfill(resource(server), "yesterday", "2024-01-01")


MAIN = """
from api2db import Collector, Stream2Sql
from api2db.rest import Cursor, PageNumber, RestApi

rows = RestApi("{url}").get(
    "/x",
    cursor=Cursor("at", param="since", until="until", initial="2024-01-18"),
    keys="id",
    pagination=PageNumber(size=2),
)
collectors = [Collector("rows", 60, rows, [Stream2Sql("rows", "r.duckdb", "duckdb")])]
"""


def test_the_command_fills_the_table_of_the_collector(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API2DB_HOME", str(tmp_path))
    main = tmp_path / "main.py"
    main.write_text(MAIN.format(url=serve(answer).url))
    command = ["backfill", "rows", str(main), "--from", "2024-01-01", "--to", "2024-01-19", "--step", "5d"]
    for arguments in (["run", str(main), "--once"], command, command):
        ended = CliRunner().invoke(app, arguments)
        assert ended.exit_code == 0, ended.output
    with duckdb.connect(str(tmp_path / "r.duckdb")) as database:
        assert database.execute("SELECT count(*), count(DISTINCT id) FROM rows").fetchone() == (60, 60)
