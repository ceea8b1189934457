"""Store2Sql: shards into SQL databases."""

from typing import Unpack

from api2db.store.store import Store
from api2db.stream._options import LoadOptions, passes_options_to
from api2db.stream.stream2sql import SqlOptions, Stream2Sql


class SqlStoreOptions(LoadOptions, SqlOptions):
    """Options of ``Store2Sql``, which passes them on to ``Stream2Sql``."""


class Store2Sql(Store):
    """Composes the shards of a collector and loads them into a table of a SQL database, each row exactly once.

    Args:
        if_exists: ``"append"``: adds to the table; ``"replace"``: the table holds what the newest round has loaded;
            ``"fail"``: raises if there is a table that this store has not created.

    The other arguments are those of ``Stream2Sql`` (the database, and from ``schema`` on) and of ``Store``.

    Raises:
        ConfigurationError: An argument can't be used; it is a ValueError.
    """

    @passes_options_to(Stream2Sql.__init__)
    def __init__(
        self,
        name: str,
        seconds: float,
        db_name: str,
        dialect: str,
        username: str | None = None,
        password: str | None = None,
        host: str | None = None,
        auth_path: str | None = None,
        port: str = "",
        path: str | None = None,
        fmt: str = "parquet",
        drop_duplicate_exclude: list[str] | None = None,
        move_shards_path: str | None = None,
        move_composed_path: str | None = None,
        if_exists: str = "append",
        chunk_size: int = 0,
        **options: Unpack[SqlStoreOptions],
    ) -> None:
        credentials = (username, password, host, auth_path)
        stream = Stream2Sql(name, db_name, dialect, *credentials, port, if_exists, chunk_size, store=True, **options)
        shards = (path, fmt, drop_duplicate_exclude, move_shards_path, move_composed_path)
        super().__init__(name, seconds, *shards, chunk_size, home=stream.home)
        self._load_into(stream)
        self.if_exists = stream.if_exists
