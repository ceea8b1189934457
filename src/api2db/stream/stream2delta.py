"""Stream2Delta, which loads frames into a table of Delta Lake."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Unpack

from api2db.disk.folders import relative_to_home
from api2db.errors import ConfigurationError
from api2db.objects import Address
from api2db.stream._credentials import storage_options as combined_options
from api2db.stream._lake_stream import LakeOptions, LakeStream
from api2db.stream._options import (
    StreamOptions,
    passes_options_to,
    whole_number,
)
from api2db.stream.stream import Stream
from api2db.targets.delta import DeltaTarget, TableLocation
from api2db.targets.port import OnConflict


class DeltaOptions(LakeOptions, total=False):
    """Options of streams and stores into Delta Lake; ``Stream2Delta`` describes them."""


class Stream2Delta(LakeStream):
    """Loads the frames of a collector into a table of Delta Lake, exactly once.

    Args:
        name: The collector's name.
        uri: The table: a folder, or an address in an object store, such as ``s3://bucket/table``, ``az://…``,
            ``abfss://…`` or ``gs://…``. A relative path is below the project's folder. It is created if it is missing.
        storage_options: What the object store needs, such as ``{"AWS_REGION": "eu-central-1"}``: names and texts, as
            the library deltalake takes them. Credentials may also be in the environment.
        auth_path: A JSON file with more of these options; a relative path is below the project's folder. A value
            ``$NAME`` in it stands for that environment variable.
        if_exists: ``"append"``: adds to the table; ``"replace"``: the table is the newest frame; ``"fail"``: waits
            while there is a table that this stream has not made.
        chunk_size: The most rows of one commit; 0 for no limit.
        store: Whether it serves a Store; then it has no worker.
        keys: A row replaces the one with the same values in these columns; the last one wins. Without keys, rows are
            added.
        partition_by: The columns whose values decide in which folder of the table a row is, when the table is created.
        on_conflict: What happens to a row with a value that fits no column: ``"reject"``: it is set aside with the
            reason; ``"json"``: such values go into one JSON column ``_extra``, under the names of their columns.
        commit_every_s: The least time between two commits, in seconds, so that a table gets fewer and larger files. It
            does not hold while a full batch waits, or while ``flush`` or ``stream`` wait for their rows.

    The other arguments are those of ``Stream``.

    Raises:
        ConfigurationError: An argument can't be used; it is a ValueError.

    Attributes:
        uri: The table's path or address.
        log_str: The stream's name in log lines.
        connected: Whether the last attempt reached the table.
    """

    _place: TableLocation

    @passes_options_to(Stream.__init__)
    def __init__(
        self,
        name: str,
        uri: str | os.PathLike[str],
        storage_options: Mapping[str, str] | None = None,
        auth_path: str | None = None,
        if_exists: str = "append",
        chunk_size: int = 0,
        store: bool = False,
        *,
        keys: Sequence[str] = (),
        partition_by: Sequence[str] = (),
        on_conflict: OnConflict = "reject",
        commit_every_s: float = 1.0,
        table: str | None = None,
        **options: Unpack[StreamOptions],
    ) -> None:
        self.auth_path = auth_path
        super().__init__(
            name,
            "delta",
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
        place = _location(uri, combined_options(storage_options, auth_path, self.home), self.home)
        self._stand_at(place)
        self.uri = place.uri

    def optimize(self) -> int:
        """Gather small files of the table into larger ones, by one commit; the stream may be running.

        The files that are replaced stay on the disk for readers of older versions, until ``vacuum``.

        Returns:
            How many files were replaced.

        Raises:
            TargetUnavailableError: The table can't be reached, or somebody replaced rows in these files meanwhile; call
                it again.
        """
        return self._target().optimize()

    def vacuum(self, retention_hours: int | None = None, *, dry_run: bool = False) -> list[str]:
        """Delete files that no version of the table has needed for some time.

        Args:
            retention_hours: The time; by default that of the table, which is a week unless it says otherwise. Readers
                of versions that are older fail. A load that takes longer than this time could lose its files.
            dry_run: Whether to delete nothing.

        Returns:
            The files.

        Raises:
            TargetUnavailableError: The table can't be reached.
        """
        hours = None if retention_hours is None else whole_number(retention_hours, "retention_hours", least=1)
        return self._target().vacuum(hours, dry_run=dry_run)

    def _target(self, *, table_is_own: bool = False) -> DeltaTarget:
        return self._made(DeltaTarget, table_is_own=table_is_own)


def _location(uri: str | os.PathLike[str], options: Mapping[str, str], home: Path) -> TableLocation:
    said = os.fspath(uri)
    if not said or "\0" in said:
        raise ConfigurationError(f"uri must be the path or the address of a table, not {uri!r}")
    if "://" not in said:
        folder = (home / said).resolve()
        return TableLocation(str(folder), relative_to_home(folder, home), options, folder)
    address = Address.checked(said, options, "uri")
    return TableLocation(address.url, address.url, options)
