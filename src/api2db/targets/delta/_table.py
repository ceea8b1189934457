"""A table of Delta Lake: its schema, and each change of it as one commit."""

import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from api2db.disk.atomic import make_folders, sync_file, sync_folder
from api2db.errors import BatchRefusedError
from api2db.targets.delta import _ledger
from api2db.targets.delta._location import TableLocation, library, sorted_errors
from api2db.targets.lake import UNDECIDED, LedgerEntry, is_empty, is_exact_as_float, newest_rows
from api2db.targets.port import Column, LedgerRow
from api2db.targets.types import from_delta

logger = logging.getLogger(__name__)
MARK: Final = "api2db"
LARGEST_REWRITE_BYTES = 128 << 20
EXPIRY: Final = "delta.setTransactionRetentionDuration"
_CHECK = "delta.constraints."
_MOST_RETRIES = 100
_USUAL_RETENTION_HOURS = 168

Numbers = Mapping[str, int]


class Table:
    """One version of a table. A commit of ours makes it the version of that commit.

    Args:
        place: Where it is.
        opened: The library's table.
    """

    def __init__(self, place: TableLocation, opened: Any) -> None:
        self._place = place
        self._table = opened
        self._held: tuple[int, str, LedgerRow | None] | None = None  # a stream's ledger in a version
        self.columns: Sequence[Column] = _columns_of(opened.schema())

    @property
    def version(self) -> int:
        """The number of its last commit."""
        return int(self._table.version())

    @property
    def partitioned_by(self) -> tuple[str, ...]:
        """The columns whose values decide in which folder a row is."""
        return tuple(self._table.metadata().partition_columns)

    @property
    def forgets_ledgers(self) -> bool:
        """Whether it is set to drop transaction identifiers after a time."""
        return EXPIRY in self._table.metadata().configuration

    def file_schema(self, columns: Sequence[Column] | None = None) -> pa.Schema:
        """The types in which files have columns: those given, or those of this version."""
        return pa.schema(self._table.schema()) if columns is None else schema_of(columns)

    def ledger(self, stream: str) -> LedgerRow | None:
        """A stream's row of the ledger in this version."""
        if self._held is None or self._held[:2] != (self.version, stream):
            self._held = self.version, stream, _ledger.read(self._number, stream)
        return self._held[2]

    def is_made_by(self, stream: str) -> bool:
        """Whether the stream has created the table."""
        return self._number(_ledger.maker(stream)) is not None

    def add(self, new: Sequence[tuple[str, str]], frame_ns: int) -> None:
        """Add columns, each with its declared type, by one commit that fails if the schema has changed."""
        fields = [_field(name, declared) for name, declared in new]
        properties = library("CommitProperties")(custom_metadata={"api2db_frame_ns": frame_ns})
        self._table.alter.add_columns(fields, commit_properties=properties)
        self._committed()

    def rewrite(self, columns: Sequence[Column]) -> None:
        """Give columns other types, by a commit that writes all rows again; it fails if anything was committed.

        Raises:
            BatchRefusedError: The table is too large for that.
        """
        if (size := self._size_bytes()) > LARGEST_REWRITE_BYTES:
            raise BatchRefusedError(
                f"the table has {size >> 20} MiB, and only tables of up to {LARGEST_REWRITE_BYTES >> 20} MiB are "
                "written again; change the type of its column with another program"
            )
        there = self._table.to_pyarrow_table()
        schema = schema_of(columns)
        rows = pa.table([_cast(there.column(field.name), field.type) for field in schema], schema=schema)
        self._write(rows, "overwrite", None, schema_mode="overwrite", retries=0)

    def append(self, rows: pa.Table, entry: LedgerEntry) -> None:
        """Add rows."""
        self._write(rows, "append", entry)

    def overwrite(self, rows: pa.Table, columns: Sequence[Column] | None, entry: LedgerEntry) -> None:
        """Make rows the whole table, with other columns if they are given."""
        self._write(rows, "overwrite", entry, schema_mode=None if columns is None else "overwrite")

    def note(self, entry: LedgerEntry) -> None:
        """Commit nothing but the ledger."""
        self._write(self.file_schema().empty_table(), "append", entry)

    def merge(
        self,
        rows: pa.Table,
        given: Sequence[str],
        keys: Sequence[str],
        entry: LedgerEntry,
        check: Callable[[], None],
    ) -> None:
        """Replace the rows that have the keys of these, and add the others.

        Args:
            rows: With all columns of the table.
            given: The columns to set in a row that is there; the others stay.
            keys: The columns that identify a row.
            check: Raises if the version that the commit follows forbids it.
        """
        check()
        same = " AND ".join(f"old.{quote(key)} = new.{quote(key)}" for key in keys)
        merger = self._table.merge(
            rows, same, source_alias="new", target_alias="old", commit_properties=_properties(_ledger.numbers(*entry))
        )
        if sets := {quote(name): f"new.{quote(name)}" for name in given if name not in keys}:
            merger = merger.when_matched_update(sets)
        before = self.version
        merger.when_not_matched_insert({quote(name): f"new.{quote(name)}" for name in rows.column_names}).execute()
        if self.version == before:  # the library commits no merge that changes no row
            self.note(entry)
        else:
            self._committed(entry)

    def make_durable(self, stream: str) -> None:
        """Flush the last commit of a stream to the disk; whoever made it may have died before that."""
        folder = self._place.folder
        if folder is None:
            return
        for version in range(self.version, -1, -1):
            entry = _entry(folder, version)
            if not entry.exists():
                return  # a checkpoint has replaced it long ago
            if any(action.get("txn", {}).get("appId") == stream for action in _actions_of(entry)):
                _make_durable(folder, version, is_old=True)
                return

    def optimize(self) -> int:
        """Gather small files; return how many were replaced."""
        before = self.version
        found = self._table.optimize.compact()
        if self.version != before:
            self._committed()
        return int(found["numFilesRemoved"])

    def vacuum(self, hours: int | None, *, dry_run: bool) -> list[str]:
        """Delete files that no version has needed for so many hours; return them."""
        is_short = hours is not None and hours < _USUAL_RETENTION_HOURS
        found = self._table.vacuum(hours, dry_run=dry_run, enforce_retention_duration=not is_short)
        return [str(path) for path in found]

    def has_any(self, rows: pa.Table, keys: Sequence[str]) -> bool:
        """Whether a row with one of these keys is there."""
        first, *_ = keys
        wanted = rows.select(list(keys))
        near = pc.field(first).isin(wanted.column(first).combine_chunks().unique())
        there = self._table.to_pyarrow_dataset().scanner(columns=list(keys), filter=near).to_table()
        common = there.cast(wanted.schema).join(wanted, keys=list(keys), join_type="left semi")
        return bool(common.num_rows)

    def is_empty_of(self, name: str) -> bool:
        """Whether a column has no value."""
        return is_empty(self._batches(name))

    def is_exact_as_float(self, name: str) -> bool:
        """Whether a double holds all integers of a column."""
        return is_exact_as_float(self._batches(name))

    def newest(self, count: int, by: str) -> pa.Table:
        """The rows with the greatest values in a column, the greatest first, in the columns' own types."""
        batches = self._table.to_pyarrow_dataset().to_batches()
        return newest_rows(batches, self.columns, self.file_schema(), count, by)

    def rehearse(self, rows: pa.Table, *, changes_schema: bool) -> None:
        """Write rows into an empty table for a moment, which has the schema and the rules of this one."""
        with tempfile.TemporaryDirectory(prefix="api2db-") as folder:
            made = library("DeltaTable").create(folder, self._table.schema())
            for name, rule in self._table.metadata().configuration.items():
                if name.startswith(_CHECK):
                    made.alter.add_constraint({name.removeprefix(_CHECK): rule})
            schema_mode = "overwrite" if changes_schema else None
            library("write_deltalake")(made, rows, mode="overwrite", schema_mode=schema_mode)

    def _batches(self, name: str) -> Iterator[pa.RecordBatch]:
        yield from self._table.to_pyarrow_dataset().to_batches(columns=[name])

    def _size_bytes(self) -> int:
        actions = pa.table(self._table.get_add_actions())
        return int(pc.sum(actions.column("size_bytes")).as_py() or 0)

    def _write(
        self,
        rows: pa.Table,
        mode: str,
        entry: LedgerEntry | None,
        *,
        schema_mode: str | None = None,
        retries: int = _MOST_RETRIES,
    ) -> None:
        library("write_deltalake")(
            self._table,
            rows,
            mode=mode,
            schema_mode=schema_mode,
            partition_by=list(self.partitioned_by) or None,
            commit_properties=_properties({} if entry is None else _ledger.numbers(*entry), retries),
        )
        self._committed(entry)

    def _number(self, name: str) -> int | None:
        """A transaction identifier of this version."""
        found = self._table.transaction_version(name)
        return None if found is None else int(found)

    def _committed(self, entry: LedgerEntry | None = None) -> None:
        if entry is not None:
            self._held = self.version, *entry
        self.columns = _columns_of(self._table.schema())
        if self._place.folder is not None:
            _make_durable(self._place.folder, self.version)


def opened(place: TableLocation) -> Table | None:
    """Open a table; None if there is none."""
    with sorted_errors(place):
        try:
            return Table(place, library("DeltaTable")(place.uri, storage_options=place.library_options))
        except library("exceptions").TableNotFoundError:
            return None


def create(
    place: TableLocation, columns: Sequence[tuple[str, str]], partition_by: Sequence[str], numbers: Numbers
) -> Table:
    """Create a table by one commit; if somebody else has done so meanwhile, this fails.

    Args:
        columns: Name and declared type of each column.
        partition_by: The columns whose values decide in which folder a row is.
        numbers: Transaction identifiers of the commit.
    """
    if place.folder is not None:
        make_folders(place.folder)
    schema = library("Schema")([_field(name, declared) for name, declared in columns])
    made = library("DeltaTable").create(
        place.uri,
        schema,
        mode="error",
        partition_by=list(partition_by) or None,
        storage_options=place.library_options,
        commit_properties=_properties(numbers),
    )
    table = Table(place, made)
    if place.folder is not None:
        _make_durable(place.folder, table.version)
        sync_folder(place.folder)
    return table


def _cast(values: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    return pa.nulls(len(values), type_) if values.null_count == len(values) else values.cast(type_)


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """The types in which files have columns, with the marks of api2db."""
    return pa.schema(library("Schema")([_field(column.name, column.declared) for column in columns]))


def quote(name: str) -> str:
    """A column's name in the SQL of the library."""
    return '"' + name.replace('"', '""') + '"'


def _field(name: str, declared: str) -> Any:
    plain, _, mark = declared.removesuffix(")").partition(" (")
    return library("Field")(name, plain if mark else declared, nullable=True, metadata={MARK: mark} if mark else {})


def _columns_of(schema: Any) -> list[Column]:
    return [
        Column(field.name, from_delta(declared), declared) for field in schema.fields for declared in [_said(field)]
    ]


def _said(field: Any) -> str:
    """A field's declared type, with the mark of api2db."""
    inner = getattr(field.type, "element_type", None)
    name = getattr(field.type, "type", "struct")
    declared = f"array<{getattr(inner, 'type', 'struct')}>" if name == "array" else str(name)
    mark = field.metadata.get(MARK)
    marked = f"{declared} ({mark})"
    return marked if mark and (marked == UNDECIDED or not pa.types.is_null(from_delta(marked))) else declared


def _properties(numbers: Numbers, retries: int = _MOST_RETRIES) -> Any:
    identifiers = [library("Transaction")(name, number) for name, number in numbers.items()]
    return library("CommitProperties")(max_commit_retries=retries, app_transactions=identifiers or None)


def _make_durable(folder: Path, version: int, *, is_old: bool = False) -> None:
    """Flush a commit and its files to the disk; the library leaves that to the system.

    Args:
        is_old: Whether files may be gone, because others have replaced them since.
    """
    entry = _entry(folder, version)
    added = [folder / unquote(action["add"]["path"]) for action in _actions_of(entry) if "add" in action]
    if is_old:
        added = [path for path in added if path.exists()]
    checkpoint = entry.with_suffix(".checkpoint.parquet")
    checkpoints = [checkpoint, entry.with_name("_last_checkpoint")] if checkpoint.exists() else []
    for path in [*added, *checkpoints, entry]:
        sync_file(path)
    for parent in {entry.parent, *(path.parent for path in added)}:
        sync_folder(parent)


def _entry(folder: Path, version: int) -> Path:
    return folder / "_delta_log" / f"{version:020}.json"


def _actions_of(entry: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in entry.read_text(encoding="utf-8").splitlines()]
