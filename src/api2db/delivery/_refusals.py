"""A search for the rows of a batch that a target refuses, by trials that are rolled back."""

from collections.abc import Callable, Sequence
from typing import Final

from api2db.errors import BatchRefusedError

SMALL_ROWS: Final = 64  # a batch of at most so many rows is searched without a limit of trials


class TooManyRefusalsError(Exception):
    """Trials can't find the rows at fault, or would be too many: the batch must be retried in smaller ones."""


class TooLargeError(TooManyRefusalsError):
    """The batch is larger than one load may be: it must be retried in smaller ones.

    Args:
        rows: The number of its rows to load instead.
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
    """Find each row that is refused, alone or together with earlier rows: of two that conflict the first is kept.

    Args:
        rows: The numbers of the batch's rows.
        refusal_of: Tries to load some of the rows; returns the refusal, if any.
        refusal: The refusal of all rows together.
        most_trials: The largest number of trials; None for no limit. Each row at fault needs about log2(rows).

    Returns:
        The reason for each row at fault; the others are accepted together.

    Raises:
        TooManyRefusalsError: The trials ran out, or a trial of all rows was not refused.
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
