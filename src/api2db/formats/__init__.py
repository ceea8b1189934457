"""Frames as Parquet, JSON, CSV and pickle files, each written completely or not at all."""

from api2db.formats.files import (
    FORMATS,
    Format,
    as_read,
    check_format,
    decode,
    read,
    read_frame,
    read_open,
    write,
    write_frame,
)

__all__ = [
    "FORMATS",
    "Format",
    "as_read",
    "check_format",
    "decode",
    "read",
    "read_frame",
    "read_open",
    "write",
    "write_frame",
]
