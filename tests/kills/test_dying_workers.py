"""A worker that dies by an error that nobody foresaw: the next put says so, the lock is free, a new start goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api2db.delivery import FileLoader, Parking, Rejects, TransactionalLoader
from api2db.errors import StreamDiedError
from api2db.journal._reader import SegmentedReader
from api2db.targets.duckdb import DuckdbDatabase
from api2db.targets.files import ShardTarget
from api2db.targets.sql import SqlTarget
from api2db.targets.sqlite import SqliteDatabase
from tests.kills.checker import Verdict
from tests.kills.here import Puts, wait_until

CALLS: list[tuple[str, Any, str]] = [
    *(("duckdb", DuckdbDatabase, name) for name in ("connect", "transaction")),
    *(("sqlite", SqliteDatabase, name) for name in ("connect", "transaction")),
    *(("sqlite", SqlTarget, name) for name in ("connect", "read_position", "prepare", "load", "_load")),
    *(("sqlite", TransactionalLoader, name) for name in ("recover", "deliver", "_pass")),
    *(("sqlite", Parking, name) for name in ("leave",)),
    *(("sqlite", Rejects, name) for name in ("resolve",)),
    *(("sqlite", SegmentedReader, name) for name in ("read", "acknowledge")),
    *(("shards", ShardTarget, name) for name in ("connect", "acquire", "stage", "finish")),
    *(("shards", FileLoader, name) for name in ("recover", "deliver", "_finish")),
    *(("shards", SegmentedReader, name) for name in ("save", "acknowledge")),
]


class PlantedError(Exception):
    """What nobody foresaw."""


@pytest.mark.parametrize("when", ["before", "behind"])
@pytest.mark.parametrize(("kind", "owner", "name"), CALLS, ids=lambda part: getattr(part, "__name__", part))
def test_a_worker_that_dies_at_a_call_is_told_by_the_next_put_and_frees_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, owner: Any, name: str, when: str
) -> None:
    puts = Puts(tmp_path, kind)
    puts.put(2)
    puts.deliver()
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, raising(getattr(owner, name), behind=when == "behind"))
        puts.put(1)
        puts.stream.start()
        wait_until(lambda: not puts.stream.lock.locked())
    with pytest.raises(StreamDiedError, match="nobody foresaw this") as died:
        puts.put(1)
    assert isinstance(died.value.__cause__, PlantedError)
    if puts.stream.status().frames_waiting:
        with pytest.raises(StreamDiedError):
            puts.stream.flush()
    assert not puts.stream.lock.locked()
    puts.deliver()
    puts.put(2)
    puts.deliver()
    assert puts.verdict() == Verdict()


def raising(real: Callable[..., Any], *, behind: bool) -> Callable[..., Any]:
    """The same call, which raises before or behind what it does."""

    def raises(*arguments: Any, **options: Any) -> Any:
        if behind:
            real(*arguments, **options)
        raise PlantedError("nobody foresaw this")

    return raises
