"""``api2db doctor`` and ``api2db explain``: they say what is wrong and where rows are, and change nothing."""

import shlex
import sqlite3
from contextlib import closing
from pathlib import Path
from textwrap import dedent
from typing import Any

import pandas as pd
import pytest

from api2db import Stream2Local, Stream2Sql
from api2db.stream.diagnosis import _covers
from api2db.stream.stream import Stream
from api2db.testing import ApiServer, Call, Reply
from tests.app.commands import Command, Ended, command_of
from tests.servers.server import Server


@pytest.fixture
def api2db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(tmp_path)
    return command_of(monkeypatch, capfd)


@pytest.fixture
def cities(tmp_path: Path) -> Path:
    """A home with a delivered row, a rejected one, and one that waits."""
    write_main(
        tmp_path,
        """
        from api2db import Collector, Stream2Sql
        stream = Stream2Sql("cities", "cities.sqlite", "sqlite", schema="freeze")
        collectors = [Collector("cities", 1, lambda state: [], [stream])]
        """,
    )
    with closing(sqlite3.connect(tmp_path / "cities.sqlite")) as database:
        database.execute("CREATE TABLE cities (id INTEGER, name TEXT NOT NULL)")
    with Stream2Sql("cities", "cities.sqlite", "sqlite", home=tmp_path, schema="freeze") as stream:
        stream.q.put(pd.DataFrame({"id": [1, 2], "name": ["Ulm", None]}))
        assert stream.flush(20)
    stream.q.put(pd.DataFrame({"id": [3], "name": ["Bonn"]}))
    stream.stop()
    return tmp_path


def write_main(home: Path, text: str) -> None:
    (home / "main.py").write_text(dedent(text))


def findings(ended: Ended, about: str) -> list[dict[str, Any]]:
    return [each for each in ended.said["findings"] if about in each["about"]]


def test_each_row_is_found_where_it_is_with_the_reason(api2db: Command, cities: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in cities.rglob("*.segment")}
    [delivered] = api2db("explain", "cities", "--where", "id=1", "--json").said["places"]
    assert (delivered["state"], delivered["rows"]) == ("delivered", 1)
    [rejected] = api2db("explain", "cities", "--where", "id=2", "--json").said["places"]
    assert (rejected["state"], rejected["rows"]) == ("rejected", 1)
    assert "NOT NULL" in rejected["why"]
    [waiting] = api2db("explain", "cities", "--where", "id=3", "--where", "name=Bonn", "--json").said["places"]
    assert (waiting["state"], waiting["rows"]) == ("waiting", 1)
    assert "api2db run" in waiting["why"]
    nowhere = api2db("explain", "cities", "--where", "id=4")
    assert nowhere.code == 1
    assert "No row of cities with id=4" in nowhere.out
    assert {path: path.stat().st_mtime_ns for path in cities.rglob("*.segment")} == before


def test_the_advice_about_rejected_rows_is_a_command_that_works(api2db: Command, cities: Path) -> None:
    [place] = api2db("explain", "cities", "--where", "id=2", "--json").said["places"]
    retry = place["why"].partition("then: api2db ")[2]
    ended = api2db(*shlex.split(retry))
    assert (ended.code, "1 row put again" in ended.out) == (0, True)


def test_a_condition_that_is_none_is_refused(api2db: Command, cities: Path) -> None:
    ended = api2db("explain", "cities", "--where", "id")
    assert ended.code == 2
    assert "write column=value" in ended.error
    ended = api2db("explain", "cities")
    assert ended.code == 2
    assert "such as --where id=42" in ended.error


@pytest.mark.parametrize("dialect", ["sqlite", "duckdb", "files"])
def test_a_column_that_a_target_lacks_is_named_with_those_it_has(api2db: Command, tmp_path: Path, dialect: str) -> None:
    made = 'Stream2Local("cities")' if dialect == "files" else f'Stream2Sql("cities", "cities.db", "{dialect}")'
    write_main(
        tmp_path,
        f"""
        from api2db import Collector, Stream2Local, Stream2Sql
        collectors = [Collector("cities", 1, lambda state: [], [{made}])]
        """,
    )
    stream: Stream = Stream2Local("cities", home=tmp_path)
    if dialect != "files":
        stream = Stream2Sql("cities", "cities.db", dialect, home=tmp_path)
    with stream:
        stream.q.put(pd.DataFrame({"id": [1], "name": ["Ulm"]}))
        assert stream.flush(20)
    assert api2db("explain", "cities", "--where", "ID=1" if dialect == "duckdb" else "id=1").code == 0
    ended = api2db("explain", "cities", "--where", "foo=foo")
    assert ended.code == 1
    assert "has no column foo; it has: id, name" in " ".join(ended.out.split())
    assert "could not be searched" in ended.out
    assert "never put" not in ended.out
    assert "Error" not in ended.out


def test_doctor_names_what_waits_and_what_was_rejected(api2db: Command, cities: Path) -> None:
    ended = api2db("doctor", "--json")
    assert ended.code == 3
    [journal] = findings(ended, "journal of cities")
    assert "1 row rejected" in journal["what"]
    assert "api2db rejected list" in journal["next_step"]
    assert "api2db rejected retry --all, or" in journal["next_step"]
    assert [each["level"] for each in findings(ended, "target of cities")] == ["ok"]


def test_doctor_says_which_rows_wait_for_a_stream_that_is_declared_no_more(api2db: Command, tmp_path: Path) -> None:
    main = """
        from api2db import Collector, Stream2Local, Stream2Sql
        kept, gone = Stream2Sql("cities", "cities.sqlite", "sqlite"), Stream2Local("cities")
        collectors = [Collector("cities", 1, lambda state: [], [{}])]
        """
    with Stream2Local("cities", home=tmp_path) as stream:
        stream.flush(20)
    stream.q.put(pd.DataFrame({"id": [1, 2]}))
    stream.stop()
    write_main(tmp_path, main.format("kept, gone"))
    [journal] = findings(api2db("doctor", "--json"), f"→ {stream.identity}")
    assert (journal["level"], "the next run delivers them" in journal["what"]) == ("ok", True)

    write_main(tmp_path, main.format("kept"))
    ended = api2db("doctor", "--json")
    assert ended.code == 3
    [journal] = findings(ended, f"→ {stream.identity}")
    assert journal["level"] == "warning"
    assert "2 rows waiting for a stream that main.py does not declare" in journal["what"]
    step, _, command = journal["next_step"].partition("api2db ")
    assert "add it to main.py again" in step
    assert api2db(*shlex.split(command), "--yes").code == 0
    assert findings(api2db("doctor", "--json"), f"→ {stream.identity}") == []


def test_doctor_names_a_main_file_that_can_not_be_imported(api2db: Command, tmp_path: Path) -> None:
    write_main(tmp_path, "import no_such_module\n")
    ended = api2db("doctor")
    assert ended.code == 3
    assert "no_such_module" in ended.out
    assert "What to do next" in ended.out


def test_doctor_advises_init_where_there_is_no_main_file(api2db: Command) -> None:
    [main_file] = findings(api2db("doctor", "--json"), "main.py")
    assert main_file["what"] == "there is no file main.py"
    assert main_file["next_step"].endswith("create one: api2db init .")
    assert api2db("init", ".").code == 0
    [main_file] = findings(api2db("doctor", "--json"), "main.py")
    assert main_file["level"] == "ok"


def test_doctor_asks_each_api_for_a_page(api2db: Command, tmp_path: Path) -> None:
    def answer(call: Call) -> Reply:
        return Reply([{"id": 1}, {"id": 2}]) if call.path == "/good" else Reply({"message": "no"}, 403)

    with ApiServer(answer) as server:
        write_main(
            tmp_path,
            f"""
            from api2db import Collector, Stream2Local
            from api2db.rest import RestApi
            api = RestApi("{server.url}")
            collectors = [Collector(n, 1, api.get(f"/{{n}}"), [Stream2Local(n)]) for n in ("good", "bad")]
            """,
        )
        ended = api2db("doctor", "--json")
    [good], [bad] = findings(ended, "API of good"), findings(ended, "API of bad")
    assert good["level"] == "ok"
    assert "answers, with rows" in good["what"]
    assert bad["level"] == "error"
    assert "403" in bad["what"]


def test_doctor_names_the_rights_that_are_missing_on_a_server(
    api2db: Command, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, user = server.new_database(), f"reader{server.new_database()[-6:]}"
    server.execute("CREATE TABLE cities (id INTEGER)", database)
    at = server.create_user(user, "geheim")
    if server.kind == "postgresql":
        server.execute(f'GRANT SELECT ON cities TO "{user}"', database)
        missing = ["INSERT on table public.cities", "DELETE on table public.cities", "CREATE on schema public"]
    else:
        server.execute(f"GRANT SELECT ON `{database}`.* TO '{user}'@'%'")
        missing = [f"INSERT on {database}.*", f"ALTER on {database}.*"]
    write_main(
        tmp_path,
        f"""
        from api2db import Collector, Stream2Sql
        place = dict(username="{user}", password="geheim", host="{at.host}", port="{at.port}")
        stream = Stream2Sql("cities", "{database}", "{server.kind}", **place)
        collectors = [Collector("cities", 1, lambda state: [], [stream])]
        """,
    )
    ended = api2db("doctor", "--json")
    rights, connections = findings(ended, "target of cities")
    assert rights["level"] == "error"
    assert all(right in rights["what"] for right in missing), rights
    assert "SELECT on" not in rights["what"]
    assert "connections are in use" in connections["what"]
    assert "geheim" not in ended.out + ended.error
    [place] = api2db("explain", "cities", "--where", "foo=1", "--json").said["places"]
    assert place["why"] == "the table cities has no column foo; it has: id"


@pytest.mark.parametrize(
    ("database", "table"), [(None, None), (r"shop\_%", None), ("sh_p%", None), ("shop_1", "cities")]
)
def test_a_grant_of_mysql_may_be_for_all_databases_of_a_pattern(database: str | None, table: str | None) -> None:
    assert _covers(database, table, "shop_1", "cities")


@pytest.mark.parametrize(
    ("database", "table"), [(r"sh\_p%", None), ("sh``op", None), ("shop%", "cities"), ("shop_1", "towns")]
)
def test_a_grant_of_mysql_for_others_does_not_count(database: str, table: str | None) -> None:
    assert not _covers(database, table, "shop_1", "cities")


def test_doctor_names_a_server_that_can_not_be_reached(api2db: Command, tmp_path: Path) -> None:
    write_main(
        tmp_path,
        """
        from api2db import Collector, Stream2Sql
        place = dict(username="me", password="geheim", host="127.0.0.1", port="1")
        collectors = [Collector("cities", 1, lambda state: [], [Stream2Sql("cities", "db", "postgresql", **place)])]
        """,
    )
    ended = api2db("doctor", "--json")
    [target] = findings(ended, "target of cities")
    assert target["level"] == "error"
    assert "127.0.0.1" in target["what"]
    assert "geheim" not in ended.out + ended.error
