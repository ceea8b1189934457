"""Stream2Iceberg, which loads frames into a table of Iceberg."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Unpack
from urllib.parse import urlsplit

from api2db.disk.folders import relative_to_home
from api2db.errors import ConfigurationError
from api2db.stream._credentials import storage_options as combined_options
from api2db.stream._lake_stream import LakeOptions, LakeStream
from api2db.stream._options import (
    StreamOptions,
    passes_options_to,
    whole_number,
)
from api2db.stream.stream import Stream
from api2db.targets.iceberg import CatalogPlace, IcebergTarget
from api2db.targets.port import OnConflict
from api2db.texts import redact

_SCHEMES = ("s3", "s3a", "gs", "abfs", "abfss", "file")
_OWN_CATALOG = "catalog.db"
_FILE_IO = "api2db.targets.iceberg._files.DurableFileIO"


class IcebergOptions(LakeOptions, total=False):
    """Options of streams and stores into Iceberg; ``Stream2Iceberg`` describes them."""

    namespace: str
    table: str | None


class Stream2Iceberg(LakeStream):
    """Loads the frames of a collector into a table of Iceberg, exactly once.

    Args:
        name: The collector's name.
        warehouse: Where tables are: a folder, or an address in an object store, such as ``s3://bucket/lake``. A
            relative path is below the project's folder.
        catalog: The catalogue's properties, names and texts, as ``load_catalog`` of the library pyiceberg takes them,
            such as ``{"type": "rest", "uri": "https://…"}``; ``name`` is the catalogue's name. What an object store
            needs is here as well, such as ``s3.region``. Without it, the catalogue is the SQLite file ``catalog.db`` in
            the warehouse, which must be a folder then.
        auth_path: A JSON file with more of these properties; a relative path is below the project's folder. A value
            ``$NAME`` in it stands for that environment variable.
        if_exists: ``"append"``: adds to the table; ``"replace"``: the table is the newest frame; ``"fail"``: waits
            while there is a table that this stream has not made.
        chunk_size: The most rows of one commit; 0 for no limit.
        store: Whether it serves a Store; then it has no worker.
        namespace: The table's namespace, created if it is missing; dots separate its parts.
        keys: A row replaces the one with the same values in these columns; the last one wins. Without keys, rows are
            added.
        partition_by: The columns whose values decide in which folder of the table a row is, when the table is created.
        on_conflict: What happens to a row with a value that fits no column: ``"reject"``: it is set aside with the
            reason; ``"json"``: such values go into one JSON column ``_extra``, under the names of their columns.
        commit_every_s: The least time between two commits, in seconds, so that a table gets fewer snapshots and larger
            files. It does not hold while a full batch waits, or while ``flush`` or ``stream`` wait for their rows.
        table: The table's name in its namespace; the collector's by default.

    The other arguments are those of ``Stream``.

    Raises:
        ConfigurationError: An argument can't be used; it is a ValueError.

    Attributes:
        log_str: The stream's name in log lines.
        connected: Whether the last attempt reached the table.
    """

    _place: CatalogPlace

    @passes_options_to(Stream.__init__)
    def __init__(
        self,
        name: str,
        warehouse: str | os.PathLike[str],
        catalog: Mapping[str, str] | None = None,
        auth_path: str | None = None,
        if_exists: str = "append",
        chunk_size: int = 0,
        store: bool = False,
        *,
        namespace: str = "default",
        keys: Sequence[str] = (),
        partition_by: Sequence[str] = (),
        on_conflict: OnConflict = "reject",
        commit_every_s: float = 60.0,
        table: str | None = None,
        **options: Unpack[StreamOptions],
    ) -> None:
        self.auth_path = auth_path
        super().__init__(
            name,
            "iceberg",
            if_exists,
            chunk_size=chunk_size,
            store=store,
            keys=keys,
            partition_by=partition_by,
            on_conflict=on_conflict,
            commit_every_s=commit_every_s,
            table=table,
            **options,
        )
        given = combined_options(catalog, auth_path, self.home, "catalog")
        names = (*_parts(namespace), self.table_name)
        self._stand_at(_place(warehouse, given, names, self.home, is_own=catalog is None))

    def optimize(self) -> int:
        """Gather small files of the table into larger ones; the stream may be running.

        The files that are replaced stay for readers of older snapshots, until ``expire_snapshots``.

        Returns:
            How many files were replaced.

        Raises:
            TargetUnavailableError: The table can't be reached, or somebody replaced rows in these files meanwhile; call
                it again.
        """
        return self._target().optimize()

    def expire_snapshots(self, retention_hours: int = 168, *, dry_run: bool = False) -> list[str]:
        """Forget old snapshots of the table, and delete the files that only they need; the stream may be running.

        Each commit writes down all snapshots that there are, so that commits become slower without this.

        Args:
            retention_hours: The age from which a snapshot is forgotten. The newest one stays, and any with a
                name, unless it gets that name at this very moment.
            dry_run: Whether to change nothing.

        Returns:
            The files; the log names those that could not be deleted.

        Raises:
            TargetUnavailableError: The table can't be reached.
        """
        hours = whole_number(retention_hours, "retention_hours", least=1)
        return self._target().expire(hours, dry_run=dry_run)

    def _target(self, *, table_is_own: bool = False) -> IcebergTarget:
        return self._made(IcebergTarget, table_is_own=table_is_own)


def _place(
    warehouse: str | os.PathLike[str], given: Mapping[str, str], names: tuple[str, ...], home: Path, *, is_own: bool
) -> CatalogPlace:
    said = os.fspath(warehouse)
    if not said or any(sign in said for sign in "\0?#"):
        raise ConfigurationError(f"warehouse must be the path of a folder or an address, without ? and #, not {said!r}")
    folder = None if "://" in said else (home / said).resolve()
    *namespace, table = names
    shown = said.rstrip("/") if folder is None else relative_to_home(folder, home)
    if folder is None:
        _check_address(said, is_own=is_own)
    options = {"py-io-impl": _FILE_IO, "warehouse": said.rstrip("/") if folder is None else f"file://{folder}", **given}
    if is_own and folder is not None:
        options |= {"type": "sql", "uri": f"sqlite:///{folder}/{_OWN_CATALOG}"}
    elif uri := given.get("uri"):
        shown = redact(uri)
    file = folder / _OWN_CATALOG if is_own and folder is not None else None
    return CatalogPlace(tuple(namespace), table, f"{shown}/{'.'.join(names)}", options, file)


def _check_address(said: str, *, is_own: bool) -> None:
    parts = urlsplit(said)
    if parts.scheme not in _SCHEMES:
        raise ConfigurationError(f"warehouse must be a path, or an address that begins with one of {_listed()}")
    if parts.password is not None:
        raise ConfigurationError("warehouse must hold no password; give secrets as catalog or auth_path")
    if is_own:
        raise ConfigurationError("a warehouse in an object store needs a catalogue: give catalog={'type': …, 'uri': …}")


def _parts(namespace: str) -> tuple[str, ...]:
    if not all(part.strip() for part in str(namespace).split(".")) or namespace != str(namespace):
        raise ConfigurationError(f"namespace must be names with dots between them, not {namespace!r}")
    return tuple(namespace.split("."))


def _listed() -> str:
    return ", ".join(f"{scheme}://" for scheme in _SCHEMES)
