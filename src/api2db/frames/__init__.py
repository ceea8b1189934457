"""Frames: the data that users put, and the one Arrow form in which the rest of api2db carries it.

pandas is used only at the edges. A frame of any kind becomes one record batch of plain columns (``to_batch``), or a
table if its columns have many chunks and it is only to be stored (``rows_and_refused``). It becomes a DataFrame again
for users' code (``to_pandas``). Schemas of many frames are unified (``unify``, ``conform``), and values are cast
(``cast_exactly``), only if nothing is lost. Nothing here does I/O.
"""

from api2db.frames._asked import cast_as_asked, type_of_dtype
from api2db.frames._batch import to_batch
from api2db.frames._cells import base64_texts, decode_cell, encode_cell, json_cells, python_values, text_cells, unmarked
from api2db.frames._encoded import EncodedRows, Frame
from api2db.frames._exact import cast_exactly, nulled
from api2db.frames._from_arrow import Rows, one_batch
from api2db.frames._kinds import JSON, is_bytes, is_json, is_number, is_text, plain
from api2db.frames._messages import END_OF_STREAM, NumberPlaces, Pairs, UnknownFormError, head_bytes, number_places
from api2db.frames._refused import Refused, frame_and_refused, reason_of, rows_and_refused, set_aside
from api2db.frames._repeats import duplicate_rows
from api2db.frames._texts import times_of
from api2db.frames._to_pandas import consumed_to_pandas, dtypes_of, merge_dtypes, to_pandas
from api2db.frames.unify import conform, long_numbers, unify, whole_numbers_as_floats, widened

__all__ = [
    "END_OF_STREAM",
    "JSON",
    "EncodedRows",
    "Frame",
    "NumberPlaces",
    "Pairs",
    "Refused",
    "Rows",
    "UnknownFormError",
    "base64_texts",
    "cast_as_asked",
    "cast_exactly",
    "conform",
    "consumed_to_pandas",
    "decode_cell",
    "dtypes_of",
    "duplicate_rows",
    "encode_cell",
    "frame_and_refused",
    "head_bytes",
    "is_bytes",
    "is_json",
    "is_number",
    "is_text",
    "json_cells",
    "long_numbers",
    "merge_dtypes",
    "nulled",
    "number_places",
    "one_batch",
    "plain",
    "python_values",
    "reason_of",
    "rows_and_refused",
    "set_aside",
    "text_cells",
    "times_of",
    "to_batch",
    "to_pandas",
    "type_of_dtype",
    "unify",
    "unmarked",
    "whole_numbers_as_floats",
    "widened",
]
