"""Frames: what users put, and the one Arrow form in which everything behind them carries it.

Pandas stands at the edges. A frame of any kind becomes one record batch (``to_batch``) of plain columns. Nothing is lost on
the way, and nothing here does I/O.
"""

from api2db.frames.batch import to_batch
from api2db.frames.cells import JSON, decode_cell, encode_cell, is_json

__all__ = ["JSON", "decode_cell", "encode_cell", "is_json", "to_batch"]
