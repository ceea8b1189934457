"""A table of BigQuery: its columns, how it follows the data, and the record of its changes."""

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
from google.api_core import exceptions
from google.cloud import bigquery

from api2db.errors import TargetError, TargetUnavailableError
from api2db.targets._evolve import inexact_as_float, wider_type
from api2db.targets._newest import arrow_rows, found_column
from api2db.targets.bigquery._client import CALL_S, Clients, TableLocation, answer_of, sorted_errors
from api2db.targets.bigquery.columns import (
    UNDECIDED,
    column_in_sql,
    column_of,
    field_of,
    name_in_sql,
    text_in_sql,
    type_in_sql,
)
from api2db.targets.port import Column, NoOrderError, SchemaChange
from api2db.targets.sql import CHANGES_TABLE
from api2db.targets.types import BIGQUERY, from_bigquery

logger = logging.getLogger(__name__)
_CHANGES = dict.fromkeys(("changed_at", "table_name", "column_name", "old_type", "new_type"), "STRING")
_CHANGES["frame_ns"] = "INT64"


def load_dataset(clients: Clients) -> Any:
    """Create the data set, or load it if it exists already or this account may not create one."""
    place = clients.place
    wanted = bigquery.Dataset(f"{place.project}.{place.dataset}")
    wanted.location = place.location
    with sorted_errors(place, f"creating the data set {place.dataset}"):
        try:
            return clients.rest.create_dataset(wanted, retry=None, timeout=CALL_S)
        except exceptions.Conflict:
            return clients.rest.get_dataset(wanted.reference, retry=None, timeout=CALL_S)
        except exceptions.Forbidden:
            try:
                return clients.rest.get_dataset(wanted.reference, retry=None, timeout=CALL_S)
            except exceptions.NotFound:
                logger.warning("the data set %s is missing", place.dataset)
            raise


class Table:
    """One table, by REST and by query jobs.

    Args:
        clients: Google's clients.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._place: TableLocation = clients.place
        self._reference = bigquery.TableReference.from_string(self._place.name)

    def resource(self) -> Any:
        """The table as it is now; None if there is none in the data set.

        Raises:
            TargetUnavailableError: Also if the data set is missing.
        """
        with sorted_errors(self._place, f"reading {self._place.name}"):
            try:
                return self._clients.rest.get_table(self._reference, retry=None, timeout=CALL_S)
            except exceptions.NotFound:  # the reason is the same for a missing table, data set or project
                self._clients.rest.get_dataset(self._place.dataset, retry=None, timeout=CALL_S)
                return None

    def columns(self) -> list[Column] | None:
        """Its columns in their order; None if there is no table."""
        resource = self.resource()
        return None if resource is None else [column_of(field) for field in resource.schema]

    def create(self, fields: Sequence[bigquery.SchemaField], labels: dict[str, str]) -> list[Column]:
        """Create it; if somebody else has done so meanwhile, that table is used."""
        table = bigquery.Table(self._reference, schema=list(fields))
        table.labels = labels
        with sorted_errors(self._place, f"creating {self._place.name}", refusable=True):
            try:
                made = self._clients.rest.create_table(table, retry=None, timeout=CALL_S)
            except exceptions.Conflict:
                made = self._clients.rest.get_table(self._reference, retry=None, timeout=CALL_S)
        return [column_of(field) for field in made.schema]

    def add(self, fields: Iterable[bigquery.SchemaField]) -> list[Column]:
        """Add columns at the end; if somebody has altered the table meanwhile, this raises and is tried again later."""
        with sorted_errors(self._place, f"adding columns to {self._place.name}", refusable=True):
            table = self._clients.rest.get_table(self._reference, retry=None, timeout=CALL_S)
            known = {field.name.lower() for field in table.schema}
            table.schema = [*table.schema, *(field for field in fields if field.name.lower() not in known)]
            changed = self._clients.rest.update_table(table, ["schema"], retry=None, timeout=CALL_S)
        return [column_of(field) for field in changed.schema]

    def wider(self, column: Column, to: pa.DataType) -> Column | None:
        """The column with a type that also holds another type's values; None if no type does."""
        if pa.types.is_null(column.type):  # not created by us; BigQuery would refuse each attempt and bill for it
            return None
        wider = wider_type(
            column,
            to,
            is_undecided=lambda: self.is_undecided(column),
            is_exact_as_float=lambda: self._is_exact_as_float(column),
        )
        declared = None if wider is None else BIGQUERY.column(wider)
        return None if declared in {None, column.declared} else Column(column.name, from_bigquery(declared), declared)

    def change_type(self, column: Column, wider: Column) -> Column:
        """Change a column's type to that of ``wider``."""
        decided = field_of(column.name, wider.declared)
        name, type_ = name_in_sql(column.name), type_in_sql(decided)
        if self.is_undecided(column):
            self._decide(decided)
        else:
            self.run(f"ALTER TABLE `{self._place.name}` ALTER COLUMN {name} SET DATA TYPE {type_}")
        found = next((each for each in self.columns() or () if each.name == column.name), column)
        return wider if found.declared == wider.declared else found

    def is_undecided(self, column: Column) -> bool:
        """Whether the column was created for nothing but nulls, and has no value yet."""
        resource = self.resource()
        field = next((each for each in resource.schema if each.name == column.name), None) if resource else None
        if field is None or field.description != UNDECIDED:
            return False
        return self.run(f"SELECT COUNT({name_in_sql(column.name)}) AS n FROM `{self._place.name}`") == [(0,)]

    def newest(self, count: int, by: str | None) -> pa.Table | None:
        """See ``ReadableTarget``."""
        try:
            columns = self.columns()
        except TargetUnavailableError as error:
            if isinstance(error.__cause__, exceptions.NotFound):
                return None
            raise
        if columns is None:
            return None
        if by is None:
            raise NoOrderError(self._place.name)
        names = ", ".join(name_in_sql(column.name) for column in columns)
        order = name_in_sql(found_column(by, columns, str.casefold))
        sql = f"SELECT {names} FROM `{self._place.name}` ORDER BY {order} DESC LIMIT {count}"
        with sorted_errors(self._place, f"reading {self._place.name}"):
            return arrow_rows(
                columns, answer_of(self._clients.rest.query(sql, retry=None, job_retry=None, timeout=CALL_S))
            )

    def run(self, sql: str) -> list[tuple[object, ...]]:
        """Run a query job to its end."""
        with sorted_errors(self._place, f"altering {self._place.name}", refusable=True):
            job = self._clients.rest.query(sql, retry=None, job_retry=None, timeout=CALL_S)
            return answer_of(job)

    def _decide(self, decided: bigquery.SchemaField) -> None:
        """Give a column of nothing but nulls a type, by one statement that leaves nothing to do afterwards.

        Labels and the descriptions of other columns are repeated, because the old table's would be lost.
        """
        resource = self.resource()
        if resource is None:
            return
        columns = ", ".join(column_in_sql(decided if each.name == decided.name else each) for each in resource.schema)
        labels = ", ".join(f"({text_in_sql(name)}, {text_in_sql(value)})" for name, value in resource.labels.items())
        options = f" OPTIONS(labels=[{labels}])" if labels else ""
        name, table = name_in_sql(decided.name), f"`{self._place.name}`"
        query = f"SELECT * REPLACE (CAST(NULL AS {type_in_sql(decided)}) AS {name}) FROM {table}"
        self.run(f"CREATE OR REPLACE TABLE {table} ({columns}){options} AS {query}")

    def _is_exact_as_float(self, column: Column) -> bool:
        condition = inexact_as_float(name_in_sql(column.name))
        return self.run(f"SELECT COUNT(*) AS n FROM `{self._place.name}` WHERE {condition}") == [(0,)]


def record(clients: Clients, changes: Sequence[SchemaChange]) -> None:
    """Log changes, and add a row for each. They have been made, so a failure is only logged."""
    for change in changes:
        logger.info("%s: %s", clients.place.table, change.said)
    try:
        _add_changes(clients, changes)
    except TargetError as error:
        logger.warning("%d changes of %s are not recorded: %s", len(changes), clients.place.name, error)


def _add_changes(clients: Clients, changes: Sequence[SchemaChange]) -> None:
    place = clients.place
    name = f"{place.project}.{place.dataset}.{CHANGES_TABLE}"
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    rows = [(now, place.table, each.column, each.before, each.after, each.origin.frame_ns) for each in changes]
    values = ", ".join(f"({', '.join(f'@{column}_{row}' for column in _CHANGES)})" for row in range(len(rows)))
    parameters = [
        bigquery.ScalarQueryParameter(f"{column}_{row}", type_, value)
        for row, cells in enumerate(rows)
        for (column, type_), value in zip(_CHANGES.items(), cells, strict=True)
    ]
    table = bigquery.Table(name, schema=[bigquery.SchemaField(*column) for column in _CHANGES.items()])
    with sorted_errors(place, f"writing to {name}"):
        clients.rest.create_table(table, exists_ok=True, retry=None, timeout=CALL_S)
        job = clients.rest.query(
            f"INSERT INTO `{name}` ({', '.join(_CHANGES)}) VALUES {values}",
            job_config=bigquery.QueryJobConfig(query_parameters=parameters),
            retry=None,
            job_retry=None,
            timeout=CALL_S,
        )
        answer_of(job)
