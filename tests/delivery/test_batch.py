"""A batch is as many consecutive entries as have a common schema."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api2db.delivery import batch as batches
from api2db.delivery.batch import batch_of
from api2db.frames import JSON, conform
from api2db.journal import Entry, Position, Superseded, WholeFrames, split

START = Position(10)


def entries(*frames: dict[str, Any] | Sequence[dict[str, Any]]) -> list[Entry]:
    """Frames; one that is a list of slices is stored as several entries."""
    found: list[Entry] = []
    for time, frame in enumerate(frames, 1000):
        slices = [frame] if isinstance(frame, dict) else list(frame)
        for number, each in enumerate(slices, 1):
            batch = pa.RecordBatch.from_pydict(each)
            found.append(Entry(Position(11 + len(found)), time, batch, number == len(slices)))
    return found


def read_together(found: Sequence[Entry]) -> Entry:
    """Frames of one slice each as one entry, the way a journal reads small ones."""
    *before, last = found
    columns = zip(*((each.position.sequence, each.timestamp_ns, each.batch.num_rows) for each in before), strict=True)
    sequences, times_ns, rows = (np.array(column, np.int64) for column in columns)
    earlier = WholeFrames(sequences, times_ns, rows)
    return replace(last, batch=pa.concat_batches([each.batch for each in found]), earlier=earlier)


def test_entries_of_one_schema_are_one_batch() -> None:
    batch = batch_of(entries({"a": [1]}, {"a": [2, 3]}), START)
    assert batch.rows.to_pydict() == {"a": [1, 2, 3]}
    assert (batch.num_rows, batch.frames, batch.start, batch.end) == (3, 2, START, Position(12))
    assert list(batch.frame_times()) == [(1000, 1), (1001, 2)]


def test_columns_that_come_and_go_do_not_cut_it() -> None:
    batch = batch_of(entries({"a": [1]}, {"b": ["x"]}, {"a": pa.array([2], pa.int8())}), START)
    assert batch.rows.to_pydict() == {"a": [1, None, 2], "b": [None, "x", None]}
    assert batch.rows.schema.field("a").type == pa.int64()


def test_types_that_have_nothing_in_common_cut_it_before_the_first_of_them() -> None:
    found = entries({"a": [1]}, {"a": [2]}, {"a": ["x"]}, {"a": [3]})
    sizes = []
    while found:
        batch = batch_of(found, START)
        sizes.append(batch.num_rows)
        found = found[len(batch.entries) :]
    assert sizes == [2, 1, 1]


def test_nulls_before_a_type_take_it() -> None:
    batch = batch_of(entries({"a": [None]}, {"a": ["x"]}), START)
    assert batch.rows.to_pydict() == {"a": [None, "x"]}


def test_a_batch_of_whole_frames_ends_with_a_frame() -> None:
    found = entries({"a": [1]}, [{"a": [2]}, {"a": [3]}], {"a": ["x"]})
    assert batch_of(found, START, whole_frames=True).num_rows == 3
    assert batch_of(found[:2], START, whole_frames=False).frames == 1


def test_pieces_are_frames_each_under_its_own_schema() -> None:
    batch = batch_of(entries({"a": [1]}, [{"b": [2]}, {"b": [3]}]), START)
    pieces = batch.pieces()
    assert [(piece.timestamp_ns, piece.rows.to_pydict()) for piece in pieces] == [
        (1000, {"a": [1]}),
        (1001, {"b": [2, 3]}),
    ]


def test_superseded_frames_are_counted_with_it() -> None:
    batch = batch_of(entries({"a": [1]}), START, Superseded(4, 40))
    assert (batch.frames, batch.num_rows, batch.superseded.rows) == (5, 1, 40)


def test_the_leading_entries_of_the_same_columns_are_a_batch_of_their_own() -> None:
    batch = batch_of(entries({"a": [1]}, {"a": [2]}, {"A": [3]}, {"a": [4]}), START)
    assert batch.rows.column_names == ["a", "A"]
    alike = batch.leading_alike()
    assert (alike.rows.to_pydict(), alike.end) == ({"a": [1, 2]}, Position(12))
    assert alike.leading_alike().num_rows == 2


KINDS: st.SearchStrategy[list[Any]] = st.sampled_from([[1, 2], [1.5], ["x"], [None], [True], [b"b"], [2**40]])


@given(st.lists(st.dictionaries(st.sampled_from("abc"), KINDS.map(lambda values: values[:1]), min_size=1), min_size=1))
def test_whatever_comes_every_row_is_in_one_batch_in_order(frames: list[dict[str, Any]]) -> None:
    found = entries(*frames)
    rows: list[dict[str, Any]] = []
    while found:
        batch = batch_of(found, START)
        assert batch.entries
        rows += batch.rows.to_pylist()
        found = found[len(batch.entries) :]
    values = [{name: value for name, value in row.items() if value is not None} for row in rows]
    assert values == [{name: value[0] for name, value in frame.items() if value[0] is not None} for frame in frames]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(0, 3), st.data())
def test_the_first_rows_of_a_batch_end_where_the_others_begin(sizes: list[int], skip: int, data: st.DataObject) -> None:
    found = entries(*({"a": list(range(100 * n, 100 * n + size))} for n, size in enumerate(sizes)))
    batch = batch_of(found, START._replace(skip=skip))
    rows = data.draw(st.integers(0, batch.num_rows))
    head = batch.head(rows)
    assert head.num_rows == rows
    if rows:
        assert head.rows.to_pydict()["a"] == batch.rows.to_pydict()["a"][:rows]
        whole = sum(entry.batch.num_rows for entry in found[: head.end.sequence - START.sequence])
        begun = skip if head.end.sequence == START.sequence and head.end.skip else 0
        assert rows == whole + max(0, head.end.skip - begun)
        assert head.frames == sum(each.frame_end for each in head.entries)


def test_the_first_rows_of_an_entry_that_was_cut_before_are_counted_from_its_record_s_first() -> None:
    [entry] = entries({"a": [1, 2, 3]})
    batch = batch_of([Entry(Position(10, 7), entry.timestamp_ns, entry.batch, frame_end=False)], Position(10, 4))
    assert batch.head(2).end == Position(10, 6)
    assert batch.head(3).end == Position(10, 7)
    assert batch_of([entry], Position(10, 4)).head(2).end == Position(10, 6)


def test_by_key_only_entries_with_the_same_columns_go_together_whatever_their_order_and_types() -> None:
    found = entries({"a": [1], "b": [None]}, {"b": [2], "a": [1]}, {"a": [1]}, {"a": [2], "b": [3]})
    sizes = []
    while found:
        batch = batch_of(found, START, keyed=True)
        sizes.append(batch.num_rows)
        found = found[len(batch.entries) :]
    assert sizes == [2, 1, 1]


def test_by_key_a_frame_that_is_put_again_is_a_batch_of_its_own() -> None:
    found = entries({"a": [1]}, {"a": [2]}, {"a": [3]}, {"a": [4]})
    found[1:3] = [replace(entry, retried=True) for entry in found[1:3]]
    sizes = []
    while found:
        batch = batch_of(found, START, keyed=True)
        sizes.append((batch.num_rows, batch.retried))
        found = found[len(batch.entries) :]
    assert sizes == [(1, False), (1, True), (1, True), (1, False)]


def test_small_frames_whose_schemas_come_in_turn_are_cast_together_and_their_rows_stay_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    casts: list[int] = []

    def counted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        casts.append(batch.num_rows)
        return conform(batch, schema)

    shapes: list[dict[str, Any]] = [
        {"n": pa.array([1, 2]), "text": pa.nulls(2), "kind": pa.array(["x", "y"]).dictionary_encode()},
        {"n": pa.array([3], pa.int8()), "text": ["é"], "kind": pa.array(["z"]).dictionary_encode()},
        {"json": pa.ExtensionArray.from_storage(JSON, pa.array(['{"a": 1}', None])), "n": [None, 4]},
        {"n": pa.array([], pa.int64()), "list": pa.array([], pa.list_(pa.int64()))},
        {"n": [5], "list": [[1, None]], "kind": ["x"]},
    ]
    found = batch_of(entries(*(shapes * 10)), START)
    expected = pa.Table.from_batches([conform(entry.batch, found.put_schema) for entry in found.entries])
    monkeypatch.setattr(batches, "conform", counted)
    rows = replace(found).put_rows
    rows.validate(full=True)
    assert rows.schema.equals(found.put_schema)
    assert rows.to_pylist() == expected.to_pylist()
    assert casts == [20, 10, 20, 0, 10]


@given(st.lists(st.integers(0, 4), min_size=2, max_size=6), st.data())
def test_frames_that_were_read_together_make_the_batch_that_they_make_one_by_one(
    sizes: list[int], data: st.DataObject
) -> None:
    found = entries(*({"a": [100 * number + row for row in range(size)]} for number, size in enumerate(sizes)))
    found = [replace(entry, batch=entry.batch.cast(pa.schema({"a": pa.int64()}))) for entry in found]
    whole, one_by_one = batch_of([read_together(found)], START), batch_of(found, START)
    rows = data.draw(st.integers(0, whole.num_rows))
    for batch, other in ((whole, one_by_one), (whole.head(rows), one_by_one.head(rows))):
        assert batch.num_rows == other.num_rows
        assert [*split(batch.entries)] == [*other.entries]
        assert list(batch.frame_times()) == list(other.frame_times())
        assert batch.pieces() == other.pieces()
        assert batch.frames == other.frames
        if batch.entries:
            assert (batch.first_time_ns, batch.end) == (other.first_time_ns, other.end)
            assert batch.put_rows.equals(other.put_rows)
