"""Pandas' blocks are read as they are, or not at all."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from api2db.frames import _blocks, to_batch
from tests.frames.examples import every_kind

_FRAMES = {
    "all kinds": lambda: pd.DataFrame(every_kind()),
    "all kinds, no rows": lambda: pd.DataFrame(every_kind(0)),
    "no columns": lambda: pd.DataFrame(index=range(3)),
    "neighbours out of order": lambda: pd.DataFrame({"a": [1], "b": ["x"], "c": [2]})[["c", "b", "a"]],
    "every second row of a 2-D array": lambda: pd.DataFrame(np.arange(20).reshape(5, 4), columns=list("abcd"))[::2],
    "a column added later": lambda: pd.DataFrame({"a": [1, 2]}).assign(b=3).assign(c=pd.Series([1.5, None])),
}


@pytest.mark.parametrize("name", _FRAMES)
def test_blocks_and_the_public_way_give_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = _FRAMES[name]()
    by_blocks = to_batch(frame)
    monkeypatch.setattr(_blocks, "_block_columns", _as_if_pandas_had_changed)
    assert to_batch(frame).equals(by_blocks, check_metadata=True)


def _as_if_pandas_had_changed(frame: pd.DataFrame) -> Any:
    raise AttributeError("blocks")


def test_the_blocks_of_this_pandas_are_known() -> None:
    frame = pd.DataFrame(every_kind())
    assert len(_blocks._block_columns(frame)) == frame.shape[1]


@pytest.mark.parametrize(
    "block",
    [
        SimpleNamespace(values=np.zeros((1, 7)), mgr_locs=SimpleNamespace(as_array=np.array([0]))),
        SimpleNamespace(values=np.zeros((1, 2)), mgr_locs=SimpleNamespace(as_array=np.array([5]))),
        SimpleNamespace(values=np.zeros((1, 2))),
        SimpleNamespace(arrays=[np.zeros(2)]),
    ],
)
def test_blocks_of_another_shape_are_never_believed(block: object) -> None:
    frame = SimpleNamespace(shape=(2, 1), _mgr=SimpleNamespace(blocks=[block]))
    with pytest.raises((ValueError, AttributeError, IndexError)):
        _blocks._block_columns(cast("pd.DataFrame", frame))
