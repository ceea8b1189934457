"""A first look at an API: what is guessed, why, and that the printed collector works."""

import json
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from api2db.app._peek import show_peek
from api2db.errors import ConfigurationError, PollError
from api2db.rest.peek import peek
from tests.rest.conftest import Serve
from tests.rest.servers import Asked, Reply
from tests.rest.shapes import BinanceTicker, GitHubIssues, Hal, OData, StripeCharges

SEEN: dict[str, tuple[Any, str, dict[str, str]]] = {
    "github": (
        GitHubIssues,
        "/repos/a/b/issues?per_page=5",
        {"pagination": "LinkHeader()", "keys": "'id'", "cursor": "Cursor('updated_at')"},
    ),
    "stripe": (
        StripeCharges,
        "/v1/charges?limit=5",
        {
            "records": "'data'",
            "pagination": "LastId('id', param='starting_after', has_more='has_more')",
            "keys": "'id'",
            "cursor": "Cursor('created', type='unix_s')",
        },
    ),
    "ticker": (BinanceTicker, "/api/v3/ticker/price", {"keys": "'symbol'"}),
    "hal": (
        Hal,
        "/orders",
        {"records": "'_embedded.orders'", "pagination": "NextUrl('_links.next.href')", "keys": "'id'"},
    ),
    "odata": (
        OData,
        "/odata/Orders",
        {
            "records": "'value'",
            "pagination": "NextUrl('\"@odata.nextLink\"')",
            "keys": "'Id'",
            "cursor": "Cursor('Modified')",
        },
    ),
}


@pytest.mark.parametrize(("shape", "path", "expected"), SEEN.values(), ids=SEEN)
def test_a_response_tells_how_to_poll(serve: Serve, shape: Any, path: str, expected: dict[str, str]) -> None:
    server = serve(shape())
    found = peek(f"{server.url}{path}")
    assert {name: guess.code.replace('"Id"', "'Id'") for name, guess in found.guesses.items()} == expected
    assert len(server.asked) == 1


def test_the_program_that_is_shown_loads_the_whole_list(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = GitHubIssues()
    show_peek(f"{serve(shape).url}/repos/a/b/issues?per_page=50", None, "DuckDB")
    shown = capsys.readouterr().out
    assert "updated_at" in shown
    assert '"id" BIGINT' in shown or '"id" bigint' in shown
    program = shown[shown.index("from api2db import") :].replace(".run()", ".run(once=True)")
    monkeypatch.setenv("API2DB_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["main.py"])
    exec(compile(program, "main.py", "exec"), {"__name__": "__main__"})
    with duckdb.connect(str(tmp_path / "STORE" / "data.duckdb")) as database:
        assert database.execute("SELECT count(*), count(DISTINCT id) FROM issues").fetchone() == (103, 103)


TARGETS = {
    "SQLite": "Stream2Sql",
    "PostgreSQL": "Stream2Sql",
    "MySQL": "Stream2Sql",
    "MariaDB": "Stream2Sql",
    "SQL Server": "Stream2Sql",
    "Oracle": "Stream2Sql",
    "BigQuery": "Stream2Bigquery",
    "HeavyDB": "Stream2Omnisci",
    "Delta Lake": "Stream2Delta",
    "Iceberg": "Stream2Iceberg",
    "Parquet": "Stream2Local",
    "CSV files": "Stream2Local",
}


def test_the_program_is_for_the_target_that_is_asked_for(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API2DB_HOME", str(tmp_path))
    (tmp_path / "AUTH").mkdir()
    server = {"username": "me", "password": "secret", "host": "127.0.0.1"}
    for name in ("postgresql", "mysql", "mariadb", "microsoft_sql", "oracle", "omnisci"):
        (tmp_path / "AUTH" / f"{name}.json").write_text(json.dumps(server))
    url = serve(lambda asked: Reply([{"id": 1}])).url
    for target, class_ in TARGETS.items():
        show_peek(f"{url}/rows", None, target)
        shown = capsys.readouterr().out
        assert ("CREATE TABLE" in shown) == (class_ != "Stream2Local"), target
        names: dict[str, Any] = {}
        exec(compile(shown[shown.index("from api2db import") :], "main.py", "exec"), names)
        [stream] = names["streams"]
        assert type(stream).__name__ == class_
        kind = getattr(stream, "dialect", None) or getattr(stream, "fmt", None) or target.lower()
        assert kind == {"SQL Server": "microsoft_sql"}.get(target, target.lower().removesuffix(" files"))


def test_no_secret_is_shown(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    def answer(asked: Asked) -> Reply:
        assert asked.headers["authorization"] == "Bearer canary-1234"
        return Reply([{"id": 1}])

    show_peek(f"{serve(answer).url}/x", "bearer:canary-1234", "DuckDB")
    shown = capsys.readouterr().out
    assert "canary" not in shown
    assert "BearerToken(" in shown


def test_what_is_no_list_is_told(serve: Serve) -> None:
    with pytest.raises(PollError, match="has no records"):
        peek(serve(lambda asked: Reply([])).url)
    with pytest.raises(ConfigurationError, match="--auth is bearer"):
        peek("https://x.y", "token")
    with pytest.raises(ConfigurationError, match="--to is"):
        show_peek("https://x.y", None, "Paper")
