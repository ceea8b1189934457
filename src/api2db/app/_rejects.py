"""Finds, names and reads the files of rejected rows."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from api2db.errors import ConfigurationError
from api2db.journal import RejectedFile as Listed
from api2db.journal import journal_store, rejected_on_disk
from api2db.store import rejected
from api2db.stream import commands

_REASON = "_api2db_reason"


@dataclass(frozen=True, slots=True)
class RejectedFile:
    """Rows that one target refused, with the reason beside each.

    Attributes:
        file: Relative to the home.
        reason: The most frequent reason.
        reasons: The number of different reasons.
    """

    file: str
    collector: str
    stream_type: str
    rejected_at: datetime
    rows: int
    reason: str
    reasons: int


def rejected_files(home: Path) -> list[RejectedFile]:
    """Return all files, the oldest first."""
    of_stores = [file for file in rejected_on_disk(home) if rejected.is_of_store(file.file)]
    listed = {file.file: file for file in (*of_stores, *journal_store(home).rejected_files())}
    found = []
    for file in listed.values():
        with suppress(FileNotFoundError):  # It was put again or dropped since it was listed.
            found.append(_described(home, file))
    return sorted(found, key=lambda file: (file.rejected_at, file.file))


def find_file(home: Path, wanted: str) -> RejectedFile:
    """Return the one file whose path contains a text.

    Raises:
        ConfigurationError: No file or several files do.
    """
    files = rejected_files(home)
    found = [file for file in files if file.file == wanted] or [file for file in files if wanted in file.file]
    if len(found) != 1:
        many = f"{len(found)} files of rejected rows match" if found else "no file of rejected rows matches"
        raise ConfigurationError(f"{many} {wanted!r}; see: api2db rejected list")
    return found[0]


def read_rows(home: Path, file: RejectedFile) -> pa.Table:
    """Read its rows, with the reason as the first column."""
    table = _opened(home, file.file).read(use_threads=False)
    return table.select([_REASON, *(name for name in table.column_names if not name.startswith("_api2db_"))])


def retry_file(home: Path, file: str) -> int:
    """Put the rows of a file again; return their number."""
    return (rejected.put_back if rejected.is_of_store(file) else commands.retry)(home, file)


def drop_file(home: Path, file: str) -> int:
    """Delete the rows of a file for good; return their number."""
    return (rejected.drop if rejected.is_of_store(file) else commands.drop)(home, file)


def _described(home: Path, listed: Listed) -> RejectedFile:
    said = _said_by_file(home, listed.file) if listed.said is None else listed.said
    path = Path(listed.file)
    at = datetime.fromtimestamp(int(path.stem) / 1e9, tz=UTC).astimezone()
    return RejectedFile(
        listed.file, path.parts[2], path.parts[3], at, said["rows"], str(said["reason"]), said["reasons"]
    )


def _said_by_file(home: Path, file: str) -> dict[str, Any]:
    with _opened(home, file) as opened:
        reasons = Counter(opened.read([_REASON], use_threads=False).column(_REASON).to_pylist())
    [(reason, _)] = reasons.most_common(1) or [("", 0)]
    return {"rows": sum(reasons.values()), "reason": reason, "reasons": len(reasons)}


def _opened(home: Path, file: str) -> pyarrow.parquet.ParquetFile:
    """Open a file for reading without threads.

    A thread of Arrow that is the last to let go of an object of Python aborts a process that is about to exit.
    """
    content = journal_store(home).read_rejected(file)
    return pyarrow.parquet.ParquetFile(home / file if content is None else BytesIO(content), pre_buffer=False)
