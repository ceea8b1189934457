"""A pickle is read for the DataFrame it holds, and nothing in it is run."""

import datetime
import functools
import io
import operator
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from api2db.errors import FormatError, UnsafePickleError
from api2db.formats import read_frame, write_frame
from api2db.formats._pickle_build import ALLOWED
from tests.formats.frames import every_cell, every_dtype


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "frame.pickle"


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", every_dtype().columns)
def test_every_dtype_comes_back_whatever_the_protocol(file: Path, name: str, protocol: int) -> None:
    frame = every_dtype()[[name]]
    file.write_bytes(pickle.dumps(frame, protocol))
    pd.testing.assert_frame_equal(read_frame(file, "pickle"), frame)


@pytest.mark.parametrize("protocol", [2, 5])
def test_all_dtypes_come_back_together(file: Path, protocol: int) -> None:
    file.write_bytes(pickle.dumps(every_dtype(), protocol))
    pd.testing.assert_frame_equal(read_frame(file, "pickle"), every_dtype())


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("cell", every_cell(), ids=repr)
def test_every_cell_comes_back(file: Path, cell: object, protocol: int) -> None:
    frame = pd.DataFrame({"a": pd.Series([None, cell], dtype=object)})
    file.write_bytes(pickle.dumps(frame, protocol))
    back = read_frame(file, "pickle")["a"][1]
    assert type(back) is type(cell)
    assert repr(back) == repr(cell)


def test_numbers_of_the_other_byte_order_come_back(file: Path) -> None:
    frame = pd.DataFrame({"a": np.array([1, 2], ">i4")})
    write_frame(frame, file, "pickle")
    assert read_frame(file, "pickle")["a"].tolist() == [1, 2]


INDEXES = [
    pd.Index(["x", "y"], name="k"),
    pd.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["k", None]),
    pd.date_range("2020-01-01", periods=2, tz="America/New_York"),
    pd.timedelta_range("1h", periods=2),
    pd.CategoricalIndex(["x", "y"]),
    pd.RangeIndex(4, 0, -2),
    pd.Index([2, 1]),
]


@pytest.mark.parametrize("index", INDEXES, ids=repr)
@pytest.mark.parametrize("side", ["index", "columns"])
def test_every_index_comes_back(file: Path, index: pd.Index, side: str) -> None:
    frame = pd.DataFrame([[1, 2], [3, 4]]).set_axis(index, axis="index" if side == "index" else "columns")
    write_frame(frame, file, "pickle")
    pd.testing.assert_frame_equal(read_frame(file, "pickle"), frame, check_freq=False)


@pytest.mark.parametrize(
    "frame", [pd.DataFrame(), pd.DataFrame(index=[1, 2]), pd.DataFrame({"a": []})], ids=["0", "1", "2"]
)
def test_frames_without_cells_come_back(file: Path, frame: pd.DataFrame) -> None:
    write_frame(frame, file, "pickle")
    pd.testing.assert_frame_equal(read_frame(file, "pickle"), frame)


def test_pandas_reads_what_we_write(file: Path) -> None:
    write_frame(every_dtype(), file, "pickle")
    pd.testing.assert_frame_equal(pd.read_pickle(file), every_dtype())


def test_names_that_pandas_1_had_are_read(file: Path) -> None:
    times = pd.DataFrame(
        {"a": pd.Series([Payload(pd.Timestamp, 5, None, None), Payload(pd.Timedelta, 5)], dtype=object)}
    )
    file.write_bytes(pickle.dumps(times))
    assert read_frame(file, "pickle")["a"].tolist() == [pd.Timestamp(5), pd.Timedelta(5)]
    content = pickle.dumps(pd.DataFrame({1: [1]}, index=[7]), 2)
    older = content.replace(b"cpandas\nIndex\n", b"cpandas.core.indexes.numeric\nInt64Index\n")
    assert older != content
    file.write_bytes(older)
    assert read_frame(file, "pickle").index.tolist() == [7]


class Payload:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


def shell(canary: Path) -> Payload:
    return Payload(os.system, f"touch {canary}")


PLANTED: dict[str, Callable[[Path], object]] = {
    "at the root": shell,
    "eval": lambda canary: Payload(eval, f"open({str(canary)!r}, 'w')"),
    "exec": lambda canary: Payload(exec, f"open({str(canary)!r}, 'w')"),
    "open": lambda canary: Payload(open, str(canary), "w"),
    "in a cell": lambda canary: pd.DataFrame({"a": pd.Series([shell(canary)], dtype=object)}),
    "in a list in a cell": lambda canary: pd.DataFrame({"a": [[{"b": shell(canary)}]]}),
    "in an array": lambda canary: np.array([shell(canary)], dtype=object),
    "in an array in a cell": lambda canary: pd.DataFrame({"a": [np.array([shell(canary)], dtype=object)]}),
    "in the attrs": lambda canary: with_attrs(shell(canary)),
    "partial": lambda canary: Payload(functools.partial(os.system, f"touch {canary}")),
    "operator": lambda canary: Payload(operator.methodcaller("touch"), canary),
    "pandas reads": lambda canary: Payload(pd.read_pickle, str(canary)),
    "pandas evaluates": lambda canary: Payload(pd.eval, f"__import__('os').system('touch {canary}')"),
    "pandas writes": lambda canary: Payload(pd.DataFrame.to_csv, pd.DataFrame(), str(canary)),
    "numpy writes": lambda canary: Payload(np.savetxt, str(canary), [1]),
    "a class of ours": lambda canary: Payload(write_frame, pd.DataFrame({"a": [1]}), canary, "csv"),
}


def with_attrs(value: object) -> pd.DataFrame:
    frame = pd.DataFrame({"a": [1]})
    frame.attrs["x"] = value
    return frame


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
@pytest.mark.parametrize("protocol", [2, 5])
def test_a_planted_payload_is_refused_and_never_runs(
    file: Path, canary: Path, planted: Callable[[Path], object], protocol: int
) -> None:
    file.write_bytes(pickle.dumps(planted(canary), protocol))
    with pytest.raises(UnsafePickleError, match=r"frame\.pickle names .*nothing in it was run"):
        read_frame(file, "pickle")
    assert not canary.exists()


def test_the_payloads_do_run_where_nobody_refuses_them(file: Path, canary: Path) -> None:
    file.write_bytes(pickle.dumps(PLANTED["in a cell"](canary)))
    pd.read_pickle(file)
    assert canary.exists()


def test_nothing_runs_that_comes_before_the_payload(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_bytes(pickle.dumps([every_dtype(), Payload(print, "x")]))
    made: list[object] = []
    monkeypatch.setattr(pd, "Index", made.append)
    monkeypatch.setattr(np, "frombuffer", made.append)
    with pytest.raises(UnsafePickleError, match=r"builtins\.print"):
        read_frame(file, "pickle")
    assert made == []


def op(*parts: bytes) -> bytes:
    return b"\x80\x04" + b"".join(parts) + b"."


def name(module: str, attribute: str) -> bytes:
    return b"c" + f"{module}\n{attribute}\n".encode()


BY_HAND = {
    "getattr of a class": op(name("builtins", "getattr"), name("zoneinfo", "ZoneInfo"), b"\x8c\x05clear\x86R)R"),
    "getattr of a part": op(name("builtins", "getattr"), name("pandas", "DataFrame"), b"\x8c\x06to_csv\x86R)R"),
    "state of a class": op(name("uuid", "UUID"), b"}\x8c\x08__init__" + name("builtins", "getattr") + b"sb"),
    "slots of a class": op(name("uuid", "UUID"), b"N}\x8c\x01x" + name("builtins", "getattr") + b"s\x86b"),
    "slots of our part": op(name("uuid", "UUID"), b")\x81N}\x8c\x08made_by\x8c\x01xs\x86b"),
    "an extension": op(b"\x82\x01"),
    "a persistent id": op(b"\x8c\x01xQ"),
    "a dotted name": op(b"\x8c\x06pandas\x8c\x11DataFrame.to_csv\x93"),
    "a buffer from outside": op(b"\x97"),
    "a list that holds itself": op(b"]\x94h\x00a"),
    "no frame": op(b"K\x01"),
}


@pytest.mark.parametrize("content", BY_HAND.values(), ids=BY_HAND)
def test_a_pickle_made_by_hand_is_refused_and_changes_nothing(file: Path, content: bytes) -> None:
    import uuid

    before = dict(vars(uuid.UUID))
    file.write_bytes(content)
    with pytest.raises(FormatError, match=r"frame\.pickle"):
        read_frame(file, "pickle")
    assert dict(vars(uuid.UUID)) == before


@pytest.mark.parametrize("code", [b"\x96", b"\x8e", b"\x8d"], ids=["bytearray", "bytes", "text"])
def test_a_claim_to_hold_a_terabyte_takes_no_memory(file: Path, code: bytes) -> None:
    file.write_bytes(op(code + struct.pack("<Q", 2**40)))
    with pytest.raises(FormatError):
        read_frame(file, "pickle")


def test_a_claim_to_remember_two_billion_things_takes_no_memory(file: Path) -> None:
    file.write_bytes(op(b"K\x01r\xff\xff\xff\x7f"))
    with pytest.raises(FormatError):
        read_frame(file, "pickle")


def test_a_little_file_that_unfolds_without_end_is_refused_at_once(file: Path) -> None:
    doubled = b"".join(b"\x94h" + bytes([depth]) + b"h" + bytes([depth]) + b"\x86" for depth in range(100))
    file.write_bytes(op(b")" + doubled))
    with pytest.raises(FormatError):
        read_frame(file, "pickle")


def test_the_flags_of_a_dtype_are_not_believed(file: Path) -> None:
    content = pickle.dumps(pd.DataFrame({"a": np.array([1, 2])}), 5)
    forged = content.replace(b"\x8c\x02i8\x94", b"\x8c\x02O8\x94")
    assert forged != content
    file.write_bytes(forged)
    with pytest.raises(FormatError):
        read_frame(file, "pickle")


def test_a_category_that_is_none_is_refused(file: Path) -> None:
    content = pickle.dumps(pd.DataFrame({"a": pd.Categorical(["x", "y"] * 8)}), 5)
    forged = content.replace(bytes([0, 1] * 8), bytes([0, 100] * 8))
    assert forged != content
    file.write_bytes(forged)
    with pytest.raises(FormatError, match="codes"):
        read_frame(file, "pickle")


def test_a_text_that_ends_beyond_its_buffer_is_refused(file: Path) -> None:
    frame = pd.DataFrame({"a": pd.arrays.ArrowExtensionArray(pa.array(["ab", "cd"], pa.large_utf8()))})
    content = pickle.dumps(frame, 5)
    forged = content.replace(struct.pack("<qqq", 0, 2, 4), struct.pack("<qqq", 0, 1 << 30, 4))
    assert forged != content
    file.write_bytes(forged)
    with pytest.raises(FormatError, match="ArrowInvalid"):
        read_frame(file, "pickle")


class Forger(pickle.Pickler):
    """Pickles every Arrow array as one that is restored from this state."""

    def __init__(self, file: io.BytesIO, state: tuple[object, ...]) -> None:
        super().__init__(file, 5)
        self.state = state

    def reducer_override(self, obj: Any) -> Any:
        return (obj.__reduce__()[0], (self.state,)) if isinstance(obj, pa.Array) else NotImplemented


def with_arrow_array(state: tuple[object, ...]) -> bytes:
    content = io.BytesIO()
    Forger(content, state).dump(pd.DataFrame({"a": pd.arrays.ArrowExtensionArray(pa.array([1]))}))
    return content.getvalue()


OFFSETS = pa.py_buffer(struct.pack("<ii", 0, 1))
INT = (pa.int64(), 1, 0, 0, (None, pa.py_buffer(bytes(8))), (), None)
TEXT = (pa.utf8(), 1, 0, 0, (None, OFFSETS, pa.py_buffer(b"x")), (), None)
PAIR = (pa.map_(pa.utf8(), pa.int64()).field(0).type, 1, 1, 0, (pa.py_buffer(b"\0"),), (TEXT, INT), None)
FORGED = {
    "a list of another type": (pa.list_(pa.utf8()), 1, 0, 0, (None, OFFSETS), (INT,), None),
    "a list of a fixed size of another type": (pa.list_(pa.utf8(), 1), 1, 0, 0, (None,), (INT,), None),
    "a map of no pairs": (pa.map_(pa.utf8(), pa.int64()), 1, 0, 0, (None, OFFSETS), (INT,), None),
    "a map of a null": (pa.map_(pa.utf8(), pa.int64()), 1, 0, 0, (None, OFFSETS), (PAIR,), None),
    "a list without a child": (pa.list_(pa.int64()), 1, 0, 0, (None, OFFSETS), (), None),
    "too few buffers": (pa.int64(), 1, 0, 0, (None,), (), None),
    "no buffer": (pa.int64(), 1, 0, 0, (None, None), (), None),
    "a buffer of objects": (pa.int64(), 1, 0, 0, (None, Payload(pa.py_buffer, np.array([{}]))), (), None),
}


@pytest.mark.parametrize("state", FORGED.values(), ids=FORGED)
def test_an_arrow_array_of_forged_parts_is_refused(file: Path, state: tuple[object, ...]) -> None:
    file.write_bytes(with_arrow_array(state))
    with pytest.raises(FormatError, match=r"frame\.pickle"):
        read_frame(file, "pickle")


def test_an_arrow_array_of_honest_parts_is_read(file: Path) -> None:
    file.write_bytes(with_arrow_array(INT))
    assert read_frame(file, "pickle").iloc[0, 0] == 0


def test_a_true_that_is_no_one_is_a_true(file: Path) -> None:
    content = pickle.dumps(pd.DataFrame({"a": [True] * 16}), 5)
    forged = content.replace(b"\x01" * 16, b"\xff" * 16)
    assert forged != content
    file.write_bytes(forged)
    assert read_frame(file, "pickle")["a"].to_numpy().tobytes() == b"\x01" * 16


def test_a_date_that_no_calendar_has_is_refused(file: Path) -> None:
    content = pickle.dumps(pd.DataFrame({"a": [datetime.date(2020, 1, 1)]}), 5)
    forged = content.replace(b"\x07\xe4\x01\x01", b"\x07\xe4\x01\xff")
    assert forged != content
    file.write_bytes(forged)
    with pytest.raises(FormatError, match="day"):
        read_frame(file, "pickle")


class Foreign:
    """A class that no other program has."""


@pytest.mark.parametrize("cell", [Foreign(), pd.Period("2020"), pd.Interval(0, 1), 1j, range(3)])
def test_what_would_not_be_read_again_is_not_written(file: Path, cell: object) -> None:
    with pytest.raises(FormatError, match=type(cell).__name__):
        write_frame(pd.DataFrame({"a": pd.Series([cell], dtype=object)}), file, "pickle")
    assert not file.exists()


def test_the_allowed_names_hold_nothing_that_acts_by_itself() -> None:
    acting = {"eval", "exec", "compile", "open", "system", "import_module", "__import__", "partial", "methodcaller"}
    assert not acting & {name.partition(".")[2] for name in ALLOWED}
    assert not {"os", "sys", "subprocess", "operator"} & {name.partition(".")[0] for name in ALLOWED}


def test_a_frame_reads_from_memory_too() -> None:
    from api2db.formats import _pickled as pickled

    file = io.BytesIO(pickled.dump(pd.DataFrame({"a": [1]})))
    assert pickled.load(file)["a"].tolist() == [1]
