"""What the journal's tests share: frames whose rows can be told apart, and reading a journal out."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from api2db.journal import Delivered, Entry, ReadLimit, StreamIdentity, StreamReader
from api2db.journal._journal import SegmentedJournal

LIMIT = ReadLimit(rows=250_000, size_bytes=32 << 20)
STREAM = StreamIdentity("flights to duckdb:x.duckdb, table flights", "sql.duckdb")
OTHER = StreamIdentity("flights to shards in STORE/flights/parquet", "local.parquet")


def frame(number: int, rows: int = 1, size_bytes: int = 20) -> pa.RecordBatch:
    """Rows that say which frame they are of, which row, and prove it."""
    texts = [(f"{number}:{row}:{_proof(number, row)}:" + "x" * size_bytes) for row in range(rows)]
    return pa.record_batch({"n": pa.array([number] * rows, pa.int64()), "text": pa.array(texts, pa.large_string())})


def _proof(number: int, row: int) -> str:
    return hashlib.sha256(f"{number} {row}".encode()).hexdigest()[:12]


def random_frame(number: int, rows: int, row_bytes: int) -> pa.RecordBatch:
    """Rows that lz4 can't make smaller."""
    payload = [os.urandom(row_bytes) for _ in range(rows)]
    return pa.record_batch({"n": pa.array([number] * rows, pa.int64()), "bytes": pa.array(payload, pa.binary())})


def numbers(entries: Iterable[Entry]) -> list[int]:
    """The frames that entries are of, one number a row, each row proved."""
    found: list[int] = []
    for entry in entries:
        for row in entry.batch.to_pylist():
            number, at, proof, _ = row["text"].split(":")
            assert (int(number), proof) == (row["n"], _proof(row["n"], int(at))), "a row that was never put"
            found.append(row["n"])
    return found


def take(log: StreamReader, limit: ReadLimit = LIMIT, timeout_s: float = 0) -> list[Entry]:
    """Read once and acknowledge all of it."""
    entries = log.read(limit, timeout_s)
    if entries:
        log.acknowledge(entries[-1].position, Delivered(rows=sum(entry.batch.num_rows for entry in entries)))
    return entries


def drain(log: StreamReader, limit: ReadLimit = LIMIT) -> list[int]:
    """Everything that waits, read and acknowledged."""
    found: list[int] = []
    while entries := take(log, limit):
        found += numbers(entries)
    return found


def delivered_from(home: Path, name: str = "flights") -> list[int]:
    """What a journal gives once it is opened again."""
    journal = SegmentedJournal(home, name)
    try:
        return drain(journal.attach(STREAM)[1])
    finally:
        journal.close()


def segments(journal_folder: Path) -> list[Path]:
    return sorted(journal_folder.glob("*.segment"))
