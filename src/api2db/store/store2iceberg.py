"""Store2Iceberg: shards into a table of Iceberg."""

import os
from collections.abc import Mapping
from typing import Unpack

from api2db.store.store import Store
from api2db.stream._options import LoadOptions, passes_options_to
from api2db.stream.stream2iceberg import IcebergOptions, Stream2Iceberg


class IcebergStoreOptions(LoadOptions, IcebergOptions):
    """Options of ``Store2Iceberg``, which passes them on to ``Stream2Iceberg``."""


class Store2Iceberg(Store):
    """Composes the shards of a collector and loads them into a table of Iceberg, each row exactly once.

    Args:
        if_exists: ``"append"``: adds to the table; ``"replace"``: the table holds what the newest round has loaded;
            ``"fail"``: raises if there is a table that this store has not created.

    The other arguments are those of ``Stream2Iceberg`` (the table, and from ``schema`` on) and of ``Store``.

    Raises:
        ConfigurationError: An argument can't be used; it is a ValueError.
    """

    @passes_options_to(Stream2Iceberg.__init__)
    def __init__(
        self,
        name: str,
        seconds: float,
        warehouse: str | os.PathLike[str],
        catalog: Mapping[str, str] | None = None,
        auth_path: str | None = None,
        path: str | None = None,
        fmt: str = "parquet",
        drop_duplicate_exclude: list[str] | None = None,
        move_shards_path: str | None = None,
        move_composed_path: str | None = None,
        if_exists: str = "append",
        chunk_size: int = 0,
        **options: Unpack[IcebergStoreOptions],
    ) -> None:
        stream = Stream2Iceberg(name, warehouse, catalog, auth_path, if_exists, chunk_size, store=True, **options)
        shards = (path, fmt, drop_duplicate_exclude, move_shards_path, move_composed_path)
        super().__init__(name, seconds, *shards, chunk_size, home=stream.home)
        self._load_into(stream)
        self.if_exists = stream.if_exists
