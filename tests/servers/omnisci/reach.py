"""A HeavyDB as a test reaches it: the one of the tests, or a real one that somebody has named."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import heavydb


@dataclass(frozen=True)
class Reach:
    """Where it is, and who asks."""

    user: str
    password: str
    host: str
    port: int
    database: str
    protocol: str = "binary"

    @property
    def options(self) -> dict[str, Any]:
        """As Stream2Omnisci has them."""
        who = {"username": self.user, "password": self.password, "host": self.host, "port": self.port}
        return {"db_name": self.database, **who, "protocol": self.protocol}

    @contextmanager
    def client(self) -> Iterator[heavydb.Connection]:
        """The client's own connection."""
        connection = heavydb.connect(
            user=self.user,
            password=self.password,
            host=self.host,
            port=self.port,
            dbname=self.database,
            protocol=self.protocol,
        )
        try:
            yield connection
        finally:
            connection.close()
            connection._transport.close()  # which it leaves open

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """The rows of the last of some statements."""
        rows: list[tuple[Any, ...]] = []
        with self.client() as client:
            for statement in statements:
                rows = list(client.execute(statement))
        return rows

    def columns(self, table: str) -> dict[str, Any]:
        """A table's columns, and what the server says of their types; none where there is no table."""
        with self.client() as client:
            if table not in client._client.get_tables(client._session):
                return {}
            details = client._client.get_table_details(client._session, table)
        return {column.col_name: column.col_type for column in details.row_desc}

    def rows(self, table: str) -> list[dict[str, Any]]:
        """What a table holds, in the order in which it went in; none where there is no table."""
        names = list(self.columns(table))
        if not names:
            return []
        listed = ", ".join(f'"{name}"' for name in names)
        return [
            dict(zip(names, row, strict=True)) for row in self.execute(f'SELECT {listed} FROM "{table}" ORDER BY rowid')
        ]

    def drop(self, table: str) -> None:
        with suppress(heavydb.Error):
            self.execute(f'DROP TABLE "{table}"')


def given(url: str) -> Reach:
    """A server by its address: ``heavydb://user:password@host:port/database?protocol=binary``."""
    parts = urlsplit(url)
    protocol = parse_qs(parts.query).get("protocol", ["binary"])[0]
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return Reach(user, password, parts.hostname or "", parts.port or 6274, parts.path.lstrip("/"), protocol)
