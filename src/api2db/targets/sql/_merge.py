"""Replace rows of a table by key: strings that differ can be equal under the table's collation."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from api2db.errors import BatchRefusedError
from api2db.frames import is_json, plain
from api2db.targets.port import Column
from api2db.targets.sql.port import Database, Session


class Merge:
    """Upserts rows into one table by its keys.

    Args:
        keys: The columns that identify a row; at least one.
    """

    def __init__(self, database: Database, table: str, keys: Sequence[str]) -> None:
        self._database = database
        self._table = table
        self._keys = keys

    def upsert(self, session: Session, rows: pa.Table, columns: Mapping[str, Column], *, only_new: bool) -> None:
        """Replace rows, and add those whose key is not in the table.

        Args:
            only_new: Replace none, because rows of the table may be newer.

        Raises:
            BatchRefusedError: The table does not accept all rows, equates two keys, or has a key that must be new.
        """
        names = [self._database.dialect.quote(name) for name in rows.column_names]
        keys = [self._database.dialect.quote(key) for key in self._keys]
        listed = ", ".join(names)
        with session.stage(self._table, rows, columns, self._keys) as staged:
            self._check_keys_apart(session, staged, rows)
            same = " AND ".join(f"old.{key} = {staged}.{key}" for key in keys)
            current = self._database.dialect.current
            there = self._database.dialect.limited("1", f"{staged} JOIN {self._quoted} old ON {same}", 1)
            if only_new and session.rows(f"{there}{current}"):
                raise BatchRefusedError(key_is_there(self._table, self._keys))
            values = [name for name in names if name not in keys]
            if values and not only_new:
                self._update(session, staged, values, keys)
            absent = f"FROM {staged} LEFT JOIN {self._quoted} old ON {same} WHERE old.{keys[0]} IS NULL"
            new = ", ".join(f"{staged}.{name}" for name in names)
            in_order = self._database.dialect.in_order(staged, rows.column_names)
            inserted = session.run(f"INSERT INTO {self._quoted} ({listed}) SELECT {new} {absent}{in_order}")
            missing = f"SELECT count(*) {absent}{current}"
            if inserted < rows.num_rows and session.rows(missing) != [(0,)]:
                raise BatchRefusedError(f"{self._table} did not take all rows; a trigger or rule of it drops some")

    def _update(self, session: Session, staged: str, values: Sequence[str], keys: Sequence[str]) -> None:
        expected: int | None = None
        if session.may_drop(self._table):
            same = " AND ".join(f"old.{key} = new.{key}" for key in keys)
            found = f"EXISTS (SELECT 1 FROM {staged} new WHERE {same})"
            expected = int(session.rows(f"SELECT count(*) FROM {self._quoted} old WHERE {found}")[0][0])
        updated = session.run(self._database.dialect.update_from(self._quoted, staged, values, keys))
        if expected is not None and updated != expected:
            raise BatchRefusedError(
                f"{self._table} updated {updated} of {expected} rows; a trigger, rule or policy of it drops some"
            )

    def _check_keys_apart(self, session: Session, staged: str, rows: pa.Table) -> None:
        """Refuse keys that differ but are equal to the table: text under its collation, JSON in another form."""
        texts = [key for key in self._keys if plain(rows.field(key).type) == pa.string()]
        if texts or any(is_json(rows.field(key).type) for key in self._keys):
            quoted = [self._database.dialect.quote(key) for key in self._keys]
            keys = ", ".join(quoted)
            equal = f"although the letters differ, to the table the key ({keys}) equals that of"
            twice = self._database.dialect.limited("1", f"{staged} GROUP BY {keys} HAVING count(*) > 1", 1)
            if session.rows(twice):
                raise BatchRefusedError(f"{equal} another row")
            letters = [self._database.dialect.quote(text) for text in texts]
            if texts and session.rows(self._database.dialect.colliding_keys(self._quoted, staged, quoted, letters)):
                raise BatchRefusedError(f"{equal} a row in it")

    @property
    def _quoted(self) -> str:
        return self._database.dialect.table(self._table)


def key_is_there(table: str, keys: Sequence[str]) -> str:
    """Why a row that is retried is refused."""
    return (
        f"{table} has a row of the same key ({', '.join(keys)}), which may be newer, so it was not replaced; drop"
        " this row, or delete the other one and retry"
    )
