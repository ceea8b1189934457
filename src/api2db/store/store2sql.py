"""The Store2Sql of the 2021 release: shards into SQL databases."""

import os
from collections.abc import Mapping, Sequence

from api2db.store.store import Store
from api2db.stream.stream2sql import Stream2Sql
from api2db.targets.port import AnyTarget, OnConflict, SchemaRule
from api2db.targets.sql import MAX_CONNECTIONS


class Store2Sql(Store):
    """Composes the shards of a collector and loads them into a table of a SQL database, each row exactly once.

    Args:
        if_exists: ``"append"``: adds to the table; ``"replace"``: the table is what the newest round has loaded;
            ``"fail"``: raises while there is a table that this store has not made.

    The other arguments are those of ``Stream2Sql`` (the database, and from ``schema`` on) and of ``Store``.

    Raises:
        ConfigurationError: An argument can't be used; it is a ValueError.
        NotImplementedError: The dialect is oracle or microsoft_sql: known by name, and not supported yet.
    """

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
        *,
        home: str | os.PathLike[str] | None = None,
        schema: SchemaRule = "evolve",
        on_conflict: OnConflict = "reject",
        table: str | None = None,
        keys: Sequence[str] = (),
        tls: str | Mapping[str, str] | None = None,
        engine: str | None = None,
        iam: bool = False,
        region: str | None = None,
        max_connections: int = MAX_CONNECTIONS,
        table_schema: str | None = None,
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
        self._sql = Stream2Sql(
            name,
            db_name,
            dialect,
            username,
            password,
            host,
            auth_path,
            port,
            if_exists,
            chunk_size,
            store=True,
            home=home,
            schema=schema,
            on_conflict=on_conflict,
            table=table,
            keys=keys,
            tls=tls,
            engine=engine,
            iam=iam,
            region=region,
            max_connections=max_connections,
            table_schema=table_schema,
        )
        self._load_into(self._sql)
        self.if_exists = self._sql.if_exists

    def _target(self) -> AnyTarget | None:
        if self._sql.if_exists == "fail" and self._has_stored:
            self._sql.if_exists = "append"  # the table that is there is our own
        return super()._target()
