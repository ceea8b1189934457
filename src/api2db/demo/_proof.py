"""What the demo proves at its end: every row that was served is in each target, once."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow.dataset

from api2db.demo import _records

DATABASE = "STORE/demo.duckdb"

QUERIES = (
    (
        "Which airlines gave up most flights in the storm?",
        """SELECT airline->>'name' AS airline, count(*) AS flights,
       count(*) FILTER (dep_time IS NULL) AS cancelled,
       round(avg(dep_delay), 1) AS mean_delay_min
FROM departures GROUP BY ALL ORDER BY cancelled DESC LIMIT 5""",
    ),
    (
        "What did the weather do to departures, day by day?",
        """SELECT f.day, count(*) AS flights, round(100 * avg((f.dep_time IS NULL)::INT)) AS cancelled_percent,
       round(min(w.visib), 2) AS worst_visibility_miles, round(max(w.wind_speed), 1) AS strongest_wind_mph
FROM departures f LEFT JOIN weather w USING (origin, time_hour) GROUP BY ALL ORDER BY f.day""",
    ),
)


@dataclass(frozen=True, slots=True)
class Proof:
    """One target of one collector against what was served.

    Attributes:
        missing: Rows that were served and are not there.
        doubled: Rows that are there more than once.
    """

    collector: str
    target: str
    served: int
    rows: int
    missing: int
    doubled: int

    @property
    def holds(self) -> bool:
        """Whether every row is there once, and nothing else is."""
        return self.served == self.rows and not self.missing and not self.doubled


def proofs(home: Path) -> list[Proof]:
    """Compare both targets of both collectors with the slice, by the targets' own clients."""
    found = []
    for name, served in (("departures", _records.departures()), ("weather", _records.weather())):
        ids = [record.id for record in served]
        found.append(_proof(name, "Parquet shards", ids, _shard_ids(home / "STORE" / name / "parquet")))
        found.append(_proof(name, "DuckDB table", ids, _table_ids(home / DATABASE, name)))
    return found


def table_of(home: Path, query: str) -> tuple[list[str], list[list[str]]]:
    """Run a query on the demo's database; give its head and its rows as text."""
    with duckdb.connect(str(home / DATABASE), read_only=True) as connection:
        result = connection.execute(query)
        head = [column[0] for column in result.description or []]
        return head, [["" if value is None else str(value) for value in row] for row in result.fetchall()]


def _proof(collector: str, target: str, served: Sequence[str], there: Sequence[str]) -> Proof:
    counts = Counter(there)
    missing = sum(id_ not in counts for id_ in served)
    doubled = sum(count > 1 for count in counts.values())
    return Proof(collector, target, len(served), len(there), missing, doubled)


def _shard_ids(folder: Path) -> list[str]:
    ids: list[str] = []
    for path in sorted(folder.glob("*.parquet")):
        ids += pyarrow.dataset.dataset(path).to_table(columns=["id"]).column("id").to_pylist()
    return ids


def _table_ids(path: Path, table: str) -> list[str]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return [row[0] for row in connection.execute(f'SELECT id FROM "{table}"').fetchall()]  # noqa: S608 - our own name
