"""Load an API's rows into files and databases: on disk before they are acknowledged, and exactly once."""

import importlib
import logging
import sys
import typing

if sys.platform == "win32":
    raise ImportError(
        "api2db does not run on Windows, whose file locks and fsync differ: use it in WSL 2 or a container"
    )

if typing.TYPE_CHECKING:
    from api2db.app.run import Run
    from api2db.errors import Api2dbError
    from api2db.ingest import Collector
    from api2db.store import Store, Store2Bigquery, Store2Delta, Store2Iceberg, Store2Local, Store2Omnisci, Store2Sql
    from api2db.stream.file_converter import FileConverter
    from api2db.stream.stream import Stream
    from api2db.stream.stream2bigquery import Stream2Bigquery
    from api2db.stream.stream2delta import Stream2Delta
    from api2db.stream.stream2iceberg import Stream2Iceberg
    from api2db.stream.stream2local import Stream2Local
    from api2db.stream.stream2omnisci import Stream2Omnisci
    from api2db.stream.stream2sql import Stream2Sql

    __version__: str

__all__ = [
    "AlertCommand",
    "Api2dbError",
    "Collector",
    "FileConverter",
    "Run",
    "Store",
    "Store2Bigquery",
    "Store2Delta",
    "Store2Iceberg",
    "Store2Local",
    "Store2Omnisci",
    "Store2Sql",
    "Stream",
    "Stream2Bigquery",
    "Stream2Delta",
    "Stream2Iceberg",
    "Stream2Local",
    "Stream2Omnisci",
    "Stream2Sql",
    "Webhook",
    "__version__",
]

# pandas takes most of a second to import, which `api2db --help` has not: a name is imported when it is first asked for.
_HOMES = {
    "AlertCommand": "api2db.app.alerts",
    "Api2dbError": "api2db.errors",
    "Collector": "api2db.ingest",
    "FileConverter": "api2db.stream.file_converter",
    "Run": "api2db.app.run",
    "Store": "api2db.store",
    "Store2Bigquery": "api2db.store",
    "Store2Delta": "api2db.store",
    "Store2Iceberg": "api2db.store",
    "Store2Local": "api2db.store",
    "Store2Omnisci": "api2db.store",
    "Store2Sql": "api2db.store",
    "Stream": "api2db.stream.stream",
    "Stream2Bigquery": "api2db.stream.stream2bigquery",
    "Stream2Delta": "api2db.stream.stream2delta",
    "Stream2Iceberg": "api2db.stream.stream2iceberg",
    "Stream2Local": "api2db.stream.stream2local",
    "Stream2Omnisci": "api2db.stream.stream2omnisci",
    "Stream2Sql": "api2db.stream.stream2sql",
    "Webhook": "api2db.app.alerts",
}

logging.getLogger("api2db").addHandler(logging.NullHandler())


def __getattr__(name: str) -> typing.Any:
    if name == "__version__":
        from importlib.metadata import version  # takes 50 ms to import

        return version("api2db")
    if name not in _HOMES:
        raise AttributeError(f"module 'api2db' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, "__version__"})
