"""Finds, names and reads the files of rejected rows."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from api2db.errors import ConfigurationError
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
    found = [_described(home, path) for path in (home / "STORE" / "rejected").glob("*/*/*.parquet") if _is_ours(path)]
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
    table = pyarrow.parquet.ParquetFile(home / file.file).read()
    return table.select([_REASON, *(name for name in table.column_names if not name.startswith("_api2db_"))])


def retry_file(home: Path, file: str) -> int:
    """Put the rows of a file again; return their number."""
    return (rejected.put_back if rejected.is_of_store(file) else commands.retry)(home, file)


def drop_file(home: Path, file: str) -> int:
    """Delete the rows of a file for good; return their number."""
    return (rejected.drop if rejected.is_of_store(file) else commands.drop)(home, file)


def _is_ours(path: Path) -> bool:
    return path.stem.isdigit()


def _described(home: Path, path: Path) -> RejectedFile:
    with pyarrow.parquet.ParquetFile(path) as file:
        reasons = Counter(file.read([_REASON]).column(_REASON).to_pylist())
    [(reason, _)] = reasons.most_common(1) or [("", 0)]
    at = datetime.fromtimestamp(int(path.stem) / 1e9, tz=UTC).astimezone()
    relative = path.relative_to(home)
    return RejectedFile(
        str(relative), relative.parts[2], relative.parts[3], at, sum(reasons.values()), str(reason), len(reasons)
    )
