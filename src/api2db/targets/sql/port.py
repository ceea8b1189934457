"""What a SQL database has of its own: the ports behind ``SqlTarget``."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import pyarrow as pa

from api2db.targets.port import Column
from api2db.targets.types import Types


class TrialEndedError(Exception):
    """Ends a transaction that was only a trial."""


class Session(Protocol):
    """One open transaction."""

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run a statement, and say how many rows it changed."""

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a query."""

    def columns(self, table: str) -> list[Column] | None:
        """The columns of a table in their order; None where there is none."""

    def require_transactions(self, *tables: str) -> None:
        """See that a rollback undoes what is written into tables, where they are there.

        Raises:
            TargetUnavailableError: It would not, for one of them; the message says what to do.
        """

    def lock_columns(self, table: str) -> list[Column] | None:
        """The columns of a table, which nobody alters until the transaction ends; None where there is none."""

    def insert(self, table: str, rows: pa.Table, columns: Mapping[str, Column]) -> int:
        """Load rows by the database's bulk path, and say how many went in."""

    def may_drop(self, table: str) -> bool:
        """Whether a trigger, a rule or a policy of a table may leave a row out of an UPDATE without a word."""

    def stage(
        self, table: str, rows: pa.Table, columns: Mapping[str, Column], keys: Sequence[str]
    ) -> AbstractContextManager[str]:
        """Load rows beside a table, where only this transaction sees them; gives the name to select from, quoted."""


class Database(Protocol):
    """A database's own part: its connection, its types, its errors."""

    def connect(self) -> None:
        """Reach it; does nothing where it is reached.

        Raises:
            TargetUnavailableError: It can't be reached now.
        """

    def close(self) -> None:
        """Let it go; never raises."""

    def end_waiting(self) -> None:
        """As ``Target`` has it."""

    def transaction(self) -> AbstractContextManager[Session]:
        """Commits at the block's end, rolls back on any error; the driver's errors leave it as ours."""

    def quote(self, name: str) -> str:
        """A name as its SQL takes it.

        Raises:
            BatchRefusedError: It can't hold such a name; the message says why.
        """

    def check_column_name(self, name: str) -> None:
        """See that a column can have a name.

        Raises:
            BatchRefusedError: None can; the message names it and says to rename it.
        """

    def table(self, name: str) -> str:
        """A table's name as its SQL takes it, with the schema where one was given."""

    def schemas(self, session: Session) -> list[str]:
        """The names that may stand before a table's, and a dot, in its SQL; none where it takes no ``table_schema``."""

    @property
    def types(self) -> Types:
        """Its part of the table of types."""

    def type_name(self, type_: pa.DataType, *, key: bool = False) -> str | None:
        """The column type for an Arrow type, also where the column is part of a key; None for nulls."""

    def insert_ignore(self, insert: str) -> str:
        """An INSERT statement that does nothing where its key is there already."""

    def select_for_update(self, select: str) -> str:
        """A SELECT statement that locks its rows until the transaction ends."""

    def current_read(self, select: str) -> str:
        """A SELECT statement that sees what an UPDATE sees, not what was there when the transaction began."""

    def update_from(self, table: str, staged: str, values: Sequence[str], keys: Sequence[str]) -> str:
        """The UPDATE of a table's rows by the staged rows with the same keys; names are quoted."""

    def colliding_keys(self, table: str, staged: str, keys: Sequence[str], texts: Sequence[str]) -> str:
        """The query for a staged row whose key is that of a row of the table, but for the letters of ``texts``."""

    def create_table(self, table: str, columns: Sequence[str], keys: Sequence[str] = ()) -> str:
        """The CREATE TABLE statement; it makes the keys unique where ``key_index`` can't in the same transaction."""

    def key_index(self, table: str, keys: Sequence[str]) -> str | None:
        """The statement that makes keys unique in a new table; None where it is better off without, or they are."""

    def type_of(self, declared: str) -> pa.DataType:
        """The Arrow type that holds what a column of a type holds."""

    def replacement(self, old: Sequence[Column], wanted: Sequence[Column]) -> Sequence[Column] | None:
        """What a table can have once its rows are replaced by others; None where its types can't follow then."""

    def replace(self, session: Session, table: str, old: Sequence[Column], new: Sequence[Column]) -> None:
        """Empty a table and give it the columns that ``replacement`` said, in the transaction."""

    def drop_surplus(self, session: Session, table: str, surplus: Sequence[str]) -> Sequence[str]:
        """Drop columns that the newest frame has not, where ``replace`` can't; give those that have to stay.

        Args:
            table: Its name, not quoted.
        """

    def change_type(self, session: Session, table: str, column: Column, wider: Column) -> Column:
        """Give a column another type, and say what it is then."""

    def same_column(self, one: str, other: str) -> bool:
        """Whether two names are one column to it."""
