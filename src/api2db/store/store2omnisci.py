"""Store2Omnisci: shards into HeavyDB, formerly OmniSci."""

from typing import Unpack

from api2db.store.store import Store
from api2db.stream._options import LoadOptions, passes_options_to
from api2db.stream.stream2omnisci import Stream2Omnisci


class Store2Omnisci(Store):
    """Composes the shards of a collector and loads them into a table of a HeavyDB (OmniSci) database.

    Each row is loaded exactly once, as long as no other program writes to the table.

    Args:
        table: The table's name; ``<name>_store`` by default, so that no stream shares it.

    The other arguments are those of ``Stream2Omnisci`` and of ``Store``.

    Raises:
        ConfigurationError: An argument can't be used; it is a ValueError.
    """

    @passes_options_to(Stream2Omnisci.__init__)
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
        table: str | None = None,
        port: int | str = "",
        **options: Unpack[LoadOptions],
    ) -> None:
        table = table or f"{name}_store"
        credentials = (username, password, host, auth_path)
        stream = Stream2Omnisci(
            name, db_name, *credentials, protocol, chunk_size, store=True, table=table, port=port, **options
        )
        shards = (path, fmt, drop_duplicate_exclude, move_shards_path, move_composed_path)
        super().__init__(name, seconds, *shards, chunk_size, home=stream.home)
        self._load_into(stream)
