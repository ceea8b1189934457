"""What a demo proves: its folder, and whether each target has every served row once."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow.dataset
from rich.console import Console
from rich.text import Text

from api2db.app.screen import print_table
from api2db.disk.atomic import make_folders
from api2db.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Proof:
    """One target of one collector, compared with what was served.

    Attributes:
        missing: Number of served rows that the target lacks.
        doubled: Number of rows that it holds more than once.
    """

    collector: str
    target: str
    served: int
    rows: int
    missing: int
    doubled: int

    @property
    def holds(self) -> bool:
        """Whether the target holds each served row once, and nothing else."""
        return self.served == self.rows and not self.missing and not self.doubled


def new_home(home: Path | None) -> Path:
    """Make the folder of a demo: this one, or ``demo/<date and time>`` here.

    Raises:
        ConfigurationError: It holds a project already.
    """
    folder = (home or Path("demo") / f"{datetime.now():%Y%m%d-%H%M%S}").absolute()  # noqa: DTZ005 - a name for people
    if (folder / "STORE").exists():
        raise ConfigurationError(f"{folder} holds a project already; give the demo an empty folder: --home")
    make_folders(folder)
    return folder


def proof_of(collector: str, target: str, served: Sequence[str], there: Sequence[str]) -> Proof:
    """Compare the ids that were served with those in a target."""
    counts = Counter(there)
    missing = sum(id_ not in counts for id_ in served)
    doubled = sum(count > 1 for count in counts.values())
    return Proof(collector, target, len(served), len(there), missing, doubled)


def print_proofs(console: Console, found: Sequence[Proof]) -> bool:
    """Print a table of proofs and the verdict; return whether all of them hold."""
    head = ["collector", "target", "rows served", "rows there", "missing", "doubled"]
    rows = [
        [
            proof.collector,
            proof.target,
            *(f"{count:,}" for count in (proof.served, proof.rows, proof.missing, proof.doubled)),
        ]
        for proof in found
    ]
    print_table(console, head, rows)
    holds = all(proof.holds for proof in found)
    verdict = (
        "Exactly once: every row that was served is in each target, and no row is there twice."
        if holds
        else ("The counts differ. Please report that, with the folder below.")
    )
    console.print(Text(f"\n{verdict}\n", style="bold green" if holds else "bold red"))
    return holds


def shard_ids(folder: Path) -> list[str]:
    """The ids in the Parquet files of a folder."""
    ids: list[str] = []
    for path in sorted(folder.glob("*.parquet")):
        ids += pyarrow.dataset.dataset(path).to_table(columns=["id"]).column("id").to_pylist()
    return ids
