"""A table of HeavyDB, formerly OmniSci: each call loads rows as one Arrow record batch.

There are no transactions. A load is all or nothing on a table without shards, and each load increases the table's
epoch. So epoch and row count before a load tell later whether it was carried out, once it no longer can be: first its
session is ended, so that the server refuses a call that it has not read yet; then a statement that needs the table for
itself waits for a load under way.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from api2db.errors import BatchRefusedError, TableChangedError, TargetError, TargetUnavailableError
from api2db.targets._evolve import (
    inexact_as_float,
    new_columns,
    placed,
    typed_columns,
    unplaced_names,
    wider_type,
)
from api2db.targets._newest import arrow_rows, found_column
from api2db.targets.heavydb._client import Protocol, RefusedByServerError, Session
from api2db.targets.heavydb._values import declared_type, empty_texts, encoded, is_not_null, rows_of, shaped
from api2db.targets.port import ChangeOrigins, Column, LoadPlan, SchemaChange, SchemaRule, SteppedTarget, unknown_origin
from api2db.targets.server import Server
from api2db.targets.types import HEAVYDB, ValueLimit, from_heavydb

logger = logging.getLogger(__name__)
SUFFIX = "_t"
_UNDECIDED = "TEXT ENCODING NONE"
_NO_COLUMN = "_api2db_none"
_NEW_COLUMN = "_api2db_new"
_LATER = re.compile(
    r"(out of|not enough|insufficient) (\w+ )?(memory|space)|no space|disk (is )?full|read[- ]only|timed out",
    re.IGNORECASE,
)
# Never a single word, which may be in the name of a table.
_FORBIDDEN = re.compile(r"(not have|violation of) (\w+ )?(access )?privilege|not authorized to", re.IGNORECASE)


class HeavydbTarget(SteppedTarget):
    """A table of a HeavyDB database, with one step a load.

    Args:
        server: The server and the database.
        table: The table's name; its columns are the frames' with the suffix ``_t``.
        schema: ``"evolve"``: columns are added and widened; ``"freeze"``: the table stays as it is.
        protocol: ``"binary"``, ``"http"`` or ``"https"``.
        timeout_s: How long one answer may take, seconds.
    """

    # By default Thrift accepts messages of up to 16 MB or 100 MB, depending on the server's language.
    largest_bytes = 12 << 20
    limits: Sequence[ValueLimit] = HEAVYDB.limits

    def __init__(
        self, server: Server, table: str, schema: SchemaRule, protocol: Protocol, timeout_s: float = 60
    ) -> None:
        self._session = Session(server, protocol, timeout_s)
        self._table = table
        self._schema = schema
        self._prepared: tuple[pa.Schema, Sequence[Column]] | None = None
        self._figures: tuple[int, int] | None = None
        self._refused: LoadPlan | None = None
        self.unplaced = {}
        self._unwidened: set[tuple[str, str]] = set()
        self._warned: set[str] = set()

    def connect(self) -> None:
        self._session.connect()

    def close(self) -> None:
        self._prepared = self._figures = None
        self._session.close()

    def columns(self) -> Sequence[Column] | None:
        try:
            details = self._session.ask("get_table_details", self._table)
        except RefusedByServerError as error:
            if self.fold(self._table) not in map(self.fold, self._session.ask("get_tables")):
                return None
            raise TargetUnavailableError(f"the table {self._table} can't be described: {error}") from None
        if details.shard_count:
            raise TargetUnavailableError(
                f"the table {self._table} has shards, and a load into those may be carried out in part; "
                "drop it, or name another one with table="
            )
        declared = [(column.col_name, declared_type(column)) for column in details.row_desc]
        return [Column(name, from_heavydb(type_), type_) for name, type_ in declared]

    def newest(self, count: int, by: str | None) -> pa.Table | None:
        columns = self.columns()
        if columns is None:
            return None
        named = {column.name.removesuffix(SUFFIX): column.name for column in columns}
        shown = [replace(column, name=name) for name, column in zip(named, columns, strict=True)]
        order = "rowid DESC"
        if by is not None:
            order = f"{quoted(named[found_column(by, shown, self.fold)])} DESC NULLS LAST"
        listed = ", ".join(map(quoted, named.values()))
        sql = f"SELECT {listed} FROM {quoted(self._table)} ORDER BY {order} LIMIT {count}"
        try:
            return arrow_rows(shown, rows_of(self._session.ask("sql_execute", sql, True, None, -1, -1).row_set))
        except RefusedByServerError as error:
            raise TargetUnavailableError(f"the table {self._table} can't be read: {error}") from None

    def prepare(self, schema: pa.Schema, origins: ChangeOrigins = unknown_origin) -> Sequence[Column]:
        if self._prepared is None or not self._prepared[0].equals(schema):
            self._prepared = schema, self._prepare(schema, origins)
        return self._prepared[1]

    def fold(self, name: str) -> str:
        return name.upper()

    def widen(self, column: Column, to: pa.DataType, origins: ChangeOrigins = unknown_origin) -> Column | None:
        if self._schema == "freeze":
            return None
        wider = self._wider(column, to)
        declared = None if wider is None else HEAVYDB.column(wider)
        if declared is None or declared == column.declared or (column.name, declared) in self._unwidened:
            return None
        self._prepared = None
        try:
            self._change_type(column, declared)
        except RefusedByServerError as error:
            self._unwidened.add((column.name, declared))
            raise BatchRefusedError(f"the server does not change its type to {declared}: {error}") from None
        self._log_change(column.name, column.declared, declared, origins)
        return Column(column.name, from_heavydb(declared), declared)

    def shape(self, rows: pa.Table, columns: Sequence[Column]) -> pa.Table:
        homes = {column.name.upper(): column for column in columns}
        names = [f"{name}{SUFFIX}" for name in rows.column_names]
        arrays = [
            shaped(values, homes[name.upper()]) if name.upper() in homes else values
            for name, values in zip(names, rows.columns, strict=True)
        ]
        return pa.table(arrays, names=names)

    def unsupported_rows(self, rows: pa.Table, columns: Sequence[Column]) -> Mapping[int, str]:
        reasons: dict[int, str] = {}
        for name in [column.name for column in columns if is_not_null(column) and column.name in rows.column_names]:
            for row in pc.indices_nonzero(rows.column(name).is_null()).to_pylist():
                reasons.setdefault(row, f"{name!r}: the column takes no NULL")
        for name in set(empty_texts(rows)) - self._warned:
            self._warned.add(name)
            logger.warning("%r has empty texts, which are NULL in HeavyDB", name)
        return reasons

    def plan(self, rows: pa.Table, columns: Sequence[Column]) -> LoadPlan:
        epoch = self._epoch()
        if self._figures is None or self._figures[0] != epoch:
            self._figures = epoch, self._count()
        return LoadPlan([rows.num_rows], {"epoch": epoch, "count": self._figures[1], "session": self._session.id})

    def append(self, plan: LoadPlan, rows: pa.Table, columns: Sequence[Column]) -> None:
        figures, self._figures = self._figures, None
        try:
            self._session.do("load_table_binary_arrow", self._table, encoded(rows, columns), True)
        except RefusedByServerError as error:
            self._refused = plan
            raise self._refusal(str(error), columns) from None
        except TargetError:
            self._prepared = None
            raise
        if figures is not None:
            self._figures = figures[0] + 1, figures[1] + rows.num_rows

    def rows_committed(self, plan: LoadPlan) -> int | None:
        refused, self._refused = self._refused, None
        if refused == plan:  # the server is not asked: others may have changed the table since
            return 0
        self._prepared = self._figures = None
        self._session.end(plan.details["session"])
        if self.columns() is None:
            return 0
        self._wait_for_loads()
        return _rows_since(plan, self._epoch() - plan.details["epoch"], self._count() - plan.details["count"])

    def _wait_for_loads(self) -> None:
        """Wait for a load under way: it keeps the table's columns as they are, so altering them waits for it.

        No such column exists, so nothing is altered. A user who may not alter the table may be refused without waiting.
        """
        try:
            self._session.execute(f"ALTER TABLE {quoted(self._table)} DROP COLUMN {quoted(_NO_COLUMN)}")
        except RefusedByServerError as error:
            if _FORBIDDEN.search(str(error)):
                raise TargetUnavailableError(
                    f"it is unknown whether a load into {self._table} is still in progress: {error}; grant ALTER on it"
                ) from None
            if _is_for_later(str(error)):
                raise TargetUnavailableError(f"{self._table} is busy: {error}") from None

    def _epoch(self) -> int:
        """This call raises no errors: a failure in the server looks like a broken connection, or is negative."""
        epoch = int(self._session.ask("get_table_epoch_by_name", self._table))
        if epoch < 0:
            raise TableChangedError(f"the table {self._table} has no epoch; it may be gone")
        return epoch

    def _count(self) -> int:
        try:
            return self._session.number(f"SELECT COUNT(*) FROM {quoted(self._table)}")
        except RefusedByServerError as error:
            raise TargetUnavailableError(f"the rows of {self._table} can't be counted: {error}") from None

    def _refusal(self, said: str, columns: Sequence[Column]) -> TargetError:
        """The meaning of a refused load: nothing was loaded."""
        self._prepared = None
        if self.columns() != list(columns):
            return TableChangedError(f"the table {self._table} was altered meanwhile; the batch is cast again")
        if _is_for_later(said):
            return TargetUnavailableError(f"{self._table} takes no rows now: {said}")
        return BatchRefusedError(said)

    def _prepare(self, schema: pa.Schema, origins: ChangeOrigins) -> Sequence[Column]:
        there = self.columns()
        known = {column.name.removesuffix(SUFFIX) for column in there or []}
        unplaced = unplaced_names(schema.names, known, quoted, self.fold)
        self.unplaced = {f"{name}{SUFFIX}": reason for name, reason in unplaced.items()}
        schema = pa.schema([field.with_name(f"{field.name}{SUFFIX}") for field in placed(schema, unplaced)])
        if there is None:
            self._create(schema)
        elif self._schema == "freeze" or not self._add(schema, there, origins):
            return there
        made = self.columns()
        if not made:
            raise TableChangedError(f"the table {self._table} was dropped as soon as it was created")
        return made

    def _create(self, schema: pa.Schema) -> None:
        """Columns of nulls are left for later; if there are no others, they get a type that can be changed later."""
        typed = typed_columns(schema, HEAVYDB.column) or [(name, _UNDECIDED) for name in schema.names]
        listed = ", ".join(f"{quoted(name)} {declared}" for name, declared in typed)
        try:
            self._session.execute(f"CREATE TABLE IF NOT EXISTS {quoted(self._table)} ({listed})")
        except RefusedByServerError as error:
            raise TargetUnavailableError(
                f"the table {self._table} can't be created: {error}; grant what is needed, or name another with table="
            ) from None

    def _add(self, schema: pa.Schema, there: Sequence[Column], origins: ChangeOrigins) -> bool:
        new = new_columns(schema, there, self.fold, HEAVYDB.column)
        for name, declared in new:
            try:
                self._session.execute(f"ALTER TABLE {quoted(self._table)} ADD COLUMN {quoted(name)} {declared}")
            except RefusedByServerError as error:
                kind = TargetUnavailableError if _is_for_later(str(error)) else BatchRefusedError
                raise kind(f"the column {name!r} can't be added: {error}") from None
            self._log_change(name, None, declared, origins)
        return bool(new)

    def _log_change(self, column: str, before: str | None, after: str, origins: ChangeOrigins) -> None:
        change = SchemaChange(column, before, after, origins(column.removesuffix(SUFFIX)))
        logger.info("%s: %s", self._table, change.said)

    def _wider(self, column: Column, to: pa.DataType) -> pa.DataType | None:
        name, table = quoted(column.name), quoted(self._table)

        def is_undecided() -> bool:
            is_empty = f"SELECT COUNT({name}) FROM {table}"
            return column.declared == _UNDECIDED and self._session.number(is_empty) == 0

        def is_exact_as_float() -> bool:
            return self._session.number(f"SELECT COUNT(*) FROM {table} WHERE {inexact_as_float(name)}") == 0

        wider = wider_type(column, to, is_undecided=is_undecided, is_exact_as_float=is_exact_as_float)
        if wider is None or wider == column.type:
            return None
        # Never from a number to text, which HeavyDB has instead of long decimals.
        becomes_text = from_heavydb(str(HEAVYDB.column(wider))) == pa.string()
        return None if becomes_text and not pa.types.is_string(column.type) else wider

    def _change_type(self, column: Column, declared: str) -> None:
        """A column without values is replaced, which any server can do; one with values is altered if possible."""
        name, table = quoted(column.name), quoted(self._table)
        if column.declared != _UNDECIDED:
            self._session.execute(f"ALTER TABLE {table} ALTER COLUMN {name} TYPE {declared}")
            return
        spare = quoted(_NEW_COLUMN)
        with suppress(RefusedByServerError):  # it only exists if this was interrupted before
            self._session.execute(f"ALTER TABLE {table} DROP COLUMN {spare}")
        self._session.execute(f"ALTER TABLE {table} ADD COLUMN {spare} {declared}")
        self._session.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
        self._session.execute(f"ALTER TABLE {table} RENAME COLUMN {spare} TO {name}")


def quoted(name: str) -> str:
    """A quoted name.

    Raises:
        BatchRefusedError: HeavyDB has no names with such characters.
    """
    if '"' in name or not name.isprintable():
        raise BatchRefusedError(f"HeavyDB allows no quotes and no control characters in names; rename {name!r}")
    return f'"{name}"'


def _rows_since(plan: LoadPlan, steps: int, more_rows: int) -> int | None:
    """How many rows of a load are committed, given how far epoch and row count have moved: a load is one step."""
    if not steps:
        return 0
    return more_rows if steps == 1 and more_rows in {0, plan.rows} else None


def _is_for_later(said: str) -> bool:
    return _LATER.search(said) is not None
