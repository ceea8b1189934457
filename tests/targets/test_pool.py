"""The pool of connections by itself, with connections that only count."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from api2db.errors import BatchRefusedError, ConnectionBrokenError, TargetUnavailableError
from api2db.targets.server import Password, Server
from api2db.targets.sql import pool
from api2db.targets.sql.pool import Connections
from tests.stream.eventually import eventually


class Connection:
    closed = False

    def close(self) -> None:
        self.closed = True


class Counting:
    """Opens connections, and remembers all."""

    def __init__(self) -> None:
        self.opened: list[Connection] = []
        self.cleaned: list[Connection] = []

    def idle_s(self) -> float:
        return 60.0

    def open(self) -> Connection:
        self.opened.append(Connection())
        return self.opened[-1]

    def clean(self, connection: Connection) -> None:
        self.cleaned.append(connection)

    def roll_back(self, connection: Connection) -> bool:
        return True


@pytest.fixture
def opener() -> Counting:
    return Counting()


@pytest.fixture
def server() -> Server:
    return Server("nowhere", 1, "me", "db", Password(lambda: "secret"))


@pytest.fixture
def users(opener: Counting, server: Server) -> Iterator[list[Connections]]:
    """Streams that share one connection."""
    made = [Connections(opener, server, 1) for _ in range(6)]
    yield made
    for user in made:
        user.leave()


def test_those_who_wait_get_their_turn_in_the_order_in_which_they_asked(users: list[Connections]) -> None:
    first, *others = users
    order: list[int] = []

    def use(number: int, user: Connections) -> None:
        with user.lent():
            order.append(number)

    threads = [threading.Thread(target=use, args=each) for each in enumerate(others)]
    with first.lent():
        for number, thread in enumerate(threads, 1):
            thread.start()
            eventually(lambda number=number: len(first._pool._waiting) == number)  # type: ignore[misc]
    for thread in threads:
        thread.join()
    # Each comes twice: to see that the server is there, and for its transaction.
    assert order == sorted(order)


def test_one_that_is_interrupted_while_it_waits_leaves_its_place_to_the_next(
    users: list[Connections], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third, *_ = users

    def interrupted(_timeout: float | None = None) -> bool:
        raise KeyboardInterrupt

    with first.lent():
        monkeypatch.setattr(second.changed, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt), second.lent():
            pass
    with third.lent() as connection:
        assert connection


def test_one_that_is_told_to_stop_waits_no_more(users: list[Connections]) -> None:
    first, second, *_ = users
    with first.lent():
        second.end_waiting()
        with pytest.raises(TargetUnavailableError, match="a higher max_connections gives more"), second.lent():
            pass


@pytest.mark.parametrize("error", [TargetUnavailableError("locked"), ConnectionBrokenError("gone"), KeyError("fault")])
def test_a_connection_is_closed_after_an_error(users: list[Connections], opener: Counting, error: Exception) -> None:
    user = users[0]
    with pytest.raises(type(error)), user.lent() as connection:
        raise error
    assert connection.closed
    with user.lent() as another:
        assert another is not connection
    assert opener.cleaned == []


def test_a_connection_whose_rows_were_refused_is_kept(users: list[Connections]) -> None:
    user = users[0]
    with pytest.raises(BatchRefusedError), user.lent() as connection:
        raise BatchRefusedError("a value does not fit")
    with user.lent() as again:
        assert again is connection


def test_another_stream_gets_it_cleaned_and_the_same_one_as_it_is(users: list[Connections], opener: Counting) -> None:
    first, second, *_ = users
    with first.lent(), ExitStack():
        pass
    with first.lent() as connection:
        assert opener.cleaned == []
    with second.lent():
        assert {*opener.cleaned} == {connection}
    assert opener.opened == [connection]


def test_a_stream_in_doubt_gets_a_connection_that_was_opened_later(users: list[Connections], opener: Counting) -> None:
    first, second, *_ = users
    second.reach()
    with first.lent() as old:
        pass
    first.leave()
    with first.lent() as fresh:
        assert fresh is not old
    assert old.closed, "there is room for one only"
    assert opener.opened == [old, fresh]


def test_when_a_connection_breaks_none_that_was_open_then_is_used_again(opener: Counting, server: Server) -> None:
    one, two = (Connections(opener, server, 2) for _ in range(2))
    with one.lent() as first, two.lent() as second:
        pass
    with pytest.raises(ConnectionBrokenError), one.lent():
        raise ConnectionBrokenError("gone")
    assert first.closed
    assert second.closed
    one.leave()
    two.leave()


def test_idle_connections_are_closed_and_so_are_all_behind_the_last_stream(
    users: list[Connections], monkeypatch: pytest.MonkeyPatch
) -> None:
    user = users[0]
    with user.lent() as connection:
        pass
    user.leave()
    assert connection.closed
    monkeypatch.setattr(pool, "IDLE_S", 0.05)
    with user.lent() as another:
        pass
    assert eventually(lambda: another.closed)
    assert eventually(lambda: not any(thread.name == "api2db-connections" for thread in threading.enumerate()))
