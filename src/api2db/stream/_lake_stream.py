"""LakeStream, which is what streams into tables of lakes share."""

import math
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Protocol, TypedDict, TypeVar, Unpack

import pandas as pd

from api2db.delivery import Group
from api2db.errors import ConfigurationError
from api2db.stream._options import IF_EXISTS, ON_CONFLICT, StreamOptions, column_names, for_own_table, one_of
from api2db.stream.diagnosis import Diagnosis, diagnosis_of_folder
from api2db.stream.stream import Stream
from api2db.targets.lake import LakeTarget
from api2db.targets.port import IfExists, OnConflict

_Target = TypeVar("_Target", bound=LakeTarget)


class LakeOptions(TypedDict, total=False):
    """Options of streams and stores into any lake."""

    keys: Sequence[str]
    partition_by: Sequence[str]
    on_conflict: OnConflict


class LakePlace(Hashable, Protocol):
    """Where a table is."""

    @property
    def name(self) -> str:
        """The place for display."""

    @property
    def folder(self) -> Path | None:
        """The folder of its files, if it is on a disk."""


class LakeStream(Stream):
    """Loads the frames of a collector into a table of a lake, exactly once.

    The arguments are those of the classes for users.

    Attributes:
        log_str: The stream's name in log lines.
        connected: Whether the last attempt reached the table.
    """

    _place: LakePlace

    def __init__(
        self,
        name: str,
        stream_type: str,
        if_exists: str,
        *,
        chunk_size: int,
        store: bool,
        keys: Sequence[str],
        partition_by: Sequence[str],
        on_conflict: OnConflict,
        commit_every_s: float,
        table: str | None,
        **options: Unpack[StreamOptions],
    ) -> None:
        self.if_exists: IfExists = one_of(if_exists, IF_EXISTS, "if_exists")
        self.on_conflict: OnConflict = one_of(on_conflict, ON_CONFLICT, "on_conflict")
        self.keys = column_names(keys, "keys")
        self.partition_by = column_names(partition_by, "partition_by")
        super().__init__(name, chunk_size=chunk_size, stream_type=stream_type, store=store, table=table, **options)
        if on_conflict == "json" and self.schema_rule == "freeze":
            raise ConfigurationError("on_conflict='json' adds a column _extra, which schema='freeze' forbids; drop one")
        self.commit_every_s = _seconds(commit_every_s)

    @property
    def connected(self) -> bool:
        """Whether the last attempt reached the table."""
        return self._is_connected

    @property
    def identity(self) -> str:
        """The identity of the stream across restarts: the table's place."""
        return self.stream_id or f"{self.stream_type}:{self._place.name}"

    def describe(self) -> str:
        """Return the table's place, for display."""
        return f"{self.stream_type} {self._place.name}"

    def connect(self) -> bool:
        """Reach the table, which is created when the first frame is delivered.

        Returns:
            Whether its place was reached; if not, the log says why.
        """
        self._reached = self._try_to_reach(self._target().connect)
        return self._reached

    def stream(self, data: pd.DataFrame, retry_depth: int = 5) -> None:
        """Journal a frame, and wait until it is in the table, or parked.

        Args:
            data: The frame.
            retry_depth: How often an unavailable table is tried again before the frame is parked below
                ``STORE/upload_failed/<collector>/``. It is delivered first later on.
        """
        self._stream(data, retry_depth)

    def diagnose(self) -> Diagnosis:
        """Reach the table, and say what the user lacks there; nothing is created or changed.

        Raises:
            TargetError: It can't be reached.
        """
        target = self._target()
        try:
            target.connect()
        finally:
            target.close()
        folder = self._place.folder
        return Diagnosis() if folder is None else diagnosis_of_folder(folder, is_file=False)

    def _stand_at(self, place: LakePlace) -> None:
        """Set the table's place, the last part of construction."""
        self._place = place
        self.log_str = f"{self.name} → {self.describe()}"

    def _target_group(self) -> Group:
        return Group(self._place)

    def _target(self, *, table_is_own: bool = False) -> LakeTarget:
        raise NotImplementedError

    def _made(self, kind: Callable[..., _Target], *, table_is_own: bool) -> _Target:
        """Make a target of a kind of lake."""
        if_exists = for_own_table(self.if_exists, table_is_own=table_is_own)
        target = kind(self._place, if_exists, self.schema_rule, self.keys, self.partition_by, self.on_conflict)
        target.rest_s = 0.0 if self.is_store_instance else self.commit_every_s
        return target


def _seconds(said: object) -> float:
    if isinstance(said, int | float) and not isinstance(said, bool) and math.isfinite(said) and said >= 0:
        return said
    raise ConfigurationError(f"commit_every_s must be a number of at least 0, not {said!r}")
