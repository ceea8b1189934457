"""The functions behind ``api2db cluster``."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from api2db.app._cluster import cluster_address
from api2db.app.screen import print_table
from api2db.errors import Api2dbError, ConfigurationError
from api2db.journal import names_on_disk
from api2db.texts import counted

if TYPE_CHECKING:
    from api2db.cluster import Cluster, ClusterJournalStore

_NONE: Final = "-"


def print_cluster(home: Path, *, as_json_text: bool) -> bool:
    """Print workers, collectors and streams of the cluster; return False if something needs attention.

    Raises:
        ConfigurationError: No cluster is named.
    """
    said = _store(home).describe()
    if as_json_text:
        print(json.dumps(said, indent=2))
    else:
        _print(Console(), said)
    return bool(said["healthy"])


def init_cluster(folder: Path, hosts: Sequence[str], project: str) -> None:
    """Write the files of a cluster's servers, and say what to do with them.

    Raises:
        ConfigurationError: The folder is not empty, or there are not three hosts.
    """
    from api2db.cluster import write_deployment

    written = write_deployment(folder, hosts, project)
    for path in written.files:
        print(path)
    print(f"\nNow: read {folder / 'README.md'}; then, on each machine:")
    print(f"api2db run main.py --cluster '{written.address}'")


def import_journals(home: Path, collectors: Sequence[str]) -> bool:
    """Move journals from this disk into the cluster; return False if that failed for one.

    Args:
        home: The project's folder.
        collectors: Whose; all that have a journal on this disk if none is named.

    Raises:
        ConfigurationError: No cluster is named.
    """
    from api2db.cluster import import_journal

    _store(home)
    return _move(home, collectors or names_on_disk(home), import_journal, "into the cluster")


def export_journals(home: Path, collectors: Sequence[str]) -> bool:
    """Move journals from the cluster to this disk; return False if that failed for one.

    Args:
        home: The project's folder.
        collectors: Whose; all that have a journal in the cluster if none is named.

    Raises:
        ConfigurationError: No cluster is named.
    """
    from api2db.cluster import export_journal

    return _move(home, collectors or _store(home).names(), export_journal, f"to {home}")


def _move(home: Path, collectors: Sequence[str], move: "Callable[[Path, Cluster, str], int]", where: str) -> bool:
    from api2db.cluster import close_clusters, cluster_at

    cluster, went_well = cluster_at(str(cluster_address()), home), True
    try:
        for name in collectors:
            try:
                rows = move(home, cluster, name)
            except Api2dbError as error:
                went_well = False
                print(f"{name}: {error}")
            else:
                print(f"{name}: moved {where}, with {counted(rows, 'waiting row')}")
    finally:
        close_clusters()
    if not collectors:
        print("There are no journals to move.")
    return went_well


def _store(home: Path) -> "ClusterJournalStore":
    address = cluster_address()
    if address is None:
        raise ConfigurationError("no cluster is named: api2db --cluster ADDRESS cluster status, or set API2DB_CLUSTER")
    from api2db.cluster import cluster_store

    return cluster_store(address, home)


def _print(console: Console, said: dict[str, Any]) -> None:
    now = time.time()
    rows = [
        (each["worker"], each["machine"], str(each["pid"]), f"{now - each['since']:.0f} s", str(each["collectors"]))
        for each in said["workers"]
    ]
    print_table(console, ("worker", "machine", "pid", "for", "collectors"), rows)
    lines = [
        (
            each["collector"],
            each["worker"] or _NONE,
            each["leader"] or _NONE,
            f"{each['replicas_current']} of {each['replicas']}",
            f"{each['bytes']:,}",
            f"{each['weight']:.1f}",
            f"{each['lag_s']:.1f} s",
        )
        for each in said["collectors"]
    ]
    print_table(console, ("collector", "worker", "leader", "replicas up to date", "bytes", "weight", "lag"), lines)
    console.out(
        "Everything is replicated as configured." if said["healthy"] else "Some streams lack replicas or a leader.",
        highlight=False,
    )
