"""From an API like GitHub's issues into DuckDB: a resource as the import_target of a collector."""

from pathlib import Path
from typing import Any

import duckdb
import pytest

from api2db import Collector, Run, Stream2Sql
from api2db.app.run import _hosts
from api2db.errors import PollError
from api2db.ingest import read_status
from api2db.rest import BearerToken, Cursor, LinkHeader, Resource, RestApi
from tests.rest.conftest import Serve
from tests.rest.servers import Asked, GitHub, Reply, Server, issue


def issues_of(server: Server, **options: Any) -> Resource:
    api = RestApi(server.url, auth=BearerToken("$GITHUB_TOKEN"), rate_limit="1000/s", **options)
    return api.get(
        "/repos/{repo}/issues",
        repo="pandas-dev/pandas",
        params={"state": "all", "per_page": 10},
        pagination=LinkHeader(),
        cursor=Cursor("updated_at", param="since", overlap="5m"),
        keys="id",
    )


def run(home: Path, resource: Resource) -> None:
    streams = [Stream2Sql("issues", db_name="github.duckdb", dialect="duckdb", home=home)]
    Run([Collector("issues", 60, resource, streams)]).run(once=True)


def table(home: Path) -> dict[int, str]:
    with duckdb.connect(str(home / "github.duckdb")) as database:
        found = database.execute("SELECT id, title FROM issues ORDER BY id").fetchall()
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "ghp_canary")


def test_a_list_is_loaded_whole_and_then_only_what_changed(serve: Serve, tmp_path: Path) -> None:
    github = GitHub([issue(number) for number in range(35)])
    server = serve(github)
    run(tmp_path, issues_of(server))
    assert table(tmp_path) == {number: f"issue {number}" for number in range(35)}
    assert len(server.asked) == 4
    assert all(asked.headers["authorization"] == "Bearer ghp_canary" for asked in server.asked)
    assert server.asked[0].params == {"state": "all", "per_page": "10"}

    github.issues[3] = issue(3, 50, title="changed")
    github.issues.append(issue(35, 51))
    github.version += 1
    run(tmp_path, issues_of(server))
    assert server.asked[4].params["since"] == "2024-05-01T00:29:00Z"
    assert len(server.asked) == 5
    assert table(tmp_path) == {number: f"issue {number}" for number in range(36)} | {3: "changed"}


def test_an_unchanged_list_is_asked_for_once_and_not_loaded(serve: Serve, tmp_path: Path) -> None:
    server = serve(GitHub([issue(number) for number in range(5)]))
    resource = issues_of(server)
    for _ in range(3):
        run(tmp_path, resource)
    assert [asked.headers.get("if-none-match") for asked in server.asked] == [
        None,
        None,  # the cursor has made it another request
        '"0-2024-04-30T23:59:00Z-1"',
    ]
    assert (resource.figures.rows_new, resource.figures.rows_repeated, resource.figures.not_modified) == (5, 5, 1)


def test_a_poll_that_failed_between_pages_goes_on_at_the_page(serve: Serve, tmp_path: Path) -> None:
    github = GitHub([issue(number) for number in range(35)])
    broken = True

    def answer(asked: Asked) -> Reply:
        return Reply({"message": "no"}, 451) if broken and asked.params.get("page") == "3" else github(asked)

    server = serve(answer)
    with pytest.raises(PollError, match=r"HTTP 451: \{\"message\": \"no\"\}"):
        run(tmp_path, issues_of(server))
    assert len(table(tmp_path)) == 20
    broken = False
    run(tmp_path, issues_of(server))
    assert len(table(tmp_path)) == 35
    assert [asked.params.get("page") for asked in server.asked] == [None, "2", "3", "3", "4"]


def test_no_file_of_the_project_has_the_token_in_it(serve: Serve, tmp_path: Path) -> None:
    run(tmp_path, issues_of(serve(GitHub([issue(number) for number in range(35)]))))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"ghp_canary" in path.read_bytes()]


def test_the_status_of_a_collector_has_the_figures_of_its_calls(serve: Serve, tmp_path: Path) -> None:
    run(tmp_path, issues_of(serve(GitHub([issue(number) for number in range(35)]))))
    status = read_status(tmp_path, "issues")
    assert status is not None
    assert status.figures is not None
    assert (status.figures["calls"], status.figures["rows_new"], status.figures["rows_repeated"]) == (4, 35, 0)


def test_streams_with_keys_of_their_own_keep_them(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda asked: Reply([{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]))
    resource = RestApi(server.url).get("/x", keys="id")
    own = Stream2Sql("x", db_name="x.duckdb", dialect="duckdb", home=tmp_path, keys=["name"])
    taken = Stream2Sql("x", db_name="y.duckdb", dialect="duckdb", home=tmp_path)
    Run([Collector("x", 60, resource, [own, taken])]).run(once=True)
    assert own.keys == ("name",)
    assert taken.keys == ("id",)


def test_collectors_of_one_host_share_a_process() -> None:
    def collector(name: str, url: str) -> Collector:
        return Collector(name, 60, RestApi(url).get("/x"), [])

    of_a, also_of_a = collector("a", "https://a.example/v1"), collector("b", "https://a.example/v2")
    of_b, plain = collector("c", "https://b.example"), Collector("d", 60, list, [])
    assert _hosts(of_a) == _hosts(also_of_a) != _hosts(of_b)
    assert _hosts(plain) == []
