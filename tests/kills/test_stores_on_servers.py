"""One round of a store into BigQuery or HeavyDB is killed at its system calls, between its loads and within them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.kills.checker import Row, Verdict, judge
from tests.kills.fork_server import ForkServer
from tests.kills.homes import Home
from tests.kills.steps import CALLS, Step, sample
from tests.kills.test_stores import Killing, kill_at_steps
from tests.servers.bigquery import BigqueryServer
from tests.servers.omnisci import OmnisciServer
from tests.stream.bigqueries import DATASET, target_of_bigquery

KINDS = ["bigquery", "bigquery_by_key", "bigquery_replace", "omnisci"]
WITHOUT_LEDGER = ["bigquery", "omnisci"]
IN_THE_SUITE = 5
IN_A_PLANTED = 16


@dataclass(frozen=True)
class There:
    """A server: what a store is told of it, what it holds, and how it comes to hold nothing."""

    options: dict[str, Any]
    rows: Callable[[], Sequence[Row]]
    clear: Callable[[], None]


@dataclass
class KillingOnServer(Killing):
    """Rounds of some loads each, the first ones of their home, into a table that is not there yet."""

    calls: Sequence[str] = (*CALLS, "sendto")
    there: There = field(kw_only=True)

    def __post_init__(self) -> None:
        self.kind, self.options = self.name, {**self.there.options, "chunk_size": 7}
        self.origin = self._home(self.place / "origin")
        self.put(self.origin, range(1, 9))

    def judged(self, home: Home) -> Verdict:
        found = list(self.there.rows())
        if self.kind != "bigquery_replace":
            return judge(found, range(1, 12))
        first = min(row["n"] for row in found)
        assert first in {1, 9}, "the table is neither a round nor the one behind it"
        return judge(found, range(first, 12))

    def _copy(self) -> Home:
        self.there.clear()
        return super()._copy()


@pytest.fixture
def there(request: pytest.FixtureRequest) -> There:
    name: str = request.getfixturevalue("name")
    if name == "omnisci":
        server: OmnisciServer = request.getfixturevalue("omnisci")
        return There(server.reach.options, lambda: in_heavydb(server), server.clear)
    google: BigqueryServer = request.getfixturevalue("bigquery")
    return There(target_of_bigquery(google), lambda: google.rows(DATASET, "flights"), google.clear)


def in_heavydb(server: OmnisciServer) -> list[Row]:
    """A text of no characters is NULL there."""
    found = server.sql('SELECT * FROM "flights_store" ORDER BY rowid').to_pylist()
    named = [{name.removesuffix("_t"): value for name, value in row.items()} for row in found]
    return [{**row, "payload": row["payload"] or ""} for row in named]


@pytest.mark.parametrize("name", KINDS)
def test_a_store_killed_at_a_step_is_finished_by_its_next_round(
    fork_server: ForkServer, tmp_path: Path, say: list[str], there: There, name: str
) -> None:
    say.append(kill_at_steps(KillingOnServer(fork_server, tmp_path, name, there=there), IN_THE_SUITE))


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", KINDS)
def test_a_store_killed_at_every_step_is_finished_by_its_next_round(
    fork_server: ForkServer, tmp_path: Path, say: list[str], there: There, name: str
) -> None:
    say.append(kill_at_steps(KillingOnServer(fork_server, tmp_path, name, there=there), None))


@pytest.mark.parametrize("name", WITHOUT_LEDGER)
def test_a_store_that_forgets_how_far_it_was_in_its_manifest_doubles_rows(
    fork_server: ForkServer, tmp_path: Path, there: There, name: str
) -> None:
    killing = KillingOnServer(fork_server, tmp_path, name, without="store position", there=there)
    verdicts = (killing.killed_at(step) for step in _renames(killing))
    assert any(verdict.doubled for verdict in verdicts if verdict is not None)


def _renames(killing: Killing) -> list[Step]:
    """Each write of the manifest ends in one."""
    return sample([step for step in killing.steps() if step.call.startswith("rename")], IN_A_PLANTED)
