"""Stream2Bigquery, which loads frames into tables of Google BigQuery."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import pandas as pd
import pyarrow as pa

from api2db.delivery import Group
from api2db.errors import ConfigurationError, from_extra
from api2db.stream._options import (
    IF_EXISTS,
    StreamOptions,
    column_names,
    for_own_table,
    one_of,
    passes_options_to,
)
from api2db.stream.stream import Stream
from api2db.targets.bigquery import emulator_address
from api2db.targets.port import IfExists, LedgerTarget, SteppedTarget
from api2db.targets.types import BIGQUERY

if TYPE_CHECKING:
    from google.cloud import bigquery
    from google.oauth2 import service_account

    from api2db.targets.bigquery.target import BigqueryTarget

_NAMED = {"pid": "project", "did": "data set", "tid": "table"}
_PLACES = {
    "pid": re.compile(r"[a-z0-9.:-]+"),
    "did": re.compile(r"[A-Za-z0-9_]{1,1024}"),
    "tid": re.compile(r"[^\x00-\x1f./`*?\"'\\$@:;,]{1,1024}"),
}


class BigqueryOptions(TypedDict, total=False):
    """Options of streams and stores into BigQuery; ``Stream2Bigquery`` describes them."""

    keys: Sequence[str]
    endpoint: str | None
    write_endpoint: str | None


class Stream2Bigquery(Stream):
    """Loads the frames of a collector into a table of Google BigQuery, exactly once.

    Args:
        name: The collector's name.
        auth_path: The key file of a Google service account; a relative path is below the project's folder. With an
            emulator it is not read.
        pid: The Google project.
        did: The data set; it is created if it is missing.
        tid: The table; it is created if it is missing.
        location: Where Google keeps a data set that is created, and runs its jobs.
        if_exists: ``"append"``: adds to the table; ``"replace"``: the table is the newest frame; ``"fail"``: waits
            while there is a table that this stream has not made.
        chunk_size: The most rows of one plan; 0 for no limit.
        store: Whether it serves a Store; then it has no worker.
        keys: A row replaces the one with the same values in these columns; the last one wins. Without keys, rows are
            added.
        endpoint: The REST address of an emulator of BigQuery, such as ``localhost:9050``; by default the environment
            variable ``BIGQUERY_EMULATOR_HOST``, and Google's BigQuery without that. An emulator gets no credentials.
        write_endpoint: The emulator's gRPC address, host and port; by default the host of ``endpoint``, ten ports
            higher.

    The other arguments are those of ``Stream``.

    Raises:
        ConfigurationError: An argument can't be used; it is a ValueError.

    Attributes:
        schema: The columns of a new table, once the collector's dtypes are known, else None.
        bq_schema: The same as dicts.
        cred: The credentials, after ``connect`` has been called, else None.
        client: Google's client, likewise.
        dataset: The data set, likewise.
        table: The table, likewise; also None while it does not exist.
        connected: Whether the last attempt reached BigQuery.
        endpoint: The emulator's REST address, with its scheme; None for Google's BigQuery.
    """

    @passes_options_to(Stream.__init__)
    def __init__(
        self,
        name: str,
        auth_path: str,
        pid: str,
        did: str,
        tid: str,
        location: str = "US",
        if_exists: str = "append",
        chunk_size: int = 0,
        store: bool = False,
        *,
        keys: Sequence[str] = (),
        endpoint: str | None = None,
        write_endpoint: str | None = None,
        **options: Unpack[StreamOptions],
    ) -> None:
        self.if_exists: IfExists = one_of(if_exists, IF_EXISTS, "if_exists")
        for what, place in (("pid", pid), ("did", did), ("tid", tid)):
            if not _PLACES[what].fullmatch(str(place)):
                raise ConfigurationError(f"{what} can't be {place!r}: that is not a valid {_NAMED[what]} name")
        self.endpoint = emulator_address(endpoint)
        if write_endpoint and not self.endpoint:
            raise ConfigurationError("write_endpoint is an emulator's: give its endpoint, too")
        self.keys = column_names(keys, "keys")
        super().__init__(name, chunk_size=chunk_size, stream_type="bigquery", store=store, table=tid, **options)
        self.auth_path = auth_path
        self.pid, self.did, self.tid = pid, did, tid
        self.location = location
        self.write_endpoint = write_endpoint
        self.log_str = f"{self.name} → {self.describe()}"
        self.cred: service_account.Credentials | None = None
        self.client: bigquery.Client | None = None
        self.dataset: bigquery.Dataset | None = None
        self.table: bigquery.Table | None = None

    @property
    def schema(self) -> "list[bigquery.SchemaField] | None":
        """The columns of a new table, once the collector's dtypes are known."""
        return self.build_schema()

    @property
    def bq_schema(self) -> list[dict[str, Any]] | None:
        """The same as dicts."""
        return self.build_bq_schema()

    @property
    def connected(self) -> bool:
        """Whether the last attempt reached BigQuery."""
        return self._is_connected

    @property
    def identity(self) -> str:
        """The identity of the stream across restarts: the table, and the emulator if it is not Google's."""
        emulator = f"@{self.endpoint}" if self.endpoint else ""
        return self.stream_id or f"bigquery:{self.pid}.{self.did}.{self.tid}{emulator}"

    def describe(self) -> str:
        """Return the table's name, for display."""
        emulator = f" on the emulator {self.endpoint}" if self.endpoint else ""
        return f"bigquery {self.pid}.{self.did}.{self.tid}{emulator}"

    def connect(self) -> bool:
        """Reach BigQuery: create or load the data set, and load the table, or create it if its columns are known.

        If a dtype does not determine a column's type, the column is created when its first value arrives; dicts and
        lists are text there. With ``if_exists="fail"`` the table is created when the first frame is delivered, so that
        it is recognized as the stream's own.

        Returns:
            Whether BigQuery was reached; if not, the log says why.
        """
        self._reached = self._try_to_reach(self._connect)
        return self._reached

    def stream(self, data: pd.DataFrame, retry_depth: int = 5) -> None:
        """Journal a frame, and wait until it is in the table, or parked.

        Args:
            data: The frame.
            retry_depth: How often BigQuery is tried again, if it is unavailable, before the frame is parked in
                ``STORE/upload_failed/<collector>/bigquery/<timestamp_ns>.parquet``. It is delivered first later on.
        """
        self._stream(data, retry_depth)

    def build_schema(self) -> "list[bigquery.SchemaField] | None":
        """Return the columns of a new table for the dtypes of the collector's frames; None if none are known.

        Raises:
            MissingExtraError: Google's library is not installed.
        """
        if not self.dtypes:
            return None
        _google()
        from api2db.targets.bigquery.columns import field_of

        return [field_of(name, type_ or "STRING", undecided=type_ is None) for name, type_ in self._types().items()]

    def build_bq_schema(self) -> list[dict[str, Any]] | None:
        """Return the same columns as dicts of name and type, as ``DataFrame.to_gbq`` takes them."""
        if not self.dtypes:
            return None
        return [{"name": name, "type": (type_ or "STRING").partition(" ")[0]} for name, type_ in self._types().items()]

    def _types(self) -> dict[str, str | None]:
        """Return a type by column; None for a dtype such as ``object``, which dates, decimals and dicts have too."""
        empty = {
            str(name): pa.Array.from_pandas(pd.Series([], dtype=dtype)) for name, dtype in (self.dtypes or {}).items()
        }
        return {name: BIGQUERY.column(array.type) for name, array in empty.items()}

    def _connect(self) -> None:
        _, table = _google()
        target = self._new_target(self.if_exists)
        try:
            self.dataset = table.load_dataset(target.clients)
            found = table.Table(target.clients)
            self.table = found.resource()
            schema = self.schema
            if self.table is None and schema and self.if_exists != "fail":  # Its worker creates the table, as its own.
                found.create(schema, {})
                self.table = found.resource()
            self.cred, self.client = target.clients.credentials, target.clients.rest
        except BaseException:
            target.close()
            raise

    def _target_group(self) -> Group:
        return Group((self.pid, self.did, self.endpoint, self.write_endpoint))

    def _target(self, *, table_is_own: bool = False) -> SteppedTarget | LedgerTarget:
        if_exists = for_own_table(self.if_exists, table_is_own=table_is_own)
        if not self.keys or if_exists == "replace":
            return self._new_target(if_exists)
        _google()
        from api2db.targets.bigquery.keyed import BigqueryKeyedTarget

        return BigqueryKeyedTarget(self._place(), if_exists, self.schema_rule, self.keys)

    def _new_target(self, if_exists: IfExists) -> "BigqueryTarget":
        target, _ = _google()
        made: BigqueryTarget = target.BigqueryTarget(self._place(), if_exists, self.schema_rule, self.keys)
        return made

    def _place(self) -> Any:
        target, _ = _google()
        return target.TableLocation(
            self.home / Path(self.auth_path),
            self.pid,
            self.did,
            self.tid,
            self.location,
            self.endpoint,
            self.write_endpoint,
        )


def _google() -> tuple[Any, Any]:
    with from_extra("google-cloud-bigquery", "bigquery"):
        from api2db.targets.bigquery import table, target
    return target, table
