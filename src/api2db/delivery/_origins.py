"""Which frame brought a change of a table about, and what values it has: for the row and the log line of the change."""

import pyarrow as pa
import pyarrow.compute as pc

from api2db.delivery.batch import Batch
from api2db.frames import encode_cell, python_values
from api2db.redaction import redact
from api2db.targets.port import ChangeOrigin, ChangeOrigins

_SAMPLES = 3
_LONGEST = 40


def origins_of(batch: Batch, masks: dict[str, pa.Array] | None = None) -> ChangeOrigins:
    """Tell the origin of a change by the column's name.

    Args:
        batch: The rows that the table is to follow.
        masks: By column the values that made it change; where there is none, all that are not null.
    """

    def cause_of(column: str) -> ChangeOrigin:
        if column not in batch.rows.column_names:
            return ChangeOrigin(next((time for time, _ in batch.frame_times()), 0))
        values = batch.rows.column(column)
        chosen = (masks or {}).get(column)
        places = pc.indices_nonzero(values.is_valid() if chosen is None else chosen).slice(0, 100)
        first = places[0].as_py() if len(places) else 0
        return ChangeOrigin(_frame_of(batch, first), _told(column, python_values(values.take(places))))

    return cause_of


def _frame_of(batch: Batch, row: int) -> int:
    for time, rows in batch.frame_times():
        if row < rows:
            return time
        row -= rows
    return 0


def _told(column: str, values: list[object]) -> str:
    """At most three that differ, each behind the column's name, by which a secret is known as one."""
    texts = list(dict.fromkeys(encode_cell(value) for value in values))[:_SAMPLES]
    told = [redact(f"{column}={text}") for text in texts]
    return ", ".join(
        text if len(text) <= _LONGEST + len(column) else f"{text[: _LONGEST + len(column)]}…" for text in told
    )
