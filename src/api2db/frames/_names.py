"""Column names: text, and unique."""

from collections import Counter
from collections.abc import Iterable

from api2db.errors import FrameError
from api2db.frames._cell_values import value_of


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
