"""A frame of a known shape is encoded as it would be converted, or converted."""

import datetime
import decimal
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from api2db.errors import FrameError
from api2db.frames import EncodedRows, Refused, frame_and_refused, rows_and_refused
from api2db.frames._shapes import Shapes, _Shape, shapes_of
from tests.frames.examples import every_kind, objects


@pytest.fixture(autouse=True)
def _nothing_known() -> None:
    shapes_of.cache_clear()


def _decoded(found: Sequence[Any]) -> list[pa.RecordBatch]:
    decoded = [
        part.batch() if isinstance(part, EncodedRows) else part.rows if isinstance(part, Refused) else part
        for part in found
    ]
    for batch in decoded:
        batch.validate(full=True)
    return decoded


def _same(found: Sequence[object], expected: Sequence[object]) -> bool:
    return len(found) == len(expected) and all(
        str(one.schema.serialize().to_pybytes()) == str(other.schema.serialize().to_pybytes())
        and repr(one.to_pylist()) == repr(other.to_pylist())  # NaN is not equal to itself
        for one, other in zip(_decoded(found), _decoded(expected), strict=True)
    )


_CONVERTED = {">i8", "category", "category_of_intervals", "category_of_nothing", "period", "interval", "sparse"}
_CONVERTED |= {"Int64", "Float64", "boolean", "arrow_list"}
if pd.StringDtype().storage == "python":  # before pandas 3
    _CONVERTED.add("string")


@pytest.mark.parametrize("name", every_kind())
def test_every_kind_of_column_is_encoded_as_it_is_converted(name: str) -> None:
    frame = pd.DataFrame({"a": [1, 2], "c": every_kind()[name], "z": ["x", None]})
    first, second = frame_and_refused(frame), frame_and_refused(frame.copy())
    assert not isinstance(first[0], EncodedRows)
    assert isinstance(second[0], EncodedRows) == (name not in _CONVERTED)
    assert _same(second, rows_and_refused(frame))


class Text(str):
    """A subclass of str."""

    __slots__ = ()

    def __str__(self) -> str:
        return "another text"


_FLOATS = some.floats() | some.none()
_CELLS: tuple[some.SearchStrategy[Any], ...] = (
    some.none(),
    some.integers(-5, 5),
    some.integers(-(2**70), 2**70),
    some.booleans(),
    some.floats(),
    some.text(max_size=3),
    some.just(Text("text")),
    some.just("\ud800"),
    some.binary(max_size=3),
    some.decimals(allow_nan=True, allow_infinity=False, places=2),
    some.dates(),
    some.datetimes(),
    some.datetimes(timezones=some.just(datetime.UTC)),
    some.just({"a": [1, None]}),
    some.just([1.5]),
    some.sampled_from([np.float32(1.5), np.int8(3), np.nan, pd.NaT, pd.NA, pd.Timestamp(1), {1}, object]),
)


def _series(cells: some.SearchStrategy[Any], dtype: str) -> Callable[[int], some.SearchStrategy[Any]]:
    def drawn(height: int) -> some.SearchStrategy[Any]:
        values = some.lists(cells, min_size=height, max_size=height)
        return values.map(lambda found: pd.Series(found, dtype=dtype))

    return drawn


def _objects(height: int) -> some.SearchStrategy[Any]:
    mixed = some.lists(some.one_of(*_CELLS), min_size=height, max_size=height)
    return mixed.map(lambda cells: objects(*cells))


def _alike(cells: some.SearchStrategy[Any]) -> Callable[[int], some.SearchStrategy[Any]]:
    def drawn(height: int) -> some.SearchStrategy[Any]:
        return some.lists(cells, min_size=height, max_size=height).map(lambda found: objects(*found))

    return drawn


_MOMENTS = some.none() | some.datetimes(datetime.datetime(1800, 1, 1), datetime.datetime(2200, 1, 1))  # noqa: DTZ001
_COLUMNS: tuple[Callable[[int], some.SearchStrategy[Any]], ...] = (
    _series(some.integers(-128, 127), "int8"),
    _series(some.integers(0, 2**64 - 1), "uint64"),
    _series(some.integers(-(2**63), 2**63 - 1), "int64"),
    _series(_FLOATS, "float64"),
    _series(some.floats(width=32) | some.just(float("nan")), "float32"),
    _series(some.booleans(), "bool"),
    _series(_MOMENTS, "datetime64[us]"),
    _series(_MOMENTS, "datetime64[ns, Europe/Paris]"),
    _series(some.none() | some.timedeltas(datetime.timedelta(-99), datetime.timedelta(99)), "timedelta64[s]"),
    _series(some.none() | some.text(some.characters(exclude_categories=["Cs"]), max_size=3), "str"),
    _series(some.none() | some.text(some.characters(exclude_categories=["Cs"]), max_size=3), "string"),
    _series(some.none() | some.sampled_from("ab"), "category"),
    _series(some.none() | some.integers(-9, 9), "Int64"),
    _series(some.none() | some.integers(-9, 9), "int32[pyarrow]"),
    _objects,
    *(_alike(some.none() | cells) for cells in _CELLS),
)
_INDEXES: tuple[Callable[[int], pd.Index], ...] = (
    pd.RangeIndex,
    lambda height: pd.Index([7] * height),
    lambda height: pd.Index(range(height), name="named"),
    lambda height: pd.Index([0.5] * height),
    lambda height: pd.MultiIndex.from_product([["a"], range(height)], names=["x", None]),
)
_USUAL = some.lists(some.sampled_from("abc"), min_size=1, max_size=3, unique=True)
_LABELS = _USUAL | _USUAL | some.lists(some.sampled_from(["a", "b", "1", 1, 1.5, True, None]), max_size=4)
_ROWS = (slice(None), slice(None), slice(None, None, 2), slice(1, None))


@some.composite
def _frames(draw: some.DrawFn) -> list[pd.DataFrame]:
    """Frames of one or two layouts in turn; the cells of a column may change their types."""
    kinds = some.lists(some.sampled_from(_COLUMNS), min_size=4, max_size=4)
    layouts = draw(some.lists(some.tuples(_LABELS, kinds), min_size=1, max_size=2))
    index = draw(some.just(pd.RangeIndex) | some.sampled_from(_INDEXES))
    frames = []
    for place in range(draw(some.integers(2, 6))):
        names, layout = layouts[place % len(layouts)]
        height = draw(some.integers(0, 9))
        columns = [draw(kind(height)) for _, kind in zip(names, layout, strict=False)]
        frame = pd.concat(columns, axis=1) if columns else pd.DataFrame(index=range(height))
        frame.columns = pd.Index(names)
        frame.index = index(height)
        frames.append(frame[draw(some.sampled_from(_ROWS))])
    return frames


def _outcome(convert: Callable[[pd.DataFrame], Sequence[object]], frame: pd.DataFrame) -> Any:
    try:
        return convert(frame)
    except FrameError as error:
        return str(error)


def _check(frames: Sequence[pd.DataFrame]) -> None:
    shapes_of.cache_clear()
    for frame in frames:
        expected = _outcome(rows_and_refused, frame)
        for _ in range(2):
            found = _outcome(frame_and_refused, frame)
            assert found == expected if isinstance(expected, str) else _same(found, expected)


@given(_frames())
@settings(max_examples=40)
def test_frames_of_any_shapes_are_encoded_as_they_are_converted(frames: list[pd.DataFrame]) -> None:
    _check(frames)


@pytest.mark.torture
@pytest.mark.timeout(1800)
@given(_frames())
@settings(max_examples=20_000)
def test_thousands_of_frames_are_encoded_as_they_are_converted(frames: list[pd.DataFrame]) -> None:
    _check(frames)


def test_cells_that_change_their_type_in_the_next_frame_keep_their_values() -> None:
    cells = [
        objects(1, 2),
        objects("x", None),
        objects(1, "x"),
        objects(None, None),
        objects(decimal.Decimal("1.5"), 2),
    ]
    for series in [*cells, *cells]:
        frame = pd.DataFrame({"c": series, "f": [np.nan, np.nan] if len(series.dropna()) else [1.5, np.nan]})
        assert _same(frame_and_refused(frame), rows_and_refused(frame))
    assert isinstance(frame_and_refused(pd.DataFrame({"c": cells[2], "f": [np.nan, np.nan]}))[0], EncodedRows)


def test_blocks_of_any_layout_in_memory_are_encoded() -> None:
    values = np.arange(24.0).reshape(4, 6)
    values[1, 3] = np.nan
    whole = np.nan_to_num(values).astype(np.int16)
    for array in (values, np.asfortranarray(values), values[::2], values[:, ::-1], whole, values > 3):
        frame = pd.DataFrame(array, columns=list("fedcba"))
        frame_and_refused(frame)
        for again in (frame, frame[["a", "b", "c", "d", "e", "f"]], frame[1:], frame.assign(b=1)):
            frame_and_refused(again)
            found = frame_and_refused(again)
            assert isinstance(found[0], EncodedRows)
            assert _same(found, rows_and_refused(again))


def test_large_frames_and_long_texts_are_converted() -> None:
    for frame in (pd.DataFrame({"c": range(5000)}), pd.DataFrame({"c": ["x" * 40_000]})):
        frame_and_refused(frame)
        assert not isinstance(frame_and_refused(frame)[0], EncodedRows)


def test_nothing_is_encoded_if_pandas_keeps_its_columns_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame({"c": [1, 2]})
    frame_and_refused(frame)

    def fail(*_: object) -> bool:
        raise AttributeError("blocks")

    monkeypatch.setattr(_Shape, "fits", fail)
    assert _same(frame_and_refused(frame), rows_and_refused(frame))


def test_a_shape_that_gives_another_batch_is_not_used() -> None:
    shapes, frame = Shapes(), pd.DataFrame({"c": [1, 2]})
    shapes.learn(frame, pa.record_batch({"c": [1, 3]}))
    assert shapes.encoded(frame) is None


def test_an_encoded_frame_does_not_change_with_the_dataframe() -> None:
    frame = pd.DataFrame({"c": [1, 2]})
    frame_and_refused(frame)
    [encoded] = frame_and_refused(frame)
    frame.loc[0, "c"] = 7
    assert _decoded([encoded])[0].to_pydict() == {"c": [1, 2]}


def test_frames_whose_labels_are_kept_in_two_ways_are_encoded_in_turn() -> None:
    frames = [pd.DataFrame([[1]], columns=pd.Index(["c"], dtype=dtype)) for dtype in (object, "string[pyarrow]")]
    for frame in frames:
        frame_and_refused(frame)
    assert all(isinstance(frame_and_refused(frame)[0], EncodedRows) for frame in frames)


def test_labels_that_were_changed_in_place_are_seen() -> None:
    labels = pd.Index(["a", "b"], dtype=object)
    frame = pd.DataFrame([[1, 2]], columns=labels)
    frame_and_refused(frame)
    labels._values[0] = "c"  # type: ignore[attr-defined]  # as pandas 2 lets frame.columns.values be changed
    assert _same(frame_and_refused(frame), rows_and_refused(frame))


def test_frames_that_are_always_converted_displace_no_known_shape() -> None:
    known = pd.DataFrame({"c": [1]})
    frame_and_refused(known)
    for label in "abcde":
        frame_and_refused(pd.DataFrame({label: pd.Categorical(["x"])}))
    assert isinstance(frame_and_refused(known)[0], EncodedRows)
