"""A home, the logs of who puts into it, and what the checker says of its targets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.children import acknowledged
from tests.kills.checker import (
    Verdict,
    in_duckdb,
    in_file,
    in_shards,
    in_sqlite,
    judge,
    judge_newest,
    set_aside,
)
from tests.kills.rows import expected
from tests.stream.lakes import delta_table, iceberg_table

EMBEDDED = ("duckdb", "sqlite", "shards")
_STREAM_TYPES = {kind: f"sql.{kind}" for kind in ("duckdb", "sqlite", "postgresql", "mysql", "mariadb")}
_STREAM_TYPES |= {"omnisci": "omnisci", "bigquery": "bigquery", "bigquery_by_key": "bigquery"}
_STREAM_TYPES |= {kind: kind.partition("_")[0] for kind in ("delta", "delta_by_key", "iceberg", "iceberg_by_key")}
_LAKES = {"delta": delta_table, "iceberg": iceberg_table}
_STREAM_TYPES |= dict.fromkeys(("sqlite_by_url", "postgresql_by_url"), "sql.sqlalchemy")


@dataclass(frozen=True)
class Home:
    """A project's folder, with the logs beside it.

    Attributes:
        kinds: The targets that its streams have.
        without: What is taken away from its processes.
        options: The streams' own.
        elsewhere: The folder of its databases, where that is not in the project.
        alternates: Whether the type of a column differs between frames.
        begins_early: Whether small loads, too, begin ahead of their turn.
    """

    place: Path
    kinds: tuple[str, ...] = EMBEDDED
    without: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    elsewhere: Path | None = None
    alternates: bool = False
    begins_early: bool = False

    def __post_init__(self) -> None:
        for folder in (self.path, self.logs):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def path(self) -> Path:
        return self.place / "home"

    @property
    def logs(self) -> Path:
        return self.place / "logs"

    @property
    def databases(self) -> Path:
        return self.elsewhere or self.path / "db"

    @property
    def project(self) -> dict[str, Any]:
        """What each child needs to know."""
        places = {"home": str(self.path), "db": str(self.databases), "logs": str(self.logs)}
        said = {"without": self.without, "options": dict(self.options), "alternates": self.alternates}
        said["begins_early"] = self.begins_early
        return {**places, "kinds": list(self.kinds), **said}

    @property
    def log(self) -> Path:
        return self.logs / "acknowledged"

    def acknowledged(self, kind: str) -> list[int]:
        return expected(acknowledged(self.log), kind, self.kinds)

    def rows(self, kind: str) -> list[Any]:
        """What a target holds, in its order."""
        if kind == "shards":
            return in_shards(self.path / "STORE" / "flights" / "parquet", self.place / "consumed")
        if kind in {"update", "replace"}:
            return in_file(self.path / "CACHE" / f"{kind}d.parquet")
        lake, *_ = kind.split("_")
        if lake in _LAKES:
            folder = kind.replace("replace", "replaced").replace("by_key", "keyed")
            rows: list[Any] = _LAKES[lake](self.databases / folder).to_pylist()
            return sorted(rows, key=lambda row: (row["n"], row["row"])) if "key" in kind else rows
        dialect, _, replaced = kind.partition("_")
        path = self.databases / f"{'replaced' if replaced == 'replace' else 'flights'}.{dialect}"
        return in_duckdb(path) if dialect == "duckdb" else in_sqlite(path)

    def consume(self, batch: str) -> None:
        """Move all shards away, as who reads them may do at any time."""
        folder = self.place / "consumed" / batch
        folder.mkdir(parents=True)
        for shard in (self.path / "STORE" / "flights" / "parquet").glob("[0-9]*.parquet"):
            shard.rename(folder / shard.name)

    def judge(self, kind: str) -> Verdict:
        if "replace" in kind:
            return judge_newest(self.rows(kind), self.acknowledged(kind))
        return judge(self.rows(kind), self.acknowledged(kind), set_aside(self.path, _STREAM_TYPES.get(kind, "local")))

    def judgements(self) -> dict[str, Verdict]:
        return {kind: self.judge(kind) for kind in self.kinds}
