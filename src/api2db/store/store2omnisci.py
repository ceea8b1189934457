"""The Store2Omnisci of the 2021 release: shards into HeavyDB, which was OmniSci."""

import os

from api2db.store.store import Store
from api2db.stream.stream2omnisci import Stream2Omnisci
from api2db.targets.port import SchemaRule


class Store2Omnisci(Store):
    """Composes the shards of a collector and loads them into a table of a HeavyDB (OmniSci) database.

    Each row gets there exactly once, as long as nobody else writes to the table.

    Args:
        table: The table's name; ``<name>_store`` by default, so that no stream shares it.

    The other arguments are those of ``Stream2Omnisci`` and of ``Store``.

    Raises:
        ConfigurationError: An argument can't be used; it is a ValueError.
    """

    def __init__(
        self,
        name: str,
        seconds: float,
        db_name: str,
        username: str | None = None,
        password: str | None = None,
        host: str | None = None,
        auth_path: str | None = None,
        path: str | None = None,
        fmt: str = "parquet",
        drop_duplicate_exclude: list[str] | None = None,
        move_shards_path: str | None = None,
        move_composed_path: str | None = None,
        protocol: str = "binary",
        chunk_size: int = 0,
        *,
        home: str | os.PathLike[str] | None = None,
        schema: SchemaRule = "evolve",
        table: str | None = None,
        port: int | str = "",
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
        self._load_into(
            Stream2Omnisci(
                name,
                db_name,
                username,
                password,
                host,
                auth_path,
                protocol,
                chunk_size,
                store=True,
                home=home,
                schema=schema,
                table=table or f"{name}_store",
                port=port,
            )
        )
