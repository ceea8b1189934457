"""The public stream classes; they put a journal, a target and a worker together."""

from api2db.stream.file_converter import FileConverter
from api2db.stream.status import StreamStatus
from api2db.stream.stream import Stream
from api2db.stream.stream2bigquery import Stream2Bigquery
from api2db.stream.stream2delta import Stream2Delta
from api2db.stream.stream2iceberg import Stream2Iceberg
from api2db.stream.stream2local import Stream2Local
from api2db.stream.stream2omnisci import Stream2Omnisci
from api2db.stream.stream2sql import Stream2Sql

__all__ = [
    "FileConverter",
    "Stream",
    "Stream2Bigquery",
    "Stream2Delta",
    "Stream2Iceberg",
    "Stream2Local",
    "Stream2Omnisci",
    "Stream2Sql",
    "StreamStatus",
]
