"""Store2Bigquery: shards into Google BigQuery."""

from typing import Unpack

from api2db.store.store import Store
from api2db.stream._options import LoadOptions, passes_options_to
from api2db.stream.stream2bigquery import BigqueryOptions, Stream2Bigquery


class BigqueryStoreOptions(LoadOptions, BigqueryOptions):
    """Options of ``Store2Bigquery``, which passes them on to ``Stream2Bigquery``."""


class Store2Bigquery(Store):
    """Composes the shards of a collector and loads them into a table of Google BigQuery, each row exactly once.

    Args:
        if_exists: ``"append"``: adds to the table; ``"replace"``: the table holds what the newest round has loaded;
            ``"fail"``: raises if there is a table that this store has not created.

    The other arguments are those of ``Stream2Bigquery`` (the location, and from ``schema`` on) and of ``Store``.

    Raises:
        ConfigurationError: An argument can't be used; it is a ValueError.
    """

    @passes_options_to(Stream2Bigquery.__init__)
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
        **options: Unpack[BigqueryStoreOptions],
    ) -> None:
        stream = Stream2Bigquery(name, auth_path, pid, did, tid, location, if_exists, chunk_size, store=True, **options)
        shards = (path, fmt, drop_duplicate_exclude, move_shards_path, move_composed_path)
        super().__init__(name, seconds, *shards, chunk_size, home=stream.home)
        self._load_into(stream)
        self.if_exists = stream.if_exists
