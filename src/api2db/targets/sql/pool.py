"""The pool of connections of this process to one server, which streams use in turns.

A stream borrows a connection for one transaction; streams get one in the order in which they ask. A connection goes to
another stream only after ``clean``. After an error that leaves a doubt, the connection is closed, and the stream in
doubt gets one that was opened later.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from api2db.errors import BatchRefusedError, ConnectionBrokenError, TableChangedError, TargetUnavailableError
from api2db.targets.sql.port import DryRunEndedError

logger = logging.getLogger(__name__)
MAX_CONNECTIONS: Final = 8
_ADVICE = (
    "give the streams of this and other processes a lower max_connections, run fewer processes, or raise the limit of"
    " the server or the user"
)
IDLE_S: Final = 10.0
_FEWER_S = 10.0


class TooManyConnectionsError(TargetUnavailableError):
    """The server accepts no further connection."""


def unreachable(said: str, *, is_full: bool) -> TargetUnavailableError:
    """The error for a connection that could not be opened, with the next step if the server has too many."""
    return TooManyConnectionsError(f"{said}; {_ADVICE}") if is_full else TargetUnavailableError(said)


class Reached(Hashable, Protocol):
    """A server; streams whose servers are equal share a pool."""

    @property
    def place(self) -> str:
        """Its address, for messages."""


class Opener(Protocol):
    """What the pool needs to know of a kind of server."""

    def idle_s(self) -> float:
        """How many seconds a connection may have been idle before it is used again."""

    def open(self) -> Any:
        """Open a connection in the state that a stream expects.

        Raises:
            TooManyConnectionsError: The server accepts no more.
            TargetUnavailableError: It cannot be reached.
        """

    def clean(self, connection: Any) -> None:
        """Reset a connection that another stream has used; if that raises, the connection is closed."""

    def roll_back(self, connection: Any) -> bool:
        """End an open transaction; False if the connection is broken."""


@dataclass(slots=True, eq=False)
class Lent:
    """A connection of the pool.

    Attributes:
        user: The stream that used it last.
        is_sound: Whether its last transaction left no doubt.
    """

    connection: Any
    opened_s: float
    user: "Connections"
    used_s: float = 0.0
    is_sound: bool = False

    def close(self) -> None:
        """Close it; never raises."""
        with suppress(Exception):
            self.connection.close()


class Pool:
    """Connections with the same address, database, user and encryption; see ``Connections``."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._emptied = threading.Condition(self.lock)
        self._limit = 1
        self._users: set[Connections] = set()
        self._waiting: deque[Connections] = deque()
        self._free: list[Lent] = []  # the most recently used one is last
        self._open = self._opening = 0
        self._since_s = 0.0
        self._fewer, self._fewer_until_s = 0, 0.0
        self._is_closing_idle = False

    def join(self, user: "Connections") -> None:
        """Count a stream until it leaves."""
        with self.lock:
            self._users.add(user)
            self._limit = max(each.max_connections for each in self._users)

    def leave(self, user: "Connections") -> None:
        """Close all connections after the last stream left."""
        with self.lock:
            self._users.discard(user)
            user.since_s = time.monotonic()
            closing = [] if self._users else self._take_out(self._free)
            self._emptied.notify()
        _close(closing)

    def has_spare(self) -> bool:
        """See ``Connections``."""
        with self.lock:
            return not self._waiting and self._has_room() and self._most() > 1

    @contextmanager
    def lend(self, user: "Connections") -> Iterator[Any]:
        """Borrow a connection for one transaction.

        Raises:
            TargetUnavailableError: None can be opened, or the stream is to stop.
        """
        lent = self._take(user)
        lent.is_sound = False
        error: BaseException | None = None
        try:
            yield lent.connection
            lent.is_sound = user.opener.roll_back(lent.connection)
        except BaseException as raised:
            error = raised
            is_known = isinstance(raised, BatchRefusedError | TableChangedError | DryRunEndedError)
            lent.is_sound = is_known and user.opener.roll_back(lent.connection)
            raise
        finally:
            self._give_back(lent, user, error)

    def _take(self, user: "Connections") -> Lent:
        has_waited = False
        while True:
            lent, closing = self._wait(user, first=has_waited)
            _close(closing)
            try:
                if lent is None:
                    return self._opened(user)
            except TooManyConnectionsError:
                if not self._continue_with_fewer(user):
                    raise
            else:
                if self._is_clean(lent, user):
                    return lent
            has_waited = True

    def _is_clean(self, lent: Lent, user: "Connections") -> bool:
        """Reset a connection. One that fails is closed; that says nothing about the server, so another is taken."""
        if lent.user is user:
            return True
        try:
            user.opener.clean(lent.connection)
        except Exception:  # noqa: BLE001 - whatever it is, this connection is of no more use
            self._discard(lent)
            return False
        lent.user = user
        return True

    def _wait(self, user: "Connections", *, first: bool) -> tuple[Lent | None, list[Lent]]:
        """A free connection, or None if one may be opened; and connections to close."""
        with self.lock:
            if first:
                self._waiting.appendleft(user)
            else:
                self._waiting.append(user)
            try:
                while not user.has_ended and (self._waiting[0] is not user or not self._has_room()):
                    user.changed.wait()
            except BaseException:  # a Ctrl-C must not leave the others waiting
                self._waiting.remove(user)
                self._wake_next()
                raise
            self._waiting.remove(user)
            if user.has_ended:
                self._wake_next()
                raise TargetUnavailableError(
                    f"stopped while all connections to {user.place} were in use; a higher max_connections gives more"
                )
            found = self._choose(user)
            self._wake_next()
            return found

    def _has_room(self) -> bool:
        return bool(self._free) or self._open < self._most()

    def _most(self) -> int:
        return self._limit if time.monotonic() > self._fewer_until_s else min(self._limit, self._fewer)

    def _choose(self, user: "Connections") -> tuple[Lent | None, list[Lent]]:
        now_s = time.monotonic()
        idle_s = min(IDLE_S, user.opener.idle_s())
        closing = self._take_out([lent for lent in self._free if now_s - lent.used_s > idle_s])
        good = [lent for lent in self._free if lent.opened_s >= user.since_s]
        if good:
            chosen = next((lent for lent in reversed(good) if lent.user is user), good[-1])
            self._free.remove(chosen)
            return chosen, closing
        if self._open >= self._most():
            closing += self._take_out(self._free[:1])
        self._open += 1
        self._opening += 1
        return None, closing

    def _opened(self, user: "Connections") -> Lent:
        opened_s = time.monotonic()
        connection = None
        try:
            connection = user.opener.open()
        finally:
            with self.lock:
                self._opening -= 1
                self._open -= connection is None
                self._wake_next()
        return Lent(connection, opened_s, user)

    def _continue_with_fewer(self, user: "Connections") -> bool:
        """If the server accepts no more connections, those that are open serve for a while."""
        with self.lock:
            there = self._open - self._opening
            if not there:
                return False
            if time.monotonic() > self._fewer_until_s:
                logger.warning(
                    "%s accepts no more than %d connections, which the streams share; %s",
                    user.place,
                    there,
                    _ADVICE,
                )
            self._fewer, self._fewer_until_s = there, time.monotonic() + _FEWER_S
            return True

    def _give_back(self, lent: Lent, user: "Connections", error: BaseException | None) -> None:
        with self.lock:
            if isinstance(error, ConnectionBrokenError):
                self._since_s = time.monotonic()
            lent.used_s = time.monotonic()
            if lent.is_sound and lent.opened_s >= self._since_s and self._users:
                self._free.append(lent)
                closing = []
                self._watch_idle()
            else:
                self._open -= 1
                closing = [lent]
            closing += self._take_out([each for each in self._free if each.opened_s < self._since_s])
            self._wake_next()
        _close(closing)

    def _discard(self, lent: Lent) -> None:
        with self.lock:
            self._open -= 1
            self._wake_next()
        lent.close()

    def _take_out(self, some: list[Lent]) -> list[Lent]:
        taken = list(some)
        self._free = [lent for lent in self._free if lent not in taken]
        self._open -= len(taken)
        return taken

    def _wake_next(self) -> None:
        if self._waiting:
            self._waiting[0].changed.notify()

    def _watch_idle(self) -> None:
        """While there are free connections, a thread closes them in time."""
        if not self._is_closing_idle:
            try:
                threading.Thread(target=self._close_idle, name="api2db-connections", daemon=True).start()
            except RuntimeError:  # the interpreter exits, and its connections are closed with it
                return
            self._is_closing_idle = True

    def _close_idle(self) -> None:
        while True:
            with self.lock:
                now_s = time.monotonic()
                closing = self._take_out([lent for lent in self._free if now_s - lent.used_s >= IDLE_S])
                self._wake_next()
                if not self._open:
                    self._is_closing_idle = False
                elif not closing:
                    self._emptied.wait(min((lent.used_s for lent in self._free), default=now_s) + IDLE_S - now_s)
                is_last = not self._is_closing_idle
            _close(closing)
            if is_last:
                return


class Connections:
    """One stream's use of the pool of its server.

    Args:
        opener: Opens connections.
        server: The streams of a process to an equal server share a pool.
        max_connections: The most connections of the pool; the highest number counts if streams differ.

    Attributes:
        reached: Whether the stream has joined the pool.
        since_s: It accepts no connection opened before.
        has_ended: It no longer waits for a connection.
        changed: Notified when it may get a connection.
    """

    def __init__(self, opener: Opener, server: Reached, max_connections: int) -> None:
        self._pool = pool_of((type(opener), server))
        self.opener = opener
        self.place = server.place
        self.max_connections = max_connections
        self.changed = threading.Condition(self._pool.lock)
        self.since_s = 0.0
        self.has_ended = False
        self.reached = False

    def reach(self, look: Callable[[Any], None] = lambda _: None) -> None:
        """Connect and inspect the connection, unless done already.

        Raises:
            TargetUnavailableError: There is no connection.
        """
        if self.reached:
            return
        self._pool.join(self)
        try:
            with self._pool.lend(self) as connection:
                look(connection)
        except BaseException:
            self.leave()
            raise
        self.reached = True

    @property
    def has_spare(self) -> bool:
        """Whether this stream could use two connections at once, and none waits for one."""
        return self._pool.has_spare()

    def lent(self) -> AbstractContextManager[Any]:
        """See ``Pool.lend``."""
        self.reach()
        return self._pool.lend(self)

    def leave(self) -> None:
        """Leave the pool; a stream that returns accepts no connection that is open already."""
        self.reached = False
        self._pool.leave(self)

    def end_waiting(self) -> None:
        """See ``Target``."""
        with self._pool.lock:
            self.has_ended = True
            self.changed.notify()


_pools: dict[Hashable, Pool] = {}


def pool_of(key: Hashable) -> Pool:
    """This process's pool for a server; a forked child gets its own."""
    return _pools.setdefault((os.getpid(), key), Pool())


def _close(connections: list[Lent]) -> None:
    for lent in connections:
        lent.close()
