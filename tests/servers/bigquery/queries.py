"""Query jobs: as much of GoogleSQL as the tests need, run by DuckDB."""

import datetime
import decimal
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from tests.servers.bigquery.catalog import ApiError, Catalog, quote
from tests.servers.bigquery.kinds import is_repeated, kind

_NAME = re.compile(r"`([^`]+)`")
_PARAMETER = re.compile(r"(?<!@)@(\w+)")
_SET_TYPE = re.compile(r"ALTER TABLE `([^`]+)` ALTER COLUMN `([^`]+)` SET DATA TYPE (\w+)", re.IGNORECASE)
_RETYPE = re.compile(
    r"CREATE OR REPLACE TABLE `([^`]+)` \((.*?)\)(?: OPTIONS\(labels=\[(.*?)\]\))?"
    r" AS SELECT \* REPLACE \(CAST\(NULL AS (\w+)\) AS `([^`]+)`\) FROM `[^`]+`"
)
_COLUMN = re.compile(
    r"`(?P<name>[^`]+)` (?P<array>ARRAY<)?(?P<type>\w+)(?:\((?P<first>\d+)(?:, (?P<second>\d+))?\))?>?"
    r'(?P<required> NOT NULL)?(?: OPTIONS\(description=(?P<description>"(?:[^"\\]|\\.)*")\))?'
)
_LABEL = re.compile(r'\("([^"]*)", "([^"]*)"\)')
_MERGE = re.compile(
    r"MERGE INTO (`[^`]+`) AS old USING (`[^`]+`) AS new ON (.*?)(?: WHEN MATCHED THEN UPDATE SET (.*?))?"
    r" WHEN NOT MATCHED THEN INSERT (\(.*?\)) VALUES \((.*)\)"
)
_ASSERT = re.compile(r"ASSERT @@row_count = (\d+) AS '([^']*)'")
_KINDS: Sequence[tuple[type, str]] = (
    (bool, "BOOLEAN"),
    (int, "INTEGER"),
    (float, "FLOAT"),
    (decimal.Decimal, "NUMERIC"),
    (datetime.datetime, "TIMESTAMP"),
    (datetime.date, "DATE"),
    (bytes, "BYTES"),
)
_CASTS = {"INT64": int, "FLOAT64": float, "STRING": str, "BOOL": bool}


class Queries:
    """Runs statements and scripts."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def run(self, configuration: Mapping[str, Any]) -> dict[str, Any]:
        """Give ``schema`` and ``rows`` as REST has them; a transaction that the script leaves open is rolled back."""
        if configuration.get("useLegacySql", True):
            raise ApiError(400, "invalidQuery", "this server runs GoogleSQL only: useLegacySql must be false")
        values = {
            each["name"]: _value(each["parameterType"]["type"], each["parameterValue"].get("value"))
            for each in configuration.get("queryParameters", [])
        }
        with self._catalog.lock:
            try:
                return self._script(str(configuration["query"]), values)
            except duckdb.Error as error:
                raise ApiError(400, "invalidQuery", str(error)) from error
            finally:
                self._catalog.roll_back()

    def _script(self, script: str, values: Mapping[str, Any]) -> dict[str, Any]:
        changed, answer = 0, {"schema": {"fields": []}, "rows": []}
        for statement in (part.strip() for part in script.split(";\n")):
            asserted = _ASSERT.fullmatch(statement.rstrip(";"))
            if asserted and int(asserted[1]) != changed:
                raise ApiError(400, "invalidQuery", f"Query error: {asserted[2]}")
            if not asserted and statement:
                changed, answer = self._statement(statement.rstrip(";"), values)
        return answer

    def _statement(self, sql: str, values: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        nothing: dict[str, Any] = {"schema": {"fields": []}, "rows": []}
        if found := _SET_TYPE.fullmatch(sql):
            self._catalog.change_type(self._table(found[1]), found[2], found[3])
            return 0, nothing
        if found := _RETYPE.fullmatch(sql):
            self._retype(*found.groups())
            return 0, nothing
        if found := _MERGE.fullmatch(sql):
            return self._merge(found), nothing
        used = {name: values[name] for name in _PARAMETER.findall(sql) if name in values}
        cursor = self._catalog.database.execute(_PARAMETER.sub(r"$\1", _NAME.sub(self._quoted, sql)), used)
        names = [column[0] for column in cursor.description or ()]
        rows = cursor.fetchall()
        if sql.split(maxsplit=1)[0].upper() in {"INSERT", "UPDATE", "DELETE", "MERGE"}:
            return int(rows[0][0]), nothing
        return 0, _answer(names, rows)

    def _merge(self, found: re.Match[str]) -> int:
        """As two statements: DuckDB's own MERGE adds rows in an order that changes, and tests look at the order."""
        table, source, same, sets, names, values = found.groups()
        self._check_equality(table, same)
        changed = 0
        if sets:
            changed += self._statement(f"UPDATE {table} AS old SET {sets} FROM {source} AS new WHERE {same}", {})[0]
        absent = f"WHERE NOT EXISTS (SELECT 1 FROM {table} AS old WHERE {same}) ORDER BY new.rowid"
        return (
            changed
            + self._statement(f"INSERT INTO {table} {names} SELECT {values} FROM {source} AS new {absent}", {})[0]
        )

    def _check_equality(self, table: str, same: str) -> None:
        compared = set(re.findall(r"old\.`([^`]+)`", same))
        for field in (each for each in self._table(table.strip("`")).fields if each["name"] in compared):
            if kind(field) == "JSON" or is_repeated(field):
                name = "ARRAY" if is_repeated(field) else "JSON"
                raise ApiError(400, "invalidQuery", f"Equality is not defined for arguments of type {name} at [3:1]")

    def _quoted(self, found: re.Match[str]) -> str:
        parts = found[1].split(".")
        if len(parts) == 3:
            return str(self._table(found[1]).quoted)
        return quote(found[1])

    def _table(self, name: str) -> Any:
        project, dataset, table = name.split(".")
        if project != self._catalog.project:
            raise ApiError(404, "notFound", f"Not found: Project {project}")
        return self._catalog.table(dataset, table)

    def _retype(self, name: str, columns: str, labels: str | None, type_: str, column: str) -> None:
        """The table is another one: what the statement does not say of it, as labels and descriptions, is gone.

        A guess: streams into it end, as into one that was dropped.
        """
        table = self._table(name)
        rows = self._catalog.database.sql(f"SELECT * FROM {table.quoted}").to_arrow_table()
        fields = [_field(found) for found in _COLUMN.finditer(columns)]
        known = {each["name"]: (kind(each), is_repeated(each)) for each in table.fields}
        known[column] = kind({"type": type_}), False
        if known != {each["name"]: (kind(each), is_repeated(each)) for each in fields}:
            raise ApiError(400, "invalidQuery", "The columns of the query are not those of the table")
        self._catalog.replace_fields(table, fields)
        others = rows.drop_columns([column])
        if others.num_columns:
            self._catalog.insert(table, others)
        else:
            nulls = "NULL" + ", NULL" * (len(fields) - 1)
            for _ in range(rows.num_rows):
                self._catalog.database.execute(f"INSERT INTO {table.quoted} VALUES ({nulls})")
        table.labels = dict(_LABEL.findall(labels or ""))
        streams = self._catalog.streams
        self._catalog.streams = {key: each for key, each in streams.items() if each.table is not table}


def _field(found: re.Match[str]) -> dict[str, Any]:
    field: dict[str, Any] = {"name": found["name"], "type": found["type"]}
    if found["array"] or found["required"]:
        field["mode"] = "REPEATED" if found["array"] else "REQUIRED"
    if found["description"]:
        field["description"] = json.loads(found["description"])
    if found["first"] and found["type"].endswith("NUMERIC"):
        field.update(precision=found["first"], scale=found["second"] or "0")
    elif found["first"]:
        field["maxLength"] = found["first"]
    return field


def _value(type_: str, text: str | None) -> Any:
    return None if text is None else _CASTS[type_](text)


def _answer(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    fields = [
        {"name": name, "type": _kind([row[place] for row in rows]), "mode": "NULLABLE"}
        for place, name in enumerate(names)
    ]
    cells = [{"f": [{"v": _cell(value)} for value in row]} for row in rows]
    return {"schema": {"fields": fields}, "rows": cells}


def _kind(values: Sequence[Any]) -> str:
    value = next((each for each in values if each is not None), "")
    return next((name for type_, name in _KINDS if isinstance(value, type_)), "STRING")


def _cell(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.datetime):
        return str(round(value.replace(tzinfo=datetime.UTC).timestamp() * 1_000_000))
    return str(value)
