"""What the server holds: datasets, tables, write streams and jobs; their rows lie in DuckDB."""

import contextlib
import itertools
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from tests.servers.bigquery.kinds import (
    Field,
    duckdb_column,
    fault_of_schema,
    is_repeated,
    keepable,
    kind,
    row_faults,
    takes,
)

_WIDER = {
    "INTEGER": {"NUMERIC", "BIGNUMERIC", "FLOAT"},
    "NUMERIC": {"BIGNUMERIC", "FLOAT"},
    "DATE": {"DATETIME"},  # which it is coerced to, as "Conversion rules" says
}


class ApiError(Exception):
    """An error as the API answers it.

    Attributes:
        status: Of HTTP.
        reason: Google's word for it.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class MisfitError(Exception):
    """Rows that a table does not take.

    Attributes:
        extra: Whether it is for a column that the table has not.
        rows: The rows at fault, with the reason; empty where it is for all.
    """

    def __init__(self, message: str, *, extra: bool = False, rows: Mapping[int, str] | None = None) -> None:
        super().__init__(message)
        self.extra = extra
        self.rows = dict(rows or {})


@dataclass
class Table:
    dataset: str
    name: str
    fields: list[dict[str, Any]]
    labels: dict[str, str]
    made: str
    seen: list[dict[str, Any]] = field(default_factory=list)
    version: int = 1

    @property
    def quoted(self) -> str:
        return f"{quote(self.dataset)}.{quote(self.name)}"

    def known(self, name: str) -> Field | None:
        return next((each for each in self.fields if each["name"].lower() == name.lower()), None)


@dataclass
class WriteStream:
    table: Table
    rows: int = 0
    finalized: bool = False
    made_s: float = field(default_factory=time.time)


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class Catalog:
    """Everything of one project.

    Attributes:
        lock: Held by whoever changes anything.
        sees_changes: Whether the Write API sees changes of a schema at once; really it takes minutes.
    """

    def __init__(self, project: str) -> None:
        self.project = project
        self.lock = threading.RLock()
        self.database = duckdb.connect(":memory:")
        self.database.execute("SET TimeZone = 'UTC'")
        self.datasets: dict[str, dict[str, Any]] = {}
        self.tables: dict[tuple[str, str], Table] = {}
        self.streams: dict[str, WriteStream] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.sees_changes = True
        self._numbers = itertools.count(1)

    def number(self) -> int:
        return next(self._numbers)

    def clear(self) -> None:
        with self.lock:
            self.roll_back()
            for name in self.datasets:
                self.database.execute(f"DROP SCHEMA IF EXISTS {quote(name)} CASCADE")
            for held in (self.datasets, self.tables, self.streams, self.jobs):
                held.clear()
            self.sees_changes = True

    def roll_back(self) -> None:
        """End the transaction that is open, if there is one."""
        with self.lock, contextlib.suppress(duckdb.TransactionException):
            self.database.execute("ROLLBACK")

    def make_dataset(self, resource: Mapping[str, Any]) -> dict[str, Any]:
        name = str(resource["datasetReference"]["datasetId"])
        with self.lock:
            if name in self.datasets:
                raise ApiError(409, "duplicate", f"Already Exists: Dataset {self.project}:{name}")
            self.database.execute(f"CREATE SCHEMA {quote(name)}")
            self.datasets[name] = {"location": "US", **resource}
            return self.dataset(name)

    def dataset(self, name: str) -> dict[str, Any]:
        if name not in self.datasets:
            raise ApiError(404, "notFound", f"Not found: Dataset {self.project}:{name}")
        reference = {"projectId": self.project, "datasetId": name}
        return {**self.datasets[name], "datasetReference": reference, "id": f"{self.project}:{name}"}

    def make_table(self, dataset: str, resource: Mapping[str, Any]) -> Table:
        name = str(resource["tableReference"]["tableId"])
        fields = [{**each, "type": kind(each)} for each in resource.get("schema", {}).get("fields", [])]
        with self.lock:
            self.dataset(dataset)
            if (dataset, name) in self.tables:
                raise ApiError(409, "duplicate", f"Already Exists: Table {self.project}:{dataset}.{name}")
            if fault := fault_of_schema(fields):
                raise ApiError(400, "invalid", fault)
            table = Table(dataset, name, fields, dict(resource.get("labels", {})), str(self.number()))
            self.database.execute(f"CREATE TABLE {table.quoted} ({_declared(fields)})")
            self.tables[dataset, name] = table
            table.seen = list(fields)
            return table

    def table(self, dataset: str, name: str) -> Table:
        self.dataset(dataset)
        if (dataset, name) not in self.tables:
            raise ApiError(404, "notFound", f"Not found: Table {self.project}:{dataset}.{name}")
        return self.tables[dataset, name]

    def drop_table(self, dataset: str, name: str) -> None:
        with self.lock:
            table = self.table(dataset, name)
            self.database.execute(f"DROP TABLE {table.quoted}")
            del self.tables[dataset, name]
            self.streams = {key: each for key, each in self.streams.items() if each.table is not table}

    def change_fields(self, table: Table, fields: Sequence[Field]) -> None:
        """Add columns at the end, or relax them; anything else is refused, as by ``tables.patch``."""
        with self.lock:
            place = f"{self.project}:{table.dataset}.{table.name}"
            for old, new in zip(table.fields, fields, strict=False):
                if old["name"] != new["name"]:
                    message = (
                        f"Provided Schema does not match Table {place}. Field {old['name']} is missing in new schema"
                    )
                    raise ApiError(400, "invalid", message)
                if kind(old) != kind(new) or is_repeated(old) != is_repeated(new):
                    message = f"Provided Schema does not match Table {place}. Field {old['name']} has changed type"
                    raise ApiError(400, "invalid", message)
            if len(fields) < len(table.fields):
                raise ApiError(400, "invalid", f"Provided Schema does not match Table {place}. Fields are missing")
            added = [dict(each) for each in fields[len(table.fields) :]]
            if any(each.get("mode") == "REQUIRED" for each in added):
                raise ApiError(400, "invalid", "Cannot add required fields to an existing schema")
            if fault := fault_of_schema(fields):
                raise ApiError(400, "invalid", fault)
            for each in added:
                self.database.execute(
                    f"ALTER TABLE {table.quoted} ADD COLUMN {quote(each['name'])} {duckdb_column(each)}"
                )
            self._changed(table, [{**each, "type": kind(each)} for each in fields])

    def change_type(self, table: Table, name: str, new: str) -> None:
        """``ALTER COLUMN SET DATA TYPE``: only to what holds every value of the old type."""
        with self.lock:
            field = table.known(name)
            wanted = kind({"type": new})
            if field is None or wanted not in _WIDER.get(kind(field), set()):
                raise ApiError(
                    400, "invalidQuery", f"ALTER TABLE ALTER COLUMN SET DATA TYPE is not allowed: {name}, {new}"
                )
            fields = [{**each, "type": wanted} if each is field else each for each in table.fields]
            changed = duckdb_column({**field, "type": wanted})
            self.database.execute(
                f"ALTER TABLE {table.quoted} ALTER COLUMN {quote(field['name'])} SET DATA TYPE {changed}"
            )
            self._changed(table, fields)

    def replace_fields(self, table: Table, fields: Sequence[Field]) -> None:
        """The table anew and empty, as WRITE_TRUNCATE with a schema and CREATE OR REPLACE TABLE do."""
        if fault := fault_of_schema(fields):
            raise ApiError(400, "invalid", fault)
        self.database.execute(f"CREATE OR REPLACE TABLE {table.quoted} ({_declared(fields)})")
        self._changed(table, [{**each, "type": kind(each)} for each in fields])

    def let_changes_be_seen(self) -> None:
        """The Write API has learnt of all changes of schemas, and tells of further ones at once."""
        with self.lock:
            self.sees_changes = True
            for table in self.tables.values():
                table.seen = list(table.fields)

    def new_stream(self, table: Table) -> str:
        with self.lock:
            path = f"projects/{self.project}/datasets/{table.dataset}/tables/{table.name}"
            name = f"{path}/streams/Cic{self.number():08}"
            self.streams[name] = WriteStream(table)
            return name

    def check(self, fields: Sequence[Field], rows: pa.Table) -> None:
        """See whether a table of these columns takes rows.

        Raises:
            MisfitError: It does not.
        """
        known = {each["name"].lower(): each for each in fields}
        bad: dict[int, str] = {}
        for name, column in zip(rows.column_names, rows.columns, strict=True):
            each = known.get(name.lower())
            if each is None:
                raise MisfitError(
                    f"Input schema has more fields than BigQuery schema, extra fields: '{name}'", extra=True
                )
            if not takes(each, column.type):
                raise MisfitError(f"Field {name}: Arrow type {column.type} is incompatible with {each['type']}")
            for row, reason in row_faults(each, column.combine_chunks()).items():
                bad.setdefault(row, reason)
        lacking = [each["name"] for each in fields if each.get("mode") == "REQUIRED" and each["name"].lower() not in
                   {name.lower() for name in rows.column_names}]  # fmt: skip
        for name in lacking:
            bad.update(dict.fromkeys(range(rows.num_rows), f"Field {name}: Missing required field"))
        if bad:
            raise MisfitError(
                "Errors found while processing rows. Please refer to the row_errors field for details.", rows=bad
            )

    def insert(self, table: Table, rows: pa.Table) -> None:
        names = ", ".join(quote(name) for name in rows.column_names)
        keep = keepable(rows)
        with self.lock:
            self.database.register("_arriving", keep)
            try:
                self.database.execute(f"INSERT INTO {table.quoted} ({names}) SELECT * FROM _arriving")
            finally:
                self.database.unregister("_arriving")

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """DuckDB's own answer, for tests."""
        with self.lock:
            return self.database.execute(sql).fetchall()

    def _changed(self, table: Table, fields: list[dict[str, Any]]) -> None:
        table.fields = fields
        table.version += 1
        if self.sees_changes:
            table.seen = list(fields)


def _declared(fields: Sequence[Field]) -> str:
    rules = [" NOT NULL" if each.get("mode") == "REQUIRED" else "" for each in fields]
    return ", ".join(
        f"{quote(str(each['name']))} {duckdb_column(each)}{rule}" for each, rule in zip(fields, rules, strict=True)
    )
