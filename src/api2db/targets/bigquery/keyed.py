"""BigQuery by key: rows go into a staged table, and from there by MERGE, in one transaction with the ledger.

The Write API is not used: for half an hour after a write, BigQuery cannot change the table within a transaction.
"""

import datetime
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from google.api_core import exceptions
from google.cloud import bigquery

from api2db.errors import BatchRefusedError, LedgerMovedError, TableChangedError, TargetUnavailableError
from api2db.targets.bigquery._client import CALL_S, TableLocation, answer_of, next_step, sorted_errors
from api2db.targets.bigquery._jobs import LoadJobs
from api2db.targets.bigquery.columns import field_of, in_table
from api2db.targets.bigquery.target import BigqueryTarget
from api2db.targets.port import (
    ChangeOrigins,
    Column,
    IfExists,
    LedgerRow,
    LedgerTarget,
    LedgerUpdate,
    SchemaRule,
    unknown_origin,
)
from api2db.targets.sql import LEDGER_TABLE, key_is_there
from api2db.targets.types import BIGQUERY, ValueLimit

_MOVED = "api2db: the ledger is not where this stream left it"
_THERE = "api2db: a row of the same key is there"
_ROWS_AT_FAULT = re.compile(
    r"\b(null|required|length|too long|out of range|not in range|overflow|at most one)\b", re.IGNORECASE
)
_UNEQUAL = re.compile(r"JSON|GEOGRAPHY|ARRAY<")  # source: "Equality" in GoogleSQL's data types
_STAGED_FOR = datetime.timedelta(hours=1)
_LEDGER = (
    ("stream", "STRING"),
    ("epoch", "STRING"),
    ("sequence", "INTEGER"),
    ("skip", "INTEGER"),
    ("loaded", "INTEGER"),
)
_STEP = (
    "UPDATE `{ledger}` SET epoch = @epoch, sequence = @sequence, skip = @skip, loaded = loaded + @loaded"
    " WHERE stream = @stream AND epoch = @old_epoch AND sequence = @old_sequence AND skip = @old_skip"
)
# Two concurrent INSERTs may both be committed; two MERGEs may not.
_FIRST_STEP = (
    "MERGE INTO `{ledger}` AS old USING (SELECT @stream AS stream) AS new ON old.stream = new.stream"
    " WHEN NOT MATCHED THEN INSERT (stream, epoch, sequence, skip, loaded)"
    " VALUES (@stream, @epoch, @sequence, @skip, @loaded)"
)


class BigqueryKeyedTarget(LedgerTarget):
    """A table of BigQuery whose rows are replaced by key.

    Args:
        place: The table, and the account that uses it.
        if_exists: ``"append"``, or ``"fail"``: refuse a table of others.
        schema: ``"evolve"``: columns are added and widened; ``"freeze"``: the table stays as it is.
        keys: A row replaces the one that has the same values in these columns.
    """

    limits: Sequence[ValueLimit] = BIGQUERY.limits

    def __init__(self, place: TableLocation, if_exists: IfExists, schema: SchemaRule, keys: Sequence[str]) -> None:
        self.keys = tuple(keys)
        self._place = place
        self._following = BigqueryTarget(place, if_exists, schema)
        self._ledger = f"{place.project}.{place.dataset}.{LEDGER_TABLE}_{place.table}"
        self._ready = False
        self.unplaced = {}

    def connect(self) -> None:
        self._following.connect()
        if not self._ready:
            fields = [field_of(name, type_) for name, type_ in _LEDGER]
            with sorted_errors(self._place, f"creating {self._ledger}"):
                table = bigquery.Table(self._ledger, schema=fields)
                self._rest.create_table(table, exists_ok=True, retry=None, timeout=CALL_S)
            self._ready = True

    def close(self) -> None:
        self._ready = False
        self._following.close()

    def read_position(self, stream: str) -> LedgerRow | None:
        # No lock is needed: a transaction of an earlier process that is still under way can no longer commit once ours
        # has moved the ledger, and the other way round.
        sql = f"SELECT epoch, sequence, skip FROM `{self._ledger}` WHERE stream = @stream"
        rows = self._run(sql, refusable=False, stream=stream)
        if not rows:  # the label marks a table that this stream created before a first load that failed
            self._following.acquire(stream)
        return LedgerRow(*rows[0]) if rows else None

    def newest(self, count: int, by: str | None) -> pa.Table | None:
        return self._following.newest(count, by)

    def columns(self) -> Sequence[Column] | None:
        return self._following.columns()

    def prepare(self, schema: pa.Schema, origins: ChangeOrigins = unknown_origin) -> Sequence[Column]:
        typed = _typed(schema)
        lacking = [key for key in self.keys if key.casefold() not in typed]
        if lacking and self.columns() is None:
            raise BatchRefusedError(f"no row has a value in {', '.join(lacking)}, which is part of the key")
        columns = self._following.prepare(schema, origins)
        self.keys, self.unplaced = in_table(self.keys, columns), self._following.unplaced
        for key in (column for column in columns if column.name in self.keys and _UNEQUAL.match(column.declared)):
            raise BatchRefusedError(
                f"the key {key.name!r} is {key.declared}, in which BigQuery compares no values; choose another key"
            )
        return columns

    def fold(self, name: str) -> str:
        return self._following.fold(name)

    def widen(self, column: Column, to: pa.DataType, origins: ChangeOrigins = unknown_origin) -> Column | None:
        return self._following.widen(column, to, origins)

    def load(self, rows: pa.Table, columns: Sequence[Column], update: LedgerUpdate) -> None:
        step = (_STEP if update.before else _FIRST_STEP).format(ledger=self._ledger)
        statements = [step, f"ASSERT @@row_count = 1 AS '{_MOVED}'"]
        with self._staged(rows, columns) as staged:
            merge = self._merge(rows, staged, only_new=update.only_new) if staged else []
            self._transact([*statements, *merge, "COMMIT TRANSACTION"], columns, **_values(update))

    def dry_run(self, rows: pa.Table, columns: Sequence[Column], *, only_new: bool = False) -> None:
        with self._staged(rows, columns) as staged:
            if staged:
                self._transact([*self._merge(rows, staged, only_new=only_new), "ROLLBACK TRANSACTION"], columns)

    @property
    def _rest(self) -> Any:
        return self._following.clients.rest

    @contextmanager
    def _staged(self, rows: pa.Table, columns: Sequence[Column]) -> Iterator[str | None]:
        """Load rows into a table of their own, which no late request of another load can touch; None for no rows."""
        if not rows.num_columns:
            yield None
            return
        name = f"{self._place.project}.{self._place.dataset}._api2db_staged_{uuid.uuid4().hex}"
        declared = {column.name: column.declared for column in columns}
        fields = [field_of(each, declared[each]) for each in rows.column_names]
        table = bigquery.Table(name, schema=fields)
        table.expires = datetime.datetime.now(datetime.UTC) + _STAGED_FOR
        with sorted_errors(self._place, f"creating {name}"):
            self._rest.create_table(table, retry=None, timeout=CALL_S)
        LoadJobs(self._following.clients).load(f"api2db_{uuid.uuid4().hex}", name, rows, fields, truncates=False)
        yield name
        with sorted_errors(self._place, f"dropping {name}"):
            self._rest.delete_table(name, not_found_ok=True, retry=None, timeout=CALL_S)

    def _merge(self, rows: pa.Table, staged: str, *, only_new: bool) -> list[str]:
        names = rows.column_names
        same = " AND ".join(f"old.`{key}` = new.`{key}`" for key in self.keys)
        sets = ", ".join(f"`{name}` = new.`{name}`" for name in names if name not in self.keys)
        listed = ", ".join(f"`{name}`" for name in names)
        values = ", ".join(f"new.`{name}`" for name in names)
        update = f" WHEN MATCHED THEN UPDATE SET {sets}" if sets and not only_new else ""
        insert = f" WHEN NOT MATCHED THEN INSERT ({listed}) VALUES ({values})"
        merge = f"MERGE INTO `{self._place.name}` AS old USING `{staged}` AS new ON {same}{update}{insert}"
        return [merge, f"ASSERT @@row_count = {rows.num_rows} AS '{_THERE}'"] if only_new else [merge]

    def _transact(self, statements: Sequence[str], columns: Sequence[Column], **values: Any) -> None:
        try:
            self._run(";\n".join(["BEGIN TRANSACTION", *statements]), **values)
        except BatchRefusedError as error:
            if _MOVED in str(error):
                raise LedgerMovedError("the ledger is not where this stream left it") from error
            if _THERE in str(error):
                raise BatchRefusedError(key_is_there(self._place.name, self.keys)) from error
            if self.columns() != list(columns):
                raise TableChangedError(f"the table {self._place.name} was altered meanwhile") from error
            if self._is_of_rows(error):
                raise
            raise TargetUnavailableError(str(error)) from error

    def _is_of_rows(self, error: BatchRefusedError) -> bool:
        """Whether an error is about rows. Names of tables are removed first, since they may contain any words."""
        said = re.sub(rf"\S*{re.escape(self._place.dataset)}\.\S*", "", str(getattr(error.__cause__, "message", error)))
        return "Transaction is aborted" not in said and _ROWS_AT_FAULT.search(said) is not None

    def _run(self, sql: str, *, refusable: bool = True, **values: Any) -> list[tuple[Any, ...]]:
        parameters = [
            bigquery.ScalarQueryParameter(name, "INT64" if isinstance(value, int) else "STRING", value)
            for name, value in values.items()
        ]
        config = bigquery.QueryJobConfig(query_parameters=parameters)
        with sorted_errors(self._place, f"writing to {self._place.name}", refusable=refusable):
            job = self._rest.query(sql, job_config=config, retry=None, job_retry=None, timeout=CALL_S)
            try:
                return answer_of(job)
            except exceptions.NotFound as error:
                said = f"a table was dropped meanwhile: {error.message}{next_step(self._place, error)}"
                raise TableChangedError(said) from error


def _typed(schema: pa.Schema) -> set[str]:
    return {field.name.casefold() for field in schema if not pa.types.is_null(field.type)}


def _values(update: LedgerUpdate) -> dict[str, Any]:
    after = update.after
    values = {
        "stream": update.stream, "epoch": after.epoch, "sequence": after.sequence, "skip": after.skip,
        "loaded": update.rows,
    }  # fmt: skip
    if update.before is None:
        return values
    before = update.before
    return {**values, "old_epoch": before.epoch, "old_sequence": before.sequence, "old_skip": before.skip}
