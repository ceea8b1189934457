"""Names of tables and columns are kept exactly, or refused with a reason: never cut, and never mixed up."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api2db.errors import ConfigurationError
from tests.stream.cases import rejected_rows
from tests.stream.databases import SERVERS, execute, query, running, stream_into, types, use

CANARY = "CREATE TABLE canary (id BIGINT)"
ODD = "\"`'%?()[]{}\\;:@$,./ \t\néß😀İ-_aA1"
WORDS = [
    "select",
    "TABLE",
    "user",
    "id",
    "%s",
    "%(id)s",
    "?",
    "--",
    "/*",
    "*/",
    "a.b",
    "ID",
    "Id",
    "new",
    "old",
    "x" * 63,
]
NAMES = st.one_of(
    st.sampled_from(
        [*WORDS, "x" * 64, "x" * 65, "é" * 31, "é" * 32, "é" * 64, "", " ", "a ", "nul\0", '"; DROP TABLE canary; --']
    ),
    st.text(ODD, min_size=1, max_size=12),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
)
EXAMPLES = [12, pytest.param(200, marks=[pytest.mark.torture, pytest.mark.timeout(1800)])]


@pytest.fixture(params=SERVERS)
def dialect(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    use(str(request.param), request)
    execute(tmp_path, str(request.param), CANARY, "INSERT INTO canary VALUES (1)")
    return str(request.param)


def delivered(dialect: str, frame: dict[str, list[Any]], **options: Any) -> tuple[int, list[dict[str, Any]]]:
    """Return how many rows were loaded, and the rejected ones."""
    home = Path(tempfile.mkdtemp())
    try:
        with stream_into(dialect, home, **options) as stream:
            stream.stream(pd.DataFrame(frame))
        return stream.status().rows_delivered, rejected_rows(home, f"sql.{dialect}")
    finally:
        shutil.rmtree(home)


def of_so_many(examples: int) -> settings:
    return settings(max_examples=examples)


def listed(dialect: str, table: str) -> list[str]:
    return list(types(Path(), dialect, table))


def drop(dialect: str, table: str) -> None:
    execute(Path(), dialect, f"DROP TABLE IF EXISTS {running(dialect).engine.quote(table)}")


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.filterwarnings("ignore")
def test_a_column_s_name_is_there_to_the_letter_or_its_rows_are_rejected(dialect: str, examples: int) -> None:
    @of_so_many(examples)
    @given(names=st.lists(NAMES, min_size=1, max_size=3, unique=True))
    @example(names=["%s", "?", "a%b?"])
    @example(names=["x" * 63, "x" * 64])
    @example(names=["ß", "ss"])
    @example(names=["İ", "i"])
    def check(names: list[str]) -> None:
        drop(dialect, "flights")
        there, rejected = delivered(dialect, {name: [number] for number, name in enumerate(names)})
        if there:
            assert rejected == []
            assert listed(dialect, "flights") == names
            assert query(Path(), dialect, "SELECT * FROM flights") == [tuple(range(len(names)))]
        else:
            [row] = rejected
            assert row["_api2db_reason"]
            assert [name for name in listed(dialect, "flights") if name not in names] == []
        assert query(Path(), dialect, "SELECT id FROM canary") == [(1,)]

    check()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_a_table_s_name_is_there_to_the_letter_or_refused_at_once(dialect: str, examples: int) -> None:
    @of_so_many(examples)
    @given(name=NAMES.filter(lambda name: name.lower() not in {"canary", "flights"}))
    @example(name="x" * 64)
    @example(name="é" * 32)
    @example(name="a%s?")
    def check(name: str) -> None:
        try:
            there, rejected = delivered(dialect, {"id": [7]}, table=name or None)
        except ConfigurationError:
            return
        name = name or "flights"
        assert (there, rejected) == (1, [])
        quoted = running(dialect).engine.quote(name).replace("`", '"') if "`" not in name else None
        if quoted and dialect == "postgresql":
            assert query(Path(), dialect, f"SELECT id FROM {quoted}") == [(7,)]
        drop(dialect, name)
        assert query(Path(), dialect, "SELECT id FROM canary") == [(1,)]

    check()


@pytest.mark.parametrize("name", ["odd \"`'%s?;名", "Case", "case", "%", "x" * 63])
def test_a_database_s_name_is_there_to_the_letter(dialect: str, name: str) -> None:
    server = running(dialect)
    assert delivered(dialect, {"id": [7]}, db_name=name) == (1, [])
    catalogue = "SELECT datname FROM pg_database" if dialect == "postgresql" else "SHOW DATABASES"
    assert name in [found for (found,) in server.execute(catalogue)]
    server.execute(f"DROP DATABASE {server.engine.quote(name)}")
    assert query(Path(), dialect, "SELECT id FROM canary") == [(1,)]


@pytest.mark.parametrize("what", ["db_name", "table"])
@pytest.mark.parametrize("name", ["x" * 65, "a\0b"])
def test_a_name_that_the_server_would_cut_off_is_refused_at_once(dialect: str, what: str, name: str) -> None:
    with pytest.raises(ConfigurationError, match=what):
        stream_into(dialect, Path("nowhere"), **{what: name})


@pytest.mark.parametrize("dialect", ["mariadb", "mysql"], indirect=True)
@pytest.mark.parametrize("what", ["db_name", "table"])
@pytest.mark.parametrize("end", " \t\n\v\f\r")
def test_a_name_that_ends_in_a_space_of_whatever_kind_is_refused_at_once(dialect: str, what: str, end: str) -> None:
    with pytest.raises(ConfigurationError, match=what):
        stream_into(dialect, Path("nowhere"), **{what: f"a{end}"})


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
def test_a_table_of_63_letters_never_takes_what_is_for_one_of_64(dialect: str) -> None:
    execute(Path(), dialect, f"CREATE TABLE {'x' * 63} (id BIGINT)", f"CREATE TABLE flights ({'y' * 63} BIGINT)")
    with pytest.raises(ConfigurationError, match="63 bytes"):
        stream_into(dialect, Path("nowhere"), table="x" * 64)
    there, [row] = delivered(dialect, {"y" * 64: [1]})
    assert (there, "63 bytes" in row["_api2db_reason"]) == (0, True)


def test_a_row_with_odd_names_goes_by_key_too(dialect: str) -> None:
    names = ["%s ?", 'a"b', "a`b", "select"]
    for number in (1, 2):
        assert delivered(dialect, {name: [7, number] for name in names}, keys=["%s ?"], table="t%s?")[1] == []
    assert listed(dialect, "t%s?") == names
