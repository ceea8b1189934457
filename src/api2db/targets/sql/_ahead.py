"""The next load, begun in a transaction of its own while the load in front of it is under way.

The database inserts the rows of two transactions at once, and need not wait between two loads for a commit and for the
next rows. The transactions begin and commit in order: the second one updates the ledger after the first was committed.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import pyarrow as pa

from api2db.targets.port import BegunLoad, Column, LedgerUpdate
from api2db.targets.sql.port import Database, DryRunEndedError, Session

# A load whose turn has not come by then is rolled back, so that nothing waits for its locks for long.
LONGEST_S: Final = 2.0
Insert: TypeAlias = Callable[[Session, pa.Table, Sequence[Column], Callable[[], None]], None]
Step: TypeAlias = Callable[[Session, LedgerUpdate], None]


class Ahead:
    """The loads of a table that were begun ahead of their turn.

    A load may begin between ``open`` and ``close``, while another one is prepared or under way.

    Args:
        database: Tells whether a second transaction is possible.
        insert: Inserts rows, and calls a function once its transaction has a number; raises if rows can't be inserted
            beside another transaction.
        step: Updates the ledger.
    """

    def __init__(self, database: Database, insert: Insert, step: Step) -> None:
        self._database = database
        self._insert = insert
        self._step = step
        self._lock = threading.Lock()
        self._front: threading.Event | None = None
        self._begun: list[_BegunLoad] = []

    def begin(self, rows: pa.Table, columns: Sequence[Column]) -> BegunLoad | None:
        """See ``LedgerTarget``."""
        with self._lock:
            if self._front is None or (second := self._database.second()) is None:
                return None
            load = _BegunLoad(self, self._front, rows, columns)
            try:
                load.start(second, self._insert, self._step)
            except RuntimeError:  # no thread can be started while the interpreter exits
                return None
            self._begun.append(load)
            return load

    def open(self) -> None:
        """Let the next load begin once the one in front has its transaction, which ``has_begun`` tells."""
        with self._lock:
            self._front = self._front or threading.Event()

    def has_begun(self) -> None:
        """Tell that the transaction of the load in front is older than any other that begins from now on."""
        with self._lock:
            if self._front is not None:
                self._front.set()

    def close(self) -> None:
        """Let no load begin."""
        self.has_begun()
        with self._lock:
            self._front = None

    def cancel(self) -> None:
        """Roll back what was begun, and let no load begin."""
        self.close()
        with self._lock:
            begun, self._begun = self._begun, []
        for load in begun:
            load.cancel()

    def forget(self, load: "_BegunLoad") -> None:
        """Forget a load that has ended."""
        with self._lock:
            if load in self._begun:
                self._begun.remove(load)


class _BegunLoad:
    """See ``BegunLoad``. Its thread inserts the rows, and waits for the update of the ledger."""

    def __init__(self, ahead: Ahead, front: threading.Event, rows: pa.Table, columns: Sequence[Column]) -> None:
        self.rows = rows
        self.columns = columns
        self._ahead = ahead
        self._front = front
        self._has_begun = threading.Event()
        self._decided = threading.Event()
        self._is_updating = self._is_committed = False
        self._update: LedgerUpdate | None = None
        self._error: BaseException | None = None
        self._thread: threading.Thread

    def start(self, database: Database, insert: Insert, step: Step) -> None:
        """Begin to insert in a database that no other thread uses."""
        arguments = (database, insert, step)
        self._thread = threading.Thread(target=self._run, args=arguments, name="api2db-ahead", daemon=True)
        self._thread.start()

    def commit(self, update: LedgerUpdate) -> bool:
        """See ``BegunLoad``. Meanwhile the load after this one may begin."""
        self._ahead.open()
        self._has_begun.wait()
        self._ahead.has_begun()
        self._update = update
        self._decided.set()
        self._thread.join()
        self._ahead.forget(self)
        self._ahead.close()
        if not self._is_committed:
            self._ahead.cancel()
        if self._error is not None and self._is_updating:
            raise self._error
        return self._is_committed

    def cancel(self) -> None:
        """See ``BegunLoad``."""
        self._decided.set()
        self._front.set()
        self._thread.join()
        self._ahead.forget(self)

    def _run(self, database: Database, insert: Insert, step: Step) -> None:
        try:
            self._front.wait()
            with database.transaction() as session:
                insert(session, self.rows, self.columns, self._has_begun.set)
                self._decided.wait(LONGEST_S)
                update = self._update
                if update is None:
                    raise DryRunEndedError
                self._is_updating = True
                step(session, update)
            self._is_committed = True
        except DryRunEndedError:
            return
        except BaseException as error:  # noqa: BLE001 - ``commit`` raises it in the worker's thread
            self._error = error
        finally:
            self._has_begun.set()
