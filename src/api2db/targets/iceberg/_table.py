"""A table of Iceberg: its schema, its ledger, and each change of it as one commit."""

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import pyarrow as pa

from api2db.errors import BatchRefusedError, LedgerMovedError, TableChangedError, TargetUnavailableError
from api2db.targets.iceberg._catalog import CommitConflictError
from api2db.targets.iceberg._merge import Replaced, merged, near
from api2db.targets.iceberg._place import CatalogPlace, library
from api2db.targets.lake import UNDECIDED, LedgerEntry, is_empty, is_exact_as_float, newest_rows
from api2db.targets.port import Column, LedgerRow
from api2db.targets.types import from_iceberg

LARGEST_REWRITE_BYTES = 128 << 20
_MARK: Final = "api2db: "
_LEDGER: Final = "api2db.ledger."
_MAKER: Final = "api2db.maker"
_MOST_ATTEMPTS = 100
_LONGEST_PAUSE_S = 1.0
# Each commit writes the metadata again, and adds a manifest; without these, old ones would fill the disk.
_PROPERTIES = {
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    "commit.manifest-merge.enabled": "true",
}
_PROMOTIONS = {("int", "long"), ("float", "double")}


class Table:
    """One version of a table. A commit of ours makes it the version of that commit.

    Args:
        place: Where it is.
        opened: The library's table, of a guarded catalogue.
    """

    def __init__(self, place: CatalogPlace, opened: Any) -> None:
        self._place = place
        self._table = opened
        self.columns: Sequence[Column] = _columns_of(opened.schema())

    @property
    def library_table(self) -> Any:
        """The library's table."""
        return self._table

    @property
    def partitioned_by(self) -> tuple[str, ...]:
        """The columns whose values decide in which folder a row is."""
        schema = self._table.schema()
        return tuple(schema.find_column_name(field.source_id) for field in self._table.spec().fields)

    def ledger(self, stream: str) -> LedgerRow | None:
        """A stream's row of the ledger in this version.

        The newest snapshot that has one decides, so that a table that was rolled back has the position of that time.
        The property counts if that snapshot has expired.
        """
        name, metadata = _LEDGER + stream, self._table.metadata
        for snapshot in _ancestors(metadata):
            if said := snapshot.summary and snapshot.summary[name]:
                return _row(said)
        said = metadata.properties.get(name)
        if said is None or metadata.snapshot_by_id(json.loads(said)["snapshot"]) is not None:
            return None
        return _row(said)

    def is_made_by(self, stream: str) -> bool:
        """Whether the stream has created the table."""
        return bool(self._table.properties.get(_MAKER) == stream)

    def make_durable(self, _stream: str) -> None:
        """Flush our own catalogue; files are flushed when they are closed."""
        self._table.catalog.flush()

    def file_schema(self, columns: Sequence[Column] | None = None) -> pa.Schema:
        """The types in which files have columns: those given, or those of this version."""
        required = {field.name for field in self._table.schema().fields if field.required}
        return pa.schema(
            pa.field(column.name, type_, nullable=column.name not in required)
            for column in (self.columns if columns is None else columns)
            if not pa.types.is_null(type_ := _stored_type(column))
        )

    def add(self, new: Sequence[tuple[str, str]], _frame_ns: int) -> None:
        """Add columns, each with its declared type, by one commit that fails if the schema has changed."""
        self.commit(lambda draft: draft.change_schema([], new))

    def rewrite(self, columns: Sequence[Column]) -> None:
        """Give columns other types by one commit, which writes all rows again where that is needed.

        Raises:
            BatchRefusedError: The table is too large for that.
            TableChangedError: A column that was created for nulls has values by now.
        """
        changes = [(old, new) for old, new in zip(self.columns, columns, strict=True) if old != new]
        promoted = [new for old, new in changes if _is_promotion(old.declared, new.declared)]
        others = [(old, new) for old, new in changes if new not in promoted]
        undecided = [old.name for old, _ in others if old.declared == UNDECIDED]

        def stage(draft: Draft) -> None:
            draft.promote(promoted)
            # Their values go with the old column, and a commit that came first may have brought some.
            if not all(map(self.is_empty_of, undecided)):
                raise TableChangedError(f"another program wrote to {self._place.name} in a column without values")
            if others:
                tasks = list(self._table.scan().plan_files())
                rows = None if len(undecided) == len(others) else self._all_rows(tasks, columns)
                draft.change_schema([old.name for old, _ in others], [(new.name, new.declared) for _, new in others])
                if rows is not None:
                    self._replace(draft, [Replaced(task.file) for task in tasks], rows)

        self.commit(stage)

    def append(self, rows: pa.Table, entry: LedgerEntry) -> None:
        """Add rows."""
        self._check_required(rows)
        files = self.write(self._table.metadata, rows)
        self.commit(lambda draft: draft.replace([], files), entry)

    def overwrite(self, rows: pa.Table, columns: Sequence[Column] | None, entry: LedgerEntry) -> None:
        """Make rows the whole table, with other columns if they are given."""

        def stage(draft: Draft) -> None:
            replaced = [Replaced(task.file) for task in self._table.scan().plan_files()]
            if columns is not None:
                before = {column.name: column.declared for column in self.columns}
                after = {column.name: column.declared for column in columns}
                gone = [name for name, declared in before.items() if after.get(name) != declared]
                new = [(name, declared) for name, declared in after.items() if before.get(name) != declared]
                draft.change_schema(gone, new)
            self._replace(draft, replaced, rows)

        if columns is None:
            self._check_required(rows)
        self.commit(stage, entry)

    def note(self, entry: LedgerEntry) -> None:
        """Commit nothing but the ledger."""
        self.commit(lambda draft: draft.replace([], []), entry)

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

        def stage(draft: Draft) -> None:
            check()
            there = self.read_by_file(self._table.scan(near(rows, keys)).plan_files())
            whole, replaced = merged(there, rows, given, keys)
            self._check_required(whole)
            self._replace(draft, replaced, whole)

        self.commit(stage, entry)

    def has_any(self, rows: pa.Table, keys: Sequence[str]) -> bool:
        """Whether a row with one of these keys is there."""
        there = self.read_by_file(self._table.scan(near(rows, keys)).plan_files())
        return bool(merged(there, rows.select(list(keys)), keys, keys)[1])

    def is_empty_of(self, name: str) -> bool:
        """Whether a column has no value."""
        return is_empty(self._batches(name))

    def is_exact_as_float(self, name: str) -> bool:
        """Whether a double holds all integers of a column."""
        return is_exact_as_float(self._batches(name))

    def newest(self, count: int, by: str) -> pa.Table:
        """The rows with the greatest values in a column, the greatest first, in the columns' own types."""
        batches = self._table.scan().to_arrow_batch_reader()
        return newest_rows(batches, self.columns, self.file_schema(), count, by)

    def rehearse(self, rows: pa.Table, *, changes_schema: bool) -> None:
        """Raise as a commit of rows would, without one."""
        if not changes_schema:
            self._check_required(rows)

    def commit(self, stage: Callable[["Draft"], None], entry: LedgerEntry | None = None) -> None:
        """Make one commit. If another one comes first, prepare it again on that one, unless that has our ledger.

        Raises:
            LedgerMovedError: Another commit has moved the stream's ledger.
            TableChangedError: Another commit has changed the columns.
        """
        from api2db.targets.iceberg._transaction import FrugalTransaction

        before = None if entry is None else self.ledger(entry.stream)
        failed: list[Draft] = []
        kept: set[str] = set()
        try:
            for attempt in range(_MOST_ATTEMPTS):
                draft = Draft(FrugalTransaction(self._table), entry)
                stage(draft)
                try:
                    draft.commit()
                except CommitConflictError:
                    failed.append(draft)
                    self._follow(entry, before)
                    time.sleep(random.uniform(0, min(_LONGEST_PAUSE_S, 0.01 * 2**attempt)))  # noqa: S311 - no secret
                else:
                    kept = draft.data_files
                    self.columns = _columns_of(self._table.schema())
                    return
        finally:
            self._delete_files_of(failed, kept)
        raise TargetUnavailableError(f"{self._place.name}: others commit all the time, so that no commit was possible")

    def _delete_files_of(self, failed: Sequence["Draft"], kept: set[str]) -> None:
        """Delete the files of commits that have failed, but for those kept; what can't be deleted stays."""
        for draft in failed:
            with suppress(OSError):
                for file in draft.unused_files(self._table.metadata, self._table.io) - kept:
                    with suppress(FileNotFoundError):
                        self._table.io.delete(file)

    def _follow(self, entry: LedgerEntry | None, before: LedgerRow | None) -> None:
        """Become the newest version."""
        partitioning = self._table.metadata.default_spec_id
        self._table.refresh()
        if entry is not None and self.ledger(entry.stream) != before:
            raise LedgerMovedError(f"somebody else wrote to {self._place.name} as this stream")
        now = _columns_of(self._table.schema())
        if self.columns != now or self._table.metadata.default_spec_id != partitioning:
            self.columns = now
            raise TableChangedError(f"the table {self._place.name} was altered meanwhile")

    def _replace(self, draft: "Draft", replaced: Sequence[Replaced], rows: pa.Table) -> None:
        """Add rows, and put what is left of files into new ones."""
        parts = [*(each.left for each in replaced if each.left is not None), rows]
        draft.replace(
            [each.file for each in replaced], [file for part in parts for file in self.write(draft.metadata, part)]
        )

    def write(self, metadata: Any, rows: pa.Table) -> list[Any]:
        """Write rows into files of no snapshot yet."""
        if not rows.num_rows:
            return []
        write = library("io.pyarrow")._dataframe_to_data_files  # noqa: SLF001 - what each public way to add rows calls
        return list(write(metadata, rows, self._table.io))

    def _all_rows(self, tasks: Sequence[Any], columns: Sequence[Column]) -> pa.Table:
        if (size := sum(task.file.file_size_in_bytes for task in tasks)) > LARGEST_REWRITE_BYTES:
            raise BatchRefusedError(
                f"the table has {size >> 20} MiB, and only tables of up to {LARGEST_REWRITE_BYTES >> 20} MiB are "
                "written again; change the type of its column with another program"
            )
        there = [rows for _, rows in self.read_by_file(tasks)]
        wanted = {field.name: field.type for field in self.file_schema(columns)}
        if not there:
            return pa.table({name: pa.array([], type_) for name, type_ in wanted.items()})
        joined = pa.concat_tables(there)
        return pa.table(
            {
                field.name: _cast(joined.column(field.name), wanted.get(field.name, field.type))
                for field in joined.schema
            }
        )

    def read_by_file(self, tasks: Any) -> Iterator[tuple[Any, pa.Table]]:
        """Files, each with its rows in this version's columns."""
        arrow, always = library("io.pyarrow"), library("expressions").AlwaysTrue()
        metadata = self._table.metadata
        scan = arrow.ArrowScan(metadata, self._table.io, metadata.schema(), always)
        for task in tasks:
            yield task.file, scan.to_table([task])

    def _batches(self, name: str) -> Iterator[pa.RecordBatch]:
        yield from self._table.scan(selected_fields=(name,)).to_arrow_batch_reader()

    def _check_required(self, rows: pa.Table) -> None:
        """Refuse rows without a value in a column that must have one."""
        for field in self._table.schema().fields:
            if field.required and (field.name not in rows.column_names or rows.column(field.name).null_count):
                raise BatchRefusedError(f"{self._place.name} refuses rows without a value in {field.name!r}")


def opened(place: CatalogPlace, catalog: Any) -> Table | None:
    """Open a table; None if there is none."""
    errors = library("exceptions")
    try:
        return Table(place, catalog.load_table(place.identifier))
    except (errors.NoSuchTableError, errors.NoSuchNamespaceError):
        return None


def create(
    place: CatalogPlace, catalog: Any, columns: Sequence[tuple[str, str]], partition_by: Sequence[str], maker: str
) -> Table:
    """Create a table by one commit; if somebody else has done so meanwhile, this fails.

    Args:
        columns: Name and declared type of each column.
        partition_by: The columns whose values decide in which folder a row is.
        maker: The stream that creates it.
    """
    catalog.create_namespace_if_not_exists(place.namespace)
    fields = [_field(number, *column) for number, column in enumerate(columns, 1)]
    by_name = {field.name: field for field in fields}
    partitioning = library("partitioning")
    spec = partitioning.PartitionSpec(
        *(
            partitioning.PartitionField(
                by_name[name].field_id, 1000 + number, library("transforms").IdentityTransform(), name
            )
            for number, name in enumerate(partition_by)
        )
    )
    schema = library("schema").Schema(*fields)
    properties = {**_PROPERTIES, _MAKER: maker}
    return Table(place, catalog.create_table(place.identifier, schema, partition_spec=spec, properties=properties))


class Draft:
    """A commit in preparation.

    Args:
        tx: The library's transaction.
        entry: The ledger's row that it writes.

    Attributes:
        data_files: The files that it adds, whether they were written for it or for an attempt before it.
    """

    def __init__(self, tx: Any, entry: LedgerEntry | None) -> None:
        self._tx = tx
        self._entry = entry
        self.data_files: set[str] = set()

    def unused_files(self, metadata: Any, io: Any) -> set[str]:
        """The files that were written for it, if the table certainly does not have it, and never will.

        That is so if the table has another newest snapshot than the one that it requires, and none of its own.

        Args:
            metadata: The table's newest metadata.
            io: Access to the table's files.
        """
        files = set(self.data_files)
        for snapshot in self._tx.snapshots:
            if metadata.current_snapshot_id == snapshot.parent_snapshot_id:
                return set()
            if metadata.snapshot_by_id(snapshot.snapshot_id) is not None:
                return set()
            manifests = snapshot.manifests(io)
            files.update(each.manifest_path for each in manifests if each.added_snapshot_id == snapshot.snapshot_id)
            files.add(snapshot.manifest_list)
        return files

    @property
    def metadata(self) -> Any:
        """The table's metadata with the changes so far."""
        return self._tx.table_metadata

    def promote(self, columns: Sequence[Column]) -> None:
        """Give columns types in which Iceberg reads the files that are there."""
        with self._tx.update_schema() as update:
            for column in columns:
                update.update_column((column.name,), _field(0, column.name, column.declared).field_type)

    def change_schema(self, gone: Sequence[str], new: Sequence[tuple[str, str]]) -> None:
        """Remove columns with their values, and add others, each with its declared type.

        Raises:
            BatchRefusedError: The table is sorted or identified by one of them.
        """
        try:
            with self._tx.update_schema() as update:
                for name in gone:
                    update.delete_column((name,))
                for name, declared in new:
                    field = _field(0, name, declared)
                    update.add_column((name,), field.field_type, doc=field.doc)
        except ValueError as error:
            raise BatchRefusedError(f"the table does not take other columns: {error}") from error

    def replace(self, old: Sequence[Any], new: Sequence[Any]) -> None:
        """Put files in the place of others, by one snapshot; with neither, the snapshot only has the ledger."""
        entry = self._entry
        said = {} if entry is None else {_LEDGER + entry.stream: _said(entry.row)}
        update = self._tx.update_snapshot(snapshot_properties=said)
        with update.overwrite() if old else update.merge_append() as producer:
            for file in old:
                producer.delete_data_file(file)
            for file in new:
                producer.append_data_file(file)
        self.data_files.update(file.file_path for file in new)

    def commit(self) -> None:
        """Make the commit.

        Raises:
            CommitConflictError: Another one came first.
        """
        if self._entry is not None:
            stream, row = self._entry
            self._tx.set_properties({_LEDGER + stream: _said(row, self.metadata.current_snapshot_id)})
        self._tx.commit_transaction()


def _said(row: LedgerRow, snapshot: int | None = None) -> str:
    said: Mapping[str, Any] = {**row._asdict(), **({} if snapshot is None else {"snapshot": snapshot})}
    return json.dumps(said)


def _row(said: str) -> LedgerRow:
    held = json.loads(said)
    return LedgerRow(held["epoch"], held["sequence"], held["skip"])


def _ancestors(metadata: Any) -> Iterator[Any]:
    """The snapshots that led to the newest one, the newest first, as far as they have not expired."""
    known = {snapshot.snapshot_id: snapshot for snapshot in metadata.snapshots}
    at = metadata.current_snapshot_id
    while at in known:
        yield known[at]
        at = known[at].parent_snapshot_id


def _is_promotion(old: str, new: str) -> bool:
    """Whether Iceberg reads old files in the new type."""
    was, now = from_iceberg(old), from_iceberg(new)
    if pa.types.is_decimal(was) and pa.types.is_decimal(now):
        return bool(was.scale == now.scale and was.precision <= now.precision)
    return (old, new) in _PROMOTIONS


def _field(number: int, name: str, declared: str) -> Any:
    plain, _, mark = declared.removesuffix(")").partition(" (")
    return library("types").NestedField(
        number, name, plain if mark else declared, required=False, doc=_MARK + mark if mark else None
    )


def _columns_of(schema: Any) -> list[Column]:
    return [
        Column(field.name, from_iceberg(declared), declared)
        for field in schema.fields
        for declared in [_declared(field)]
    ]


def _declared(field: Any) -> str:
    """A field's type, with the mark of api2db."""
    declared = str(field.field_type)
    mark = (field.doc or "").removeprefix(_MARK) if (field.doc or "").startswith(_MARK) else ""
    marked = f"{declared} ({mark})"
    return marked if mark and (marked == UNDECIDED or not pa.types.is_null(from_iceberg(marked))) else declared


def _stored_type(column: Column) -> pa.DataType:
    plain, _, mark = column.declared.removesuffix(")").partition(" (")
    return from_iceberg(plain if mark else column.declared)


def _cast(values: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    return pa.nulls(len(values), type_) if values.null_count == len(values) else values.cast(type_)
