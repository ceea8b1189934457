"""Column names, which are text and unique, and the index of a DataFrame as columns."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import pandas as pd

from api2db.errors import FrameError
from api2db.frames._cell_values import value_of

logger = logging.getLogger(__name__)
_COUNTS = frozenset({"integer", "empty"})
_MOST_NAMED = 5
_collector = ContextVar("_collector", default="")


def column_names(labels: Iterable[object]) -> tuple[str, ...]:
    names = tuple(map(_name, labels))
    if len(set(names)) != len(names):
        repeated = [name for name, count in Counter(names).items() if count > 1]
        raise FrameError(
            f"more than one column is named {', '.join(map(repr, repeated))}; rename them (an index with a name is a "
            "column too: frame.reset_index(drop=True) leaves it out)"
        )
    return names


def _name(label: object) -> str:
    if isinstance(label, (tuple, list)):
        raise FrameError(f"the column label {label!r} is not a name; join its parts to one text first")
    value = value_of(label)
    name = str(None if _is_missing(value) else value)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise FrameError(f"the column name {name!r} holds half of a surrogate pair; rename the column") from None
    return name


def _is_missing(label: object) -> bool:
    """Whether it is the label None, which pandas 3 turns into NaN beside labels that are text."""
    return label is None or label != label  # noqa: PLR0124 - NaN alone differs from itself


def with_index_as_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with its index as its first columns, unless the index only counts rows: see ``index_names``."""
    index = frame.index
    if isinstance(index, pd.RangeIndex) and index.name is None:
        return frame
    levels = [index.get_level_values(level) for level in range(index.nlevels)]
    counts = [level.inferred_type in _COUNTS for level in levels]
    names = index_names(index.names, counts, map(str, frame.columns))
    if not names:
        return frame
    column_names([*names, *frame.columns])
    leading = index.set_names(names).to_frame(index=False)
    return pd.concat([leading, frame.reset_index(drop=True)], axis=1)


def index_names(names: Sequence[object], counts: Sequence[bool], columns: Iterable[str]) -> list[Any]:
    """Return the names under which an index becomes columns, as ``DataFrame.reset_index`` does; none if it is dropped.

    An index without a name is dropped if it holds only ints. Otherwise it is kept, which is logged once.

    Args:
        names: The name of each level, None for one without.
        counts: For each level, whether it holds only ints.
        columns: The names of the frame's other columns.

    Raises:
        FrameError: The index has no name, and both names that it could get are names of columns.
    """
    if any(name is not None for name in names):
        return [f"level_{place}" if name is None else name for place, name in enumerate(names)]
    if all(counts):
        return []
    others = tuple(columns)
    if len(names) > 1:
        kept = [f"level_{place}" for place in range(len(names))]
    else:
        kept = ["index" if "index" not in others else "level_0"]
        if kept[0] in others:
            raise FrameError(
                "the index has no name, and there are columns named 'index' and 'level_0'; name it first, as in "
                "frame.rename_axis('time'), or leave it out: frame.reset_index(drop=True)"
            )
    _warn_that_index_is_kept(_collector.get(), tuple(kept), others)
    return kept


@contextmanager
def naming_collector(name: str) -> Iterator[None]:
    """Name a collector in what is logged about its frames, which are converted within the block."""
    before = _collector.set(name)
    try:
        yield
    finally:
        _collector.reset(before)


@lru_cache(maxsize=1024)
def _warn_that_index_is_kept(collector: str, kept: tuple[str, ...], others: tuple[str, ...]) -> None:
    logger.warning(
        "%sthe index of a frame with the columns %s has no name; it is stored as %s. Name it with "
        "frame.rename_axis, or leave it out with frame.reset_index(drop=True)",
        collector and f"{collector}: ",
        ", ".join(map(repr, others[:_MOST_NAMED])) + (", …" if len(others) > _MOST_NAMED else ""),
        ", ".join(map(repr, kept)),
    )
