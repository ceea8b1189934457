"""The ledger of a SQL database: how far each stream has come, in a table beside those that it fills."""

import time
from typing import Any

from api2db.errors import LedgerMovedError, TargetUnavailableError
from api2db.targets.port import LedgerRow, LedgerUpdate
from api2db.targets.sql.port import Database, Session

LEDGER_TABLE = "_api2db_ledger"
CHANGES_TABLE = "_api2db_schema_changes"
_MAKING_TRIES, _MAKING_PAUSE_S = 8, 0.02
_OURS = {
    LEDGER_TABLE: (
        "stream VARCHAR(64) NOT NULL PRIMARY KEY",
        "epoch VARCHAR(64) NOT NULL",
        "sequence BIGINT NOT NULL",
        "skip BIGINT NOT NULL",
        "loaded BIGINT NOT NULL",
    ),
    CHANGES_TABLE: (
        "changed_at VARCHAR(32) NOT NULL",
        "table_name VARCHAR(255) NOT NULL",
        "column_name VARCHAR(255) NOT NULL",
        "old_type VARCHAR(255)",
        "new_type VARCHAR(255)",
        "frame_ns BIGINT NOT NULL",
    ),
}


class Ledger:
    """All streams' rows in one database, each read and stepped in a transaction of its stream."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, session: Session, stream: str) -> LedgerRow | None:
        """Read under a lock: a commit of ours that the server still holds has ended first."""
        select = f"SELECT epoch, sequence, skip FROM {self._quoted} WHERE stream = ?"
        rows = session.rows(self._database.select_for_update(select), (stream,))
        return LedgerRow(*rows[0]) if rows else None

    def step(self, session: Session, update: LedgerUpdate) -> None:
        """Compare and set, as the transaction's first statement: it locks the row until the commit.

        Raises:
            LedgerMovedError: Another has stepped it meanwhile.
        """
        epoch, sequence, skip = update.after
        if update.before is None:
            insert = f"INSERT INTO {self._quoted} VALUES (?, ?, ?, ?, ?)"
            values: tuple[Any, ...] = (update.stream, epoch, sequence, skip, update.rows)
            changed = session.run(self._database.insert_ignore(insert), values)
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
        return self._database.table(LEDGER_TABLE)

    def make(self) -> None:
        """Make our tables; other streams may be at just that, each of which may win once."""
        for left in reversed(range(_MAKING_TRIES)):
            try:
                with self._database.transaction() as session:
                    _make_tables(session, self._database)
            except TargetUnavailableError:
                if not left:
                    raise
                time.sleep(_MAKING_PAUSE_S)
            else:
                return


def _make_tables(session: Session, database: Database) -> None:
    """Those that are there are left alone: to make tables may not be ours."""
    for table, columns in _OURS.items():
        if session.columns(table) is None:
            session.run(database.create_table(f"IF NOT EXISTS {database.table(table)}", columns))
