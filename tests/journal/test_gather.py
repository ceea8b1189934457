"""Gathering the columns of many small messages gives what Arrow reads from each of them."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from api2db.frames import to_batch
from api2db.frames._shapes import Shapes
from api2db.journal._gather import gathered
from tests.frames.examples import every_kind
from tests.frames.values import TYPES, arrays

_GATHERED = [type_ for type_ in TYPES if not pa.types.is_dictionary(type_) and type_ != pa.binary(2)]
_JSON = pa.json_(pa.utf8())
_NUMBERS = pa.schema([("n", pa.int64()), ("text", pa.large_string())])


def payloads_of(batches: list[pa.RecordBatch]) -> list[bytes]:
    return [batch.serialize().to_pybytes() for batch in batches]


def rows_of(batches: list[pa.RecordBatch]) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.array([batch.num_rows for batch in batches], np.int64)


def batches_of(data: some.DataObject, types: list[pa.DataType]) -> list[pa.RecordBatch]:
    """Some batches of columns, each as long as the shortest of its columns."""
    batches = []
    for _ in range(data.draw(some.integers(1, 4))):
        columns = [data.draw(arrays(type_, near=True)) for type_ in types]
        rows = min(map(len, columns))
        batches.append(pa.record_batch([column[:rows] for column in columns], [f"c{at}" for at in range(len(types))]))
    return batches


@settings(max_examples=30)
@given(some.data(), some.lists(some.sampled_from(_GATHERED), min_size=1, max_size=6))
def test_messages_become_the_rows_that_arrow_reads(data: some.DataObject, types: list[pa.DataType]) -> None:
    batches = batches_of(data, types)
    found = gathered(batches[0].schema, rows_of(batches), payloads_of(batches))
    assert found is not None
    found.validate(full=True)
    assert found.schema == batches[0].schema
    assert repr(found.to_pylist()) == repr([row for batch in batches for row in batch.to_pylist()])


def test_frames_that_were_encoded_without_arrow_arrays_are_gathered() -> None:
    names = ["int8", "bool", "nan", "float64", "M8[us]", "paris", "default_text", "object_text", "dict"]
    frames = [pd.DataFrame(every_kind()).loc[rows, names].reset_index(drop=True) for rows in ([0, 1], [0, 0, 0], [0])]
    batches = list(map(to_batch, frames))
    shapes = Shapes()
    for frame, batch in zip(frames, batches, strict=True):
        shapes.learn(frame, batch)
    messages = [found.message for frame in frames if (found := shapes.encoded(frame)) is not None]
    found = gathered(batches[0].schema, rows_of(batches), [*payloads_of(batches[:1]), *messages[1:]])
    assert found is not None
    found.validate(full=True)
    assert found.to_pylist() == [row for batch in batches for row in batch.to_pylist()]


def test_json_cells_stay_json() -> None:
    cells = [pa.array(texts, pa.utf8()) for texts in (['{"a": 1}', None], ["[]"], [None])]
    batches = [pa.record_batch({"json": pa.ExtensionArray.from_storage(_JSON, column)}) for column in cells]
    found = gathered(batches[0].schema, rows_of(batches), payloads_of(batches))
    assert found is not None
    assert found.column(0).type == _JSON
    assert found.column(0).storage.to_pylist() == ['{"a": 1}', None, "[]", None]


def test_columns_without_values_are_gathered() -> None:
    batches = [pa.record_batch({"nothing": pa.nulls(rows), "n": pa.array(range(rows))}) for rows in (2, 1)]
    found = gathered(batches[0].schema, rows_of(batches), payloads_of(batches))
    assert found is not None
    assert found.to_pydict() == {"nothing": [None, None, None], "n": [0, 1, 0]}


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1, 2], None]),
        pa.array([{"a": 1}, None]),
        pa.array([b"ab", None], pa.binary(2)),
        pa.array(["view", None], pa.string_view()),
    ],
    ids=lambda column: str(column.type),
)
def test_other_types_are_left_to_arrow(column: pa.Array) -> None:
    batch = pa.record_batch({"n": pa.array([1, 2]), "other": column})
    assert gathered(batch.schema, np.array([2]), payloads_of([batch])) is None


def test_messages_without_rows_or_of_another_form_are_left_to_arrow() -> None:
    batch, empty = (pa.record_batch([numbers, ["a"] * len(numbers)], _NUMBERS) for numbers in ([7], []))
    other = pa.record_batch({"n": pa.array([1])})
    for second in (empty, other):
        batches = [batch, second]
        assert gathered(_NUMBERS, rows_of(batches), payloads_of(batches)) is None


def test_compressed_messages_are_left_to_arrow() -> None:
    sink = pa.BufferOutputStream()
    batch = pa.record_batch([[7] * 1000, ["a"] * 1000], _NUMBERS)
    with pa.ipc.new_stream(sink, _NUMBERS, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_batch(batch)
    reader = pa.ipc.MessageReader.open_stream(sink.getvalue())
    reader.read_next_message()  # the schema
    message = reader.read_next_message()
    assert gathered(_NUMBERS, np.array([1000]), [message.serialize().to_pybytes()]) is None


def test_numbers_that_contradict_each_other_are_left_to_arrow() -> None:
    batch = pa.record_batch({"n": [1, 2], "bytes": [b"a", None]})
    [payload] = payloads_of([batch])
    for at in range(0, len(payload), 8):
        for value in (2**62, 2**40, 3, -1):
            damaged = payload[:at] + value.to_bytes(8, "little", signed=True) + payload[at + 8 :]
            found = gathered(batch.schema, np.array([2]), [damaged])
            if found is not None:  # only a value has changed
                found.validate(full=True)
    assert gathered(batch.schema, np.array([3]), [payload]) is None
    assert gathered(batch.schema, np.array([2]), [payload[:-8]]) is None
