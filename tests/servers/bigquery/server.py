"""The server as tests see it: start it, give it key files, set its switches, ask what its tables hold."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.servers.bigquery.accounts import Accounts
from tests.servers.bigquery.catalog import Catalog, quote
from tests.servers.bigquery.faults import Faults
from tests.servers.bigquery.rest import RestApi
from tests.servers.bigquery.write_api import WriteApi

PROJECT = "api2db-tests"


@dataclass
class BigqueryServer:
    """A running server; a context manager.

    Attributes:
        faults: Lets calls fail.
        catalog: What it holds.
        write_api: The gRPC service.
        rest: The REST interface.
    """

    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        self.accounts = Accounts(PROJECT)
        self.catalog = Catalog(PROJECT)
        self.rest = RestApi(self.catalog, self.accounts, self.faults)
        self.write_api = WriteApi(self.catalog, self.faults, self.rest.port + 10)  # as the emulator has its two

    def __enter__(self) -> Self:
        self.rest.start()
        self.write_api.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.write_api.stop()
        self.rest.stop()
        self.catalog.database.close()
        del self.catalog.database

    def clear(self) -> None:
        """Forget all data, and set every switch back."""
        self.faults.heal()
        self.faults.calls.clear()
        self.faults.met.clear()
        self.accounts.demanded = False
        self.rest.forbidden.clear()
        self.write_api.forbidden = False
        self.write_api.ends_at = None
        self.catalog.clear()

    @property
    def url(self) -> str:
        return self.rest.url

    @property
    def write_address(self) -> str:
        return f"127.0.0.1:{self.write_api.port}"

    def key_file(self, path: Path, *, known: bool = True) -> Path:
        """Write the key file of a new account."""
        return self.accounts.new_key_file(path, f"{self.url}/token", known=known)

    def rows(self, dataset: str, table: str) -> list[dict[str, Any]]:
        """What a table holds, in the order in which it went in; nothing where there is none."""
        if (dataset, table) not in self.catalog.tables:
            return []
        names = [each["name"] for each in self.catalog.tables[dataset, table].fields]
        found = self.catalog.ask(f"SELECT * FROM {quote(dataset)}.{quote(table)} ORDER BY rowid")
        return [dict(zip(names, row, strict=True)) for row in found]

    def types(self, dataset: str, table: str) -> dict[str, str]:
        """The columns of a table with their types; a repeated one's ends in ``[]``."""
        fields = self.catalog.table(dataset, table).fields
        return {each["name"]: each["type"] + ("[]" if each.get("mode") == "REPEATED" else "") for each in fields}
