"""The power of all three servers is cut at once: what was acknowledged must be on their disks."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from api2db.cluster import _checks
from api2db.errors import ConfigurationError, JournalError
from tests.cluster.journals import ALL_AT_ONCE, Machine, ids, rows
from tests.faults.disks import cut_power, disk_image, mounted, sync_disk
from tests.servers.nats import NatsCluster, running_nats
from tests.servers.processes import give_away, new_folder

PUTS = 60
DISK_MB = 96


def unsynced(config: str) -> str:
    """The planted bug: the default of NATS."""
    return config.replace("sync_interval: always", "sync_interval: 2m")


def acknowledged_and_found(place: Path, edit: Callable[[str], str] = lambda text: text) -> tuple[list[int], list[int]]:
    """Put, then cut the power of all servers; return the puts that were acknowledged, and those that are there then."""
    disks = [place / f"disk-{number}.img" for number in range(3)]
    copies = [place / f"copy-{number}.img" for number in range(3)]
    folders = [new_folder() / "disk" for _ in range(3)]
    with ExitStack() as running:
        with ExitStack() as plugged:
            for disk, folder in zip(disks, folders, strict=True):
                plugged.enter_context(disk_image(disk, folder, DISK_MB))
                give_away(folder)
            nats = plugged.enter_context(running_nats(stores=folders, edit=edit))
            acknowledged = _put(nats, folders, place)
            with ExitStack() as frozen:
                for server in nats.servers:
                    frozen.enter_context(server.frozen())
                for disk, copy in zip(disks, copies, strict=True):
                    cut_power(disk, copy)
            for server in nats.servers:
                server.kill()
        for copy, folder in zip(copies, folders, strict=True):
            running.enter_context(mounted(copy, folder))
        with running_nats(stores=folders, edit=edit) as nats:
            return acknowledged, _found(nats, place)


def _put(nats: NatsCluster, folders: list[Path], home: Path) -> list[int]:
    machine = Machine(nats.address("power"), home)
    journal, _ = machine.attached()
    for folder in folders:
        sync_disk(folder)
    for number in range(PUTS):
        journal.append([rows(number)], cursor={"next": number})
    machine.vanish()
    return list(range(PUTS))


def _found(nats: NatsCluster, home: Path) -> list[int]:
    machine = Machine(nats.address("power"), home)
    try:
        machine.cluster.session._check_gone = lambda *_: None  # type: ignore[method-assign]  # it is gone
        _, reader = machine.attached()
        return ids(reader.read(ALL_AT_ONCE, 0))
    finally:
        machine.close()


def test_what_was_acknowledged_is_there_after_the_power_of_all_servers_was_cut(tmp_path: Path) -> None:
    acknowledged, found = acknowledged_and_found(tmp_path)
    assert found == acknowledged


@pytest.mark.torture
def test_servers_that_sync_later_lose_what_they_acknowledged_and_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug is caught twice: by the check at start, and by the cut."""
    with running_nats(edit=unsynced) as nats, pytest.raises(ConfigurationError, match="sync_interval is not always"):
        Machine(nats.address(), tmp_path).attached()
    monkeypatch.setattr(_checks, "_check", lambda _: None)
    try:
        acknowledged, found = acknowledged_and_found(tmp_path, unsynced)
    except JournalError:
        return  # not even the streams are there
    assert found != acknowledged
