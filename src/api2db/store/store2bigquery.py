"""The Store2Bigquery of the 2021 release: shards into Google BigQuery."""

import os
from collections.abc import Sequence

from api2db.store.store import Store
from api2db.stream.stream2bigquery import Stream2Bigquery
from api2db.targets.port import AnyTarget, SchemaRule


class Store2Bigquery(Store):
    """Composes the shards of a collector and loads them into a table of Google BigQuery, each row exactly once.

    Args:
        if_exists: ``"append"``: adds to the table; ``"replace"``: the table is what the newest round has loaded;
            ``"fail"``: raises while there is a table that this store has not made.

    The other arguments are those of ``Stream2Bigquery`` (the place, and from ``schema`` on) and of ``Store``.

    Raises:
        ConfigurationError: An argument can't be used; it is a ValueError.
    """

    def __init__(
        self,
        name: str,
        seconds: float,
        auth_path: str,
        pid: str,
        did: str,
        tid: str,
        path: str | None = None,
        fmt: str = "parquet",
        drop_duplicate_exclude: list[str] | None = None,
        move_shards_path: str | None = None,
        move_composed_path: str | None = None,
        location: str = "US",
        if_exists: str = "append",
        chunk_size: int = 0,
        *,
        home: str | os.PathLike[str] | None = None,
        schema: SchemaRule = "evolve",
        keys: Sequence[str] = (),
        endpoint: str | None = None,
        write_endpoint: str | None = None,
    ) -> None:
        super().__init__(
            name,
            seconds,
            path,
            fmt,
            drop_duplicate_exclude,
            move_shards_path,
            move_composed_path,
            chunk_size,
            home=home,
        )
        self._bigquery = Stream2Bigquery(
            name,
            auth_path,
            pid,
            did,
            tid,
            location,
            if_exists,
            chunk_size,
            store=True,
            home=home,
            schema=schema,
            keys=keys,
            endpoint=endpoint,
            write_endpoint=write_endpoint,
        )
        self._load_into(self._bigquery)
        self.if_exists = self._bigquery.if_exists

    def _target(self) -> AnyTarget | None:
        if self._bigquery.if_exists == "fail" and self._has_stored:
            self._bigquery.if_exists = "append"  # the table that is there is our own
        return super()._target()
