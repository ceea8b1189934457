"""Rejected rows, wherever the journals of a test are."""

from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from api2db.journal import journal_store


def rejected_files(home: Path, part: str = "") -> list[str]:
    """The files whose names contain a text, the oldest first."""
    files = [each.file for each in journal_store(home).rejected_files() if part in each.file]
    return sorted(files, key=lambda file: (int(Path(file).stem), file))


def rejected_tables(home: Path, part: str = "") -> list[pa.Table]:
    """Their rows."""
    contents = [journal_store(home).read_rejected(file) for file in rejected_files(home, part)]
    return [pq.read_table(BytesIO(content)) for content in contents if content is not None]
