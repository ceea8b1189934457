"""Frames as Parquet, JSON, CSV and pickle files, each written completely or not at all."""

from api2db.formats.files import as_read, read, read_frame, write, write_frame
from api2db.formats.kinds import FORMATS, Format, check_format

__all__ = ["FORMATS", "Format", "as_read", "check_format", "read", "read_frame", "write", "write_frame"]
