"""Targets of files: each file gets a temporary name, then a plan is saved, then the file is published.

So a file of a plan whose temporary name is missing has been published. The folder may be on a disk, where a file is
renamed, or in an object store, where it is uploaded.

Duplicate rows are dropped: within a frame for shards, within the whole file for a file that is updated.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from api2db.disk.atomic import write_temporary
from api2db.disk.file_folder import FileFolder
from api2db.errors import (
    BatchRefusedError,
    ConfigurationError,
    DataError,
    FormatError,
    FrameError,
    TargetUnavailableError,
)
from api2db.formats import Format, as_read, read_open, write
from api2db.formats.folder_types import join_types
from api2db.frames import (
    cast_exactly,
    conform,
    duplicate_rows,
    json_cells,
    long_numbers,
    unify,
    whole_numbers_as_floats,
)
from api2db.targets._threads import on_all_processors
from api2db.targets.port import FilePlan, FrameRows, PlannedFile, PlannedTarget
from api2db.targets.types import in_words


class ShardTarget(PlannedTarget):
    """A folder with a file for each frame, named by the frame's ``timestamp_ns``, in the joined types of the folder.

    Args:
        folder: Created with the first shard.
        fmt: The files' format, and the suffix of their names.
        keys: Rows that repeat these columns of an earlier row of the frame are dropped; None for all columns.
        chunk_rows: The most rows of one file; a larger frame becomes several. 0 for no limit.
    """

    whole_frames = True

    def __init__(self, folder: FileFolder, fmt: Format, keys: Sequence[str] | None, chunk_rows: int = 0) -> None:
        self._folder = folder
        self._fmt = fmt
        self._repeats = keys
        self._chunk_rows = chunk_rows
        self._owner = "unclaimed"

    def connect(self) -> None:
        _reach(self._folder)

    def acquire(self, owner: str) -> None:
        self._owner = owner
        self._folder.sweep(owner)

    def close(self) -> None:
        return

    def newest(self, count: int, by: str | None) -> pa.Table | None:
        """See ``ReadableTarget``. Only as many shards are read as are needed; with ``by`` all of them are."""
        names = [name for name in map(Path, self._folder.names()) if name.suffix == f".{self._fmt}"]
        found: list[pa.Table] = []
        for name in sorted((n for n in names if n.stem.isdecimal()), key=lambda n: int(n.stem), reverse=True):
            if by is None and sum(table.num_rows for table in found) >= count:
                break
            with suppress(FileNotFoundError):  # a store has taken it meanwhile
                found.insert(0, _last(_read(self._folder, name.name, self._fmt), None if by is not None else count))
        return _newest(found, count, by, str(self._folder))

    def stage(self, pieces: Sequence[FrameRows], known: Callable[[], bool]) -> FilePlan:
        types = _known_types(self._folder.here, self._fmt, pieces, self._owner)
        wanted = [piece for piece in pieces if not self._is_known(piece, known)]
        written: list[str] = []
        try:
            staged = on_all_processors(lambda piece: self._stage_piece(piece, types, written), wanted)
        except BaseException:
            _discard(self._folder.here, written)
            raise
        plan = FilePlan()
        for piece, (temporaries, duplicates) in zip(wanted, staged, strict=True):
            plan.duplicates += duplicates
            for temporary in temporaries:
                plan.files.append(PlannedFile(temporary, self._free_name(piece.timestamp_ns, plan)))
        return plan

    def finish(self, plan: FilePlan, keep: Callable[[FilePlan], None]) -> None:
        if not plan.files:
            return
        self._begin(plan)
        for file in plan.files:
            while (temporary := self._folder.here / file.temporary).exists():
                try:
                    self._folder.publish(temporary, file.final)
                except FileExistsError:
                    file.final = self._free_name(int(Path(file.final).stem) + 1, plan)
                    keep(plan)
                    self._begin(plan)
        self._folder.settle(_name_of(plan))

    def discard(self, plan: FilePlan) -> None:
        _discard(self._folder.here, [file.temporary for file in plan.files])

    def _begin(self, plan: FilePlan) -> None:
        self._folder.begin(_name_of(plan), [file.final for file in plan.files])

    def _is_known(self, piece: FrameRows, known: Callable[[], bool]) -> bool:
        """Whether the file of a piece is there since before the journal's positions were rebuilt."""
        name = f"{piece.timestamp_ns}.{self._fmt}"
        return (not self._folder.is_near or self._folder.has(name)) and known() and self._folder.has(name)

    def _stage_piece(self, piece: FrameRows, types: pa.Schema, written: list[str]) -> tuple[list[str], int]:
        """Write the files of a piece; return their temporary names and the number of duplicates.

        Args:
            written: Gets each name as soon as its file is written.
        """
        rows, duplicates = _without_duplicates(piece.rows, self._repeats)
        step = self._chunk_rows or rows.num_rows
        temporaries: list[str] = []
        for start in range(0, rows.num_rows, step):
            name = _write(rows.slice(start, step), self._folder.here / self._owner, self._fmt, types).name
            temporaries.append(name)
            written.append(name)
        return temporaries, duplicates

    def _free_name(self, number: int, plan: FilePlan) -> str:
        if plan.files:
            number = max(number, int(Path(plan.files[-1].final).stem) + 1)
        while (name := f"{number}.{self._fmt}") and self._folder.is_near and self._folder.has(name):
            number += 1  # In an object store, ``publish`` finds out, without a request more.
        return name


class SingleFileTarget(PlannedTarget):
    """One file to which rows are added, or which the newest frame replaces.

    Args:
        folder: Its folder; created with the file.
        name: The file's name.
        fmt: Its format.
        keys: Rows that repeat these columns of an earlier row are dropped; None for all columns.
        replace: Whether the file holds the newest frame only; otherwise everything so far.
    """

    whole_frames = True

    def __init__(
        self, folder: FileFolder, name: str, fmt: Format, keys: Sequence[str] | None, *, replace: bool
    ) -> None:
        self._folder = folder
        self._name = name
        self._path = folder.here / name
        self._fmt = fmt
        self._repeats = keys
        self._owner = "unclaimed"
        self.replaces_table = replace

    def connect(self) -> None:
        _reach(self._folder)

    def acquire(self, owner: str) -> None:
        self._owner = owner
        self._folder.sweep(owner)

    def close(self) -> None:
        return

    def newest(self, count: int, by: str | None) -> pa.Table | None:
        try:
            return _newest([_read(self._folder, self._name, self._fmt)], count, by, self._said)
        except FileNotFoundError:
            return None

    def stage(self, pieces: Sequence[FrameRows], known: Callable[[], bool]) -> FilePlan:
        if not pieces:
            return FilePlan()
        rows, dropped = _without_duplicates(self._whole(pieces), self._repeats)
        temporary = _write(rows, self._folder.here / self._owner, self._fmt)
        return FilePlan([PlannedFile(temporary.name, self._name)], dropped)

    def finish(self, plan: FilePlan, keep: Callable[[FilePlan], None]) -> None:
        for file in plan.files:
            temporary = self._folder.here / file.temporary
            if temporary.exists():
                self._folder.replace(temporary, self._name)
            self._folder.settle(_name_of(plan))

    def discard(self, plan: FilePlan) -> None:
        _discard(self._folder.here, [file.temporary for file in plan.files])

    @property
    def _said(self) -> str:
        return f"{self._folder}/{self._name}"

    def _whole(self, pieces: Sequence[FrameRows]) -> pa.Table:
        tables = [piece.rows for piece in pieces]
        if not self.replaces_table and self._folder.has(self._name):
            try:
                there = _read(self._folder, self._name, self._fmt)
            except FormatError as error:
                raise TargetUnavailableError(f"{error}; move the file away to start a new one") from error
            tables = [there, *(_as_in_files(table, self._fmt) for table in tables)]
        return _joined(tables, self._said)


def _read(folder: FileFolder, name: str, fmt: Format) -> pa.Table:
    with folder.open(name) as file:
        return read_open(file, folder.here / name, fmt, said=f"{folder}/{name}")


def _name_of(plan: FilePlan) -> str:
    """A name that no other plan has."""
    return plan.files[0].temporary.strip(".")


def _newest(tables: Sequence[pa.Table], count: int, by: str | None, place: str) -> pa.Table | None:
    """The last rows, or those with the greatest values of a column, the newest first."""
    if not tables:
        return None
    columns = dict.fromkeys(name for table in tables for name in table.column_names)
    if by is not None and by not in columns:
        raise ConfigurationError(f"there is no column {by!r} to sort by in {place}; there are: {', '.join(columns)}")
    whole = _together(tables, list(columns), place)
    if by is None:
        rows = _last(whole, count)
        return rows.take(pa.array(range(rows.num_rows - 1, -1, -1), pa.int64()))
    return whole.take(pc.sort_indices(whole, [(by, "descending")])[:count])


def _together(tables: Sequence[pa.Table], columns: Sequence[str], path: str) -> pa.Table:
    """Join tables; a column without a common type holds JSON cells, as in one frame."""
    if len(tables) == 1:
        return tables[0]
    try:
        return _joined(tables, path)
    except BatchRefusedError:
        mixed = [name for name in columns if _common(tables, name) is None]
        return _joined([_with_cells(table, mixed) for table in tables], path)


def _common(tables: Sequence[pa.Table], name: str) -> pa.Schema | None:
    return unify([pa.schema([table.schema.field(name)]) for table in tables if name in table.column_names])


def _with_cells(table: pa.Table, names: Sequence[str]) -> pa.Table:
    for name in names:
        if name in table.column_names:
            cells = json_cells(table.column(name).combine_chunks())
            table = table.set_column(table.column_names.index(name), name, cells)
    return table


def _last(rows: pa.Table, count: int | None) -> pa.Table:
    """The last rows; all if no count is given. Copied, since a slice would keep the memory of all."""
    if count is None or rows.num_rows <= count:
        return rows
    return rows.take(pa.array(range(rows.num_rows - count, rows.num_rows), pa.int64()))


def _as_in_files(rows: pa.Table, fmt: Format) -> pa.Table:
    """A CSV file does not keep types, so rows are joined to it in the form in which they will be read."""
    if fmt != "csv":
        return rows
    try:
        return as_read(rows, fmt)
    except FormatError as error:
        raise BatchRefusedError(str(error)) from error


def _joined(tables: Sequence[pa.Table], path: str) -> pa.Table:
    schema = unify([table.schema for table in tables])
    for brought_together in (whole_numbers_as_floats, long_numbers):
        if schema is None:
            tables = brought_together(tables)
            schema = unify([table.schema for table in tables])
    if schema is None:
        raise BatchRefusedError(_difference(tables, path))
    try:
        return _conformed(tables, schema)
    except DataError:
        return _conformed_in_microseconds(tables)


def _conformed(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_batches([conform(batch, schema) for table in tables for batch in table.to_batches()], schema)


def _conformed_in_microseconds(tables: Sequence[pa.Table]) -> pa.Table:
    """Nanoseconds only reach from 1677 to 2262, so times beyond turn all into microseconds if no digit is lost."""
    tables = [_in_microseconds(table) for table in tables]
    try:
        return _conformed(tables, unify([table.schema for table in tables]))
    except DataError as error:
        raise BatchRefusedError(str(error)) from error


def _in_microseconds(table: pa.Table) -> pa.Table:
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            coarser = pa.timestamp("us", field.type.tz)
            cast, inexact = cast_exactly(table.column(place).combine_chunks(), coarser)
            if inexact is None:
                table = table.set_column(place, field.with_type(coarser), cast)
    return table


def _difference(tables: Sequence[pa.Table], path: str) -> str:
    for name in dict.fromkeys(name for table in tables for name in table.column_names):
        types = [table.schema.field(name).type for table in tables if name in table.column_names]
        told = list(dict.fromkeys(map(in_words, types)))
        if unify([pa.schema([(name, type_)]) for type_ in types]) is None:
            return (
                f"{name!r} is {told[0]} in {path}, and {' and '.join(told[1:])} in these rows; put values of one kind,"
                " or move the file away to start a new one"
            )
    raise AssertionError("each column has a common type")


def _without_duplicates(rows: pa.Table, keys: Sequence[str] | None) -> tuple[pa.Table, int]:
    if not rows.num_columns:
        return rows, 0
    try:
        repeated = duplicate_rows(rows, keys)
    except DataError as error:
        raise BatchRefusedError(str(error)) from error
    dropped = pc.sum(repeated).as_py() or 0
    return (rows.filter(pc.invert(repeated)) if dropped else rows), dropped


def _known_types(folder: Path, fmt: Format, pieces: Sequence[FrameRows], owner: str) -> pa.Schema:
    """The types in which all files of the folder, including these pieces, can be read."""
    try:
        return join_types(folder, fmt, [piece.rows.schema for piece in pieces], owner, told_apart=True)
    except FrameError as error:
        raise BatchRefusedError(str(error)) from error
    except FormatError as error:
        raise TargetUnavailableError(str(error)) from error
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> TargetUnavailableError:
    said = error.strerror or str(error)
    return TargetUnavailableError(
        f"{folder} can't be written: {said}; free space or correct that, and the waiting frames continue"
    )


def _write(rows: pa.Table, beside: Path, fmt: Format, types: pa.Schema | None = None) -> Path:
    try:
        with write_temporary(beside) as temporary:
            write(rows, temporary.file, fmt, types)
    except FormatError as error:
        raise BatchRefusedError(str(error)) from error
    except OSError as error:
        raise _unwritable(beside.parent, error) from error
    return temporary.path


def _reach(folder: FileFolder) -> None:
    try:
        folder.reach()
    except OSError as error:
        raise TargetUnavailableError(f"the folder {folder} can't be used: {error}") from error


def _discard(folder: Path, temporaries: Sequence[str]) -> None:
    for name in temporaries:
        with suppress(OSError):
            (folder / name).unlink()
