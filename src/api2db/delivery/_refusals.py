"""Which rows of a batch a target refuses, found by trials that are rolled back."""

from collections.abc import Callable, Sequence

from api2db.errors import BatchRefusedError


class TooManyRefusalsError(Exception):
    """The rows at fault can't be told by trials, or by so few: the batch is to be taken again in smaller ones."""


class TooLargeError(TooManyRefusalsError):
    """The batch is larger than one load may be, so it is to be taken again in smaller ones.

    Args:
        rows: How many of its rows to take instead.
    """

    def __init__(self, rows: int) -> None:
        super().__init__(rows)
        self.rows = rows


def find_refused(
    rows: Sequence[int],
    refusal_of: Callable[[list[int]], BatchRefusedError | None],
    refusal: BatchRefusedError,
    most_trials: int | None,
) -> dict[int, str]:
    """Find row after row that is refused alone, or beside those before it: of two that clash the first is kept.

    Args:
        rows: The batch, by numbers.
        refusal_of: Tries some of the rows.
        refusal: What the target said of them all.
        most_trials: None for as many as it takes, which is about log2(rows) for each row at fault.

    Returns:
        The reason for each row at fault; the others are taken together.

    Raises:
        TooManyRefusalsError: The trials ran out, or a trial of all rows is not refused.
    """
    found: dict[int, str] = {}
    left, taken, trials = list(rows), 0, 0

    def tried(chosen: list[int]) -> BatchRefusedError | None:
        nonlocal trials
        trials += 1
        if most_trials is not None and trials > most_trials:
            raise TooManyRefusalsError
        return refusal_of(chosen)

    if len(left) > 1 and tried(left) is None:
        raise TooManyRefusalsError
    while True:
        longer = len(left)
        while longer - taken > 1:
            middle = (taken + longer) // 2
            again = tried(left[:middle])
            taken, longer, refusal = (middle, longer, refusal) if again is None else (taken, middle, again)
        found[left.pop(taken)] = str(refusal)
        last = tried(left) if taken < len(left) else None
        if last is None:
            return found
        refusal = last
