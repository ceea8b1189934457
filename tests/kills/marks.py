"""Marks that say where in a delivery a child was when it was killed: each is one write to a file."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from api2db.delivery import _file_loader as file_loader
from api2db.delivery import _resumable_loader as resumable_loader
from api2db.delivery import _transactional_loader as transactional_loader
from api2db.targets.bigquery.keyed import BigqueryKeyedTarget
from api2db.targets.bigquery.target import BigqueryTarget
from api2db.targets.files import ShardTarget, SingleFileTarget
from api2db.targets.heavydb import HeavydbTarget
from api2db.targets.lake import LakeTarget
from api2db.targets.sql import SqlTarget
from api2db.targets.sql._ahead import _BegunLoad

BEFORE, DURING, AFTER = "before", "in", "after"
AHEAD = "ahead"  # a load has begun while another one was under way


def mark_loads(path: Path) -> None:
    """Have this process mark where each load begins, where it ends, and where it is acknowledged."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def say(mark: str) -> None:
        os.write(descriptor, f"{os.getpid()} {mark}\n".encode())

    _around(SqlTarget, "load", lambda target: type(target._database).__name__, say, DURING, AFTER)
    _around(_BegunLoad, "start", lambda load: type(load._ahead._database).__name__, say, None, AHEAD)
    _around(_BegunLoad, "commit", lambda load: type(load._ahead._database).__name__, say, DURING, AFTER)
    _around(HeavydbTarget, "append", lambda target: type(target).__name__, say, DURING, AFTER)
    for kind in (ShardTarget, SingleFileTarget):
        _around(kind, "stage", lambda target: type(target).__name__, say, DURING, None)
        _around(kind, "finish", lambda target: type(target).__name__, say, None, AFTER)
    _around(BigqueryTarget, "append", lambda target: type(target).__name__, say, DURING, AFTER)
    _around(BigqueryKeyedTarget, "load", lambda target: type(target).__name__, say, DURING, AFTER)
    _around(LakeTarget, "load", _table_of, say, DURING, AFTER)
    for loader in (
        transactional_loader.TransactionalLoader,
        file_loader.FileLoader,
        resumable_loader.ResumableLoader,
    ):
        _around(loader, "deliver", _target_of, say, BEFORE, BEFORE)


def where_killed(path: Path, pid: int, targets: int) -> Counter[str]:
    """For each target of a child: was it killed before a load, in one, or after one and before its acknowledgement."""
    last: dict[str, str] = {}
    for line in path.read_text().splitlines():
        owner, target, mark = line.split()
        if int(owner) == pid:
            last[target] = mark
    return Counter([*last.values(), *[BEFORE] * (targets - len(last))])


def _table_of(target: LakeTarget) -> str:
    return target._name.replace("/", "_")


def _target_of(loader: Any) -> str:
    target = loader._target
    if isinstance(target, LakeTarget):
        return _table_of(target)
    return type(getattr(target, "_database", target)).__name__


def _around(
    kind: type,
    name: str,
    whose: Callable[[Any], str],
    say: Callable[[str], None],
    before: str | None,
    after: str | None,
) -> None:
    real = getattr(kind, name)

    def marked(self: Any, *arguments: Any, **options: Any) -> Any:
        if before:
            say(f"{whose(self)} {before}")
        result = real(self, *arguments, **options)
        if after:
            say(f"{whose(self)} {after}")
        return result

    setattr(kind, name, marked)
