"""The ledger of a SQL database: the table of the position up to which each stream has been committed."""

import time
from typing import Any

from api2db.errors import LedgerMovedError, TargetUnavailableError
from api2db.targets.port import LedgerRow, LedgerUpdate
from api2db.targets.sql.port import Database, DryRunEndedError, Session

LEDGER_TABLE = "_api2db_ledger"
CHANGES_TABLE = "_api2db_schema_changes"
NOTES_TABLE = "_api2db_columns"
_CREATE_TRIES = 8
_CREATE_PAUSE_S = 0.02
_OURS = {
    # First, because the columns of every other table are read with their notes.
    NOTES_TABLE: (
        ("table_name", "VARCHAR(255)", "NOT NULL"),
        ("column_name", "VARCHAR(255)", "NOT NULL"),
        ("declared", "VARCHAR(255)", "NOT NULL"),
    ),
    LEDGER_TABLE: (
        ("stream", "VARCHAR(64)", "NOT NULL PRIMARY KEY"),
        ("epoch", "VARCHAR(64)", "NOT NULL"),
        ("sequence", "BIGINT", "NOT NULL"),
        ("skip", "BIGINT", "NOT NULL"),
        ("loaded", "BIGINT", "NOT NULL"),
    ),
    CHANGES_TABLE: (
        ("changed_at", "VARCHAR(32)", "NOT NULL"),
        ("table_name", "VARCHAR(255)", "NOT NULL"),
        ("column_name", "VARCHAR(255)", "NOT NULL"),
        ("old_type", "VARCHAR(255)", ""),
        ("new_type", "VARCHAR(255)", ""),
        ("frame_ns", "BIGINT", "NOT NULL"),
    ),
}


class Ledger:
    """The rows of all streams in one database; each is read and updated in a transaction of its stream."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, session: Session, stream: str) -> LedgerRow | None:
        """Read a row under a lock, so that a commit of ours that the server still holds ends first."""
        dialect = self._database.dialect
        if dialect.locks_by_update:
            session.run(f"UPDATE {self._quoted} SET loaded = loaded WHERE stream = ?", (stream,))
        select = f"SELECT epoch, sequence, skip FROM {self._quoted}{dialect.lock_hint} WHERE stream = ?"
        rows = session.rows(f"{select}{dialect.locking}", (stream,))
        return LedgerRow(*rows[0]) if rows else None

    def require_unwritten(self, stream: str) -> None:
        """Wait for a commit of a stream's first row that the server still holds: no SELECT sees or waits for that row.

        Raises:
            LedgerMovedError: There is a row now.
        """
        dialect = self._database.dialect
        if not (dialect.locking or dialect.lock_hint or dialect.locks_by_update):  # our process has the file to itself
            return
        try:
            with self._database.transaction() as session:
                self.step(session, LedgerUpdate(stream, None, LedgerRow("-", 0, 0)))
                raise DryRunEndedError
        except DryRunEndedError:
            return

    def step(self, session: Session, update: LedgerUpdate) -> None:
        """Compare and set, as the transaction's first statement, which locks the row until the commit.

        Raises:
            LedgerMovedError: Another writer has updated the row meanwhile.
        """
        epoch, sequence, skip = update.after
        if update.before is None:
            insert = f"INSERT INTO {self._quoted} VALUES (?, ?, ?, ?, ?)"
            values: tuple[Any, ...] = (update.stream, epoch, sequence, skip, update.rows)
            changed = session.run(self._database.dialect.insert_ignore(insert), values)
        else:
            changed = session.run(
                f"UPDATE {self._quoted} SET epoch = ?, sequence = ?, skip = ?, loaded = loaded + ?"
                " WHERE stream = ? AND epoch = ? AND sequence = ? AND skip = ?",
                (epoch, sequence, skip, update.rows, update.stream, *update.before),
            )
        if changed != 1:
            raise LedgerMovedError("the ledger is not where this stream left it")

    @property
    def _quoted(self) -> str:
        return self._database.dialect.table(LEDGER_TABLE)

    def make(self) -> None:
        """Create our tables; other streams may do so at the same time, so that a try may fail once for each."""
        for left in reversed(range(_CREATE_TRIES)):
            try:
                with self._database.transaction() as session:
                    _make_tables(session, self._database)
            except TargetUnavailableError:
                if not left:
                    raise
                time.sleep(_CREATE_PAUSE_S)  # no database tells of the end of another's CREATE TABLE
            else:
                return


def _make_tables(session: Session, database: Database) -> None:
    """Existing tables are left alone: this user may not have the right to create tables."""
    dialect = database.dialect
    for table, parts in _OURS.items():
        if table == NOTES_TABLE and not dialect.has_notes:
            continue
        if session.columns(table) is None:
            columns = [f"{name} {dialect.own_type(type_)} {rest}".rstrip() for name, type_, rest in parts]
            session.run(dialect.create_table(f"IF NOT EXISTS {dialect.table(table)}", columns, ()))
