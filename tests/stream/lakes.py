"""Tables of lakes, as more targets of the suites. They are read by what their logs say, not by the library of ours."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
import pyarrow.parquet
from deltalake import DeltaTable, Field, Schema
from deltalake.schema import ArrayType, PrimitiveType
from pyiceberg.catalog import load_catalog
from pyiceberg.schema import Schema as IcebergSchema
from pyiceberg.types import ListType, NestedField

from api2db import Stream2Delta, Stream2Iceberg
from tests.stream.databases import COLLECTOR

DELTA = "LAKE/flights"
ICEBERG = "LAKE"
_DELETED: Final = 2


def stream_into_delta(home: Path, **options: Any) -> Stream2Delta:
    return Stream2Delta(**{"name": COLLECTOR, "uri": DELTA, "home": home, **options})


def make_delta_table(home: Path, columns: Mapping[str, Any]) -> None:
    """Create a table as another program does; a list is an array of its item's type."""
    fields = [
        Field(name, ArrayType(PrimitiveType(type_[0])) if isinstance(type_, list) else type_)
        for name, type_ in columns.items()
    ]
    DeltaTable.create(home / DELTA, Schema(fields))


def delta_rows(home: Path, folder: str = DELTA) -> list[dict[str, Any]]:
    return list(delta_table(home / folder).to_pylist())


def delta_table(folder: Path) -> pa.Table:
    """Read the files that the log of a table names, in the order in which they were added."""
    schema, partitioned_by, files = _replayed(folder)
    tables = [pa.parquet.ParquetFile(folder / unquote(path)).read() for path in files]
    read = [_with_folder(table, files[path], partitioned_by) for table, path in zip(tables, files, strict=True)]
    names = [field["name"] for field in schema]
    found = pa.concat_tables(read, promote_options="default") if read else pa.table({name: [] for name in names})
    lacking = [name for name in names if name not in found.column_names]
    for name in lacking:
        found = found.append_column(name, pa.nulls(found.num_rows))
    return found.select(names)


def delta_types(folder: Path) -> dict[str, str]:
    return {field["name"]: str(field["type"]) for field in _replayed(folder)[0]}


def _with_folder(table: pa.Table, values: dict[str, Any], partitioned_by: list[str]) -> pa.Table:
    for name in partitioned_by:
        table = table.append_column(name, pa.array([values[name]] * table.num_rows, pa.string()))
    return table


def _replayed(folder: Path) -> tuple[list[dict[str, Any]], list[str], dict[str, dict[str, Any]]]:
    """The schema, the partition columns, and the live files with their partition values."""
    fields: list[dict[str, Any]] = []
    partitioned_by: list[str] = []
    files: dict[str, dict[str, Any]] = {}
    for action in _actions(folder):
        if "metaData" in action:
            fields = json.loads(action["metaData"]["schemaString"])["fields"]
            partitioned_by = action["metaData"]["partitionColumns"]
        elif "add" in action:
            assert action["add"]["path"] not in files
            files[action["add"]["path"]] = action["add"]["partitionValues"]
        elif "remove" in action:
            del files[action["remove"]["path"]]
    return fields, partitioned_by, files


def _actions(folder: Path) -> Iterator[dict[str, Any]]:
    for number, entry in enumerate(sorted((folder / "_delta_log").glob("*.json"))):
        assert entry.name == f"{number:020}.json"
        removals_last = sorted(
            map(json.loads, entry.read_text(encoding="utf-8").splitlines()), key=lambda a: "add" in a
        )
        yield from removals_last


def stream_into_iceberg(home: Path, **options: Any) -> Stream2Iceberg:
    return Stream2Iceberg(**{"name": COLLECTOR, "warehouse": ICEBERG, "home": home, **options})


def iceberg_catalog(home: Path) -> Any:
    """The library's own catalogue of the tables, as another program opens it."""
    warehouse = home / ICEBERG
    warehouse.mkdir(parents=True, exist_ok=True)
    return load_catalog("default", type="sql", uri=f"sqlite:///{warehouse}/catalog.db", warehouse=f"file://{warehouse}")


def make_iceberg_table(home: Path, columns: Mapping[str, Any]) -> None:
    """Create a table as another program does; a list is one of its item's type."""
    fields = [
        NestedField(
            number, name, ListType(100 + number, type_[0], element_required=False) if isinstance(type_, list) else type_
        )
        for number, (name, type_) in enumerate(columns.items(), 1)
    ]
    catalog = iceberg_catalog(home)
    catalog.create_namespace_if_not_exists("default")
    catalog.create_table(("default", COLLECTOR), IcebergSchema(*fields))


def iceberg_rows(home: Path, warehouse: str = ICEBERG) -> list[dict[str, Any]]:
    return list(iceberg_table(home / warehouse).to_pylist())


def iceberg_types(home: Path) -> dict[str, str]:
    return {field["name"]: field["type"] for field in _schema_of(_metadata(home / ICEBERG))}


def iceberg_table(warehouse: Path) -> pa.Table:
    """Read the files that the newest snapshot names, in the order in which they were added, without the library."""
    metadata = _metadata(warehouse)
    fields = _schema_of(metadata)
    read = [_by_field(pa.parquet.ParquetFile(path).read(), fields) for path in _data_files(metadata)]
    names = [field["name"] for field in fields]
    return pa.concat_tables(read, promote_options="permissive") if read else pa.table({name: [] for name in names})


def _by_field(held: pa.Table, fields: list[dict[str, Any]]) -> pa.Table:
    """A file's rows under the present names of its columns, which the numbers of fields tell."""
    numbers = [int(field.metadata[b"PARQUET:field_id"]) for field in held.schema]
    columns = dict(zip(numbers, held.columns, strict=True))
    return pa.table({field["name"]: columns.get(field["id"], pa.nulls(held.num_rows)) for field in fields})


def _schema_of(metadata: Any) -> list[dict[str, Any]]:
    schemas = {schema["schema-id"]: schema["fields"] for schema in metadata["schemas"]}
    return list(schemas[metadata["current-schema-id"]])


def _metadata(warehouse: Path) -> Any:
    """The newest metadata of the one table that a warehouse has, or that of an empty one."""
    if (warehouse / "catalog.db").exists():
        with closing(sqlite3.connect(warehouse / "catalog.db")) as catalog:
            has_tables = catalog.execute("SELECT 1 FROM sqlite_schema WHERE name = 'iceberg_tables'").fetchall()
            found = catalog.execute("SELECT metadata_location FROM iceberg_tables").fetchall() if has_tables else []
        for (location,) in found:
            return json.loads(_path(location).read_text(encoding="utf-8"))
    return {"schemas": [{"schema-id": 0, "fields": []}], "current-schema-id": 0, "snapshots": []}


def _data_files(metadata: Any) -> list[Path]:
    snapshots = {snapshot["snapshot-id"]: snapshot for snapshot in metadata["snapshots"]}
    if (current := metadata.get("current-snapshot-id")) not in snapshots:
        return []
    if snapshots[current]["summary"]["total-data-files"] == "0":
        return []  # polars reads no Avro file without a block
    found = []
    for manifest in pl.read_avro(_path(snapshots[current]["manifest-list"])).to_dicts():
        for place, entry in enumerate(pl.read_avro(_path(manifest["manifest_path"])).to_dicts()):
            if entry["status"] != _DELETED:
                number = entry["sequence_number"]
                order = manifest["sequence_number"] if number is None else number
                found.append((order, place, _path(entry["data_file"]["file_path"])))
    paths = [path for *_, path in sorted(found)]
    assert len({*paths}) == len(paths)
    return paths


def _path(location: str) -> Path:
    return Path(location.removeprefix("file://"))
