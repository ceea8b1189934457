"""Tables of lakes, as more targets of the suites. They are read by what their logs say, not by the library of ours."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet
from deltalake import DeltaTable, Field, Schema
from deltalake.schema import ArrayType, PrimitiveType

from api2db import Stream2Delta
from tests.stream.databases import COLLECTOR

DELTA = "LAKE/flights"


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
