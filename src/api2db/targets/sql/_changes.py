"""How tables have changed: told in the log, and in a table of ours, with what only we know of how they were made."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from api2db.targets.port import ChangeOrigins, Column, SchemaChange, unknown_origin
from api2db.targets.sql._ledger import CHANGES_TABLE
from api2db.targets.sql.port import Database, Session

logger = logging.getLogger(__name__)
UNDECIDED = "undecided"


class Changes:
    """Those of one table.

    Attributes:
        origins: Which frames the next ones come from.
    """

    def __init__(self, database: Database, table: str) -> None:
        self._database = database
        self._table = table
        self.origins: ChangeOrigins = unknown_origin

    @property
    def _quoted(self) -> str:
        return self._database.table(CHANGES_TABLE)

    @contextmanager
    def recording(self) -> Iterator[list[SchemaChange]]:
        """Collects the changes of a transaction, and logs them once it has been committed."""
        changes: list[SchemaChange] = []
        yield changes
        for change in changes:
            logger.info("%s: %s", self._table, change.said)

    def record(
        self, session: Session, changes: list[SchemaChange], made: Sequence[tuple[str, str | None, str | None]]
    ) -> None:
        """Checkpoint changes: each column with its type before and after it."""
        for name, before, after in made:
            change = SchemaChange(name, before, after, self.origins(name))
            changes.append(change)
            session.run(
                f"INSERT INTO {self._quoted} (changed_at, table_name, column_name, old_type, new_type, frame_ns)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (_now(), self._table, name, before, after, change.origin.frame_ns),
            )

    def is_undecided(self, session: Session, column: Column) -> bool:
        """Whether we made a column of nothing but nulls."""
        made = f"SELECT count(*) FROM {self._quoted} WHERE table_name = ? AND column_name = ? AND new_type = ?"
        return session.rows(made, (self._table, column.name, UNDECIDED)) != [(0,)]

    def gone(self, session: Session) -> set[str]:
        """Columns of which it was said last that they are gone."""
        told = session.rows(
            f"SELECT column_name, new_type FROM {CHANGES_TABLE} WHERE table_name = ? ORDER BY frame_ns, changed_at",
            (self._table,),
        )
        return {name for name, now in dict(told).items() if now is None}

    def is_signed(self, session: Session, stream: str) -> bool:
        """Whether a stream has made the table."""
        made = f"SELECT count(*) FROM {self._quoted} WHERE table_name = ? AND column_name = '' AND new_type = ?"
        return session.rows(made, (self._table, _made_by(stream))) != [(0,)]

    def sign(self, session: Session, stream: str) -> None:
        """Say that a stream makes the table."""
        values = (_now(), self._table, "", _made_by(stream))
        session.run(
            f"INSERT INTO {self._quoted} (changed_at, table_name, column_name, new_type, frame_ns)"
            " VALUES (?, ?, ?, ?, 0)",
            values,
        )

    def take_back(self, session: Session, stream: str) -> None:
        """What ``sign`` said, where a CREATE TABLE that failed has committed what was before it."""
        with suppress(Exception):
            session.run(
                f"DELETE FROM {self._quoted} WHERE table_name = ? AND column_name = '' AND new_type = ?",
                (self._table, _made_by(stream)),
            )


def differences(old: Sequence[Column], new: Sequence[Column]) -> list[tuple[str, str | None, str | None]]:
    """The columns that are not as they were, each with its type before and after."""
    before, after = ({column.name: column.declared for column in columns} for columns in (old, new))
    return [
        (name, before.get(name), after.get(name))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    ]


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())


def _made_by(stream: str) -> str:
    return f"made by {stream}"
