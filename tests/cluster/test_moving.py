"""A journal moves from a disk into the cluster and back: every row is delivered once, wherever the move is killed."""

import os
import pkgutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from api2db.app.command_line import app
from api2db.cluster import export_journal, import_journal
from api2db.delivery import Rejects
from api2db.delivery.batch import batch_of
from api2db.disk.folders import rejected_folder
from api2db.errors import Api2dbError, ConfigurationError, JournalBusyError, JournalError
from api2db.journal import Delivered, Position, StreamIdentity, journal_store
from api2db.journal._journal import SegmentedJournal
from tests.cluster.journals import ALL_AT_ONCE, SQL, Machine, Machines, StreamNo, ids, rows
from tests.servers.nats import NatsCluster

OTHER = StreamIdentity("other", "sql.mysql")


class KilledError(BaseException):
    """The process ends here."""


def _raise() -> None:
    raise KilledError


def deliver(reader: Any) -> list[int]:
    """Deliver what waits, as a target with a ledger does, and say which rows those were."""
    found: list[int] = []
    while entries := reader.read(ALL_AT_ONCE, 0):
        found += ids(entries)
        reader.acknowledge(entries[-1].position, Delivered(rows=sum(len(each.batch) for each in entries)))
    return found


def rejects(reader: Any, home: Path) -> Rejects:
    return Rejects(reader, rejected_folder(home, "flights", "sql.postgresql"))


def filled(home: Path) -> SegmentedJournal:
    """A journal on disk with two streams: one has delivered 1 to 3, of which it has rejected 2; both lack 4 to 9.

    The first has been given 100 alone, and has rows pending that its target may have committed.
    """
    journal = SegmentedJournal(home, "flights")
    number, reader = journal.attach(SQL)
    _, other = journal.attach(OTHER)
    journal.append([rows(1, 2, 3)], cursor={"page": 1})
    batch = batch_of(reader.read(ALL_AT_ONCE, 0), reader.position)
    rejects(reader, home).set_aside(batch, {1: "planted"})
    pending = rejects(reader, home).resolve(batch.end)
    said = Delivered(frames=1, rows=2, rejected=1, rejected_bytes=pending["size_bytes"])
    reader.acknowledge(batch.end, said, clear=["pending"])
    assert deliver(other) == [1, 2, 3]
    for each in range(4, 8):
        journal.append([rows(each)], cursor={"page": each})
    journal.append([pa.record_batch({"id": [8], "large": [b"x" * 3_000_000]}), rows(9)], cursor={"page": 9})
    journal.append([rows(100)], stream_no=number)
    entries = reader.read(ALL_AT_ONCE._replace(rows=1), 0)
    reader.acknowledge(entries[0].position, Delivered(frames=1, rows=1))  # 4 is delivered, but to the first stream only
    batch = batch_of(reader.read(ALL_AT_ONCE._replace(rows=1), 0), reader.position)
    rejects(reader, home).set_aside(batch, {0: "pending"})
    journal.appender.close()
    return journal


def leave(journal: SegmentedJournal) -> tuple[str, str, Position]:
    """Close a journal; return what its streams are known by."""
    known = journal.journal_id, journal.readers[1].key, journal.readers[1].position
    journal.close()
    return known


def check(journal: Any, home: Path, read: Callable[[str], bytes | None], listed: list[str]) -> None:
    """What ``filled`` has made is there, once; and it can go on."""
    assert journal.cursor() == {"page": 9}
    readers = {
        stream.identity: journal.attach(StreamIdentity(stream.identity, kind))[1]
        for stream, kind in zip(journal.registered(), ("sql.postgresql", "sql.mysql"), strict=True)
    }
    reader = readers["sql"]
    assert (reader.delivered.frames, reader.delivered.rejected) == (2, 1)
    [file] = listed
    content = read(file)
    assert content is not None
    assert pq.read_table(pa.BufferReader(content)).column("id").to_pylist() == [2]
    assert reader.delivered.rejected_bytes == len(content)
    pending = reader.checkpoint("pending")
    assert pending is not None
    assert rejects(reader, home).resolve(Position(*pending["end"]))["rows"] == 1  # as if the ledger said so
    reader.acknowledge(Position(*pending["end"]), Delivered(rejected=1), clear=["pending"])
    assert deliver(reader) == [6, 7, 8, 9, 100]
    assert deliver(readers["other"]) == [4, 5, 6, 7, 8, 9]
    journal.append([rows(10)], cursor={"page": 10})
    assert deliver(reader) == deliver(readers["other"]) == [10]


def check_in_cluster(machine: Machine, home: Path, known: tuple[str, str, Position]) -> None:
    journal = machine.journal()
    reader = journal.core.named("sql")
    assert reader is not None
    assert (journal.journal_id, reader.key, reader.position) == known
    check(journal, home, machine.store.read_rejected, [each.file for each in machine.store.rejected_files()])
    with pytest.raises(JournalError, match="was moved to the cluster"):
        SegmentedJournal(home, "flights")
    assert not list((home / "STORE" / "rejected").glob("*/*/*"))
    assert [path.name for path in (home / "STORE" / "journal" / "flights").iterdir()] == ["moved"]


def check_on_disk(machine: Machine, home: Path, known: tuple[str, str, Position]) -> None:
    with pytest.raises(JournalError, match="was moved to the disk"):
        machine.journal()
    assert machine.store.rejected_files() == []
    journal = SegmentedJournal(home, "flights")
    try:
        assert (journal.journal_id, journal.readers[1].key, journal.readers[1].position) == known
        files = [str(path.relative_to(home)) for path in (home / "STORE" / "rejected").glob("*/*/[0-9]*.parquet")]
        check(journal, home, lambda file: (home / file).read_bytes(), files)
    finally:
        journal.close()


def test_a_journal_moves_into_the_cluster_and_back(machines: Machines, tmp_path: Path) -> None:
    known = leave(filled(tmp_path))
    machine = machines.new()
    assert import_journal(tmp_path, machine.cluster, "flights") == 7
    assert import_journal(tmp_path, machine.cluster, "flights") == 0, "it is there already"
    assert export_journal(tmp_path, machine.cluster, "flights") == 7
    assert export_journal(tmp_path, machine.cluster, "flights") == 0
    check_on_disk(machine, tmp_path, known)
    assert import_journal(tmp_path, machine.cluster, "flights") == 0, "everything is delivered"
    journal = machine.journal()
    assert journal.cursor() == {"page": 10}
    assert len(machine.store.rejected_files()) == 2
    readers = [journal.attach(identity)[1] for identity in (SQL, OTHER)]
    assert [deliver(reader) for reader in readers] == [[], []]
    journal.append([rows(11)])
    assert [deliver(reader) for reader in readers] == [[11], [11]]


def test_every_epoch_and_number_stays_known(machines: Machines, tmp_path: Path) -> None:
    machine = machines.new()
    local = filled(tmp_path)
    epochs, last = {*local.core.epochs}, local.core.sequence
    leave(local)
    import_journal(tmp_path, machine.cluster, "flights")
    journal = machine.journal()
    assert all(journal.core.named("sql").knows_epoch(each) for each in epochs)  # type: ignore[union-attr]
    epochs.add(journal.core.epoch)
    in_cluster = journal.append([rows(10)])
    assert in_cluster > last
    machine.cluster.open.pop("flights").journal.close()
    export_journal(tmp_path, machine.cluster, "flights")
    local = SegmentedJournal(tmp_path, "flights")
    assert epochs <= {*local.core.epochs}
    assert local.append([rows(11)]) > in_cluster
    local.close()


STEPS = (
    "api2db.cluster._log.Log.publish",
    "api2db.cluster._documents.Document.save",
    "api2db.journal._moving.LeavingJournal.leave",
    "api2db.journal._moving.LeavingJournal.clean",
    "api2db.journal._moving._empty",
    "api2db.cluster._moving.arrive",
    "api2db.journal._moving.ArrivingJournal.add",
    "api2db.journal._moving.ArrivingJournal.complete",
    "api2db.journal._moving.ArrivingJournal.put",
)


@contextmanager
def killed_at(
    number: int, monkeypatch: pytest.MonkeyPatch, *, after: bool, kill: Callable[[], None] = _raise
) -> Iterator[list[int]]:
    """Kill what runs in a block at the beginning, or the end, of its n-th step; yields what counts the steps."""
    left = [number]

    def killing(real: Callable[..., Any]) -> Callable[..., Any]:
        def made(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if not left[0] and not after:
                kill()
            result = real(*arguments, **options)
            if not left[0] and after:
                kill()
            return result

        return made

    with monkeypatch.context() as patched:
        for step in STEPS:
            holder, _, name = step.rpartition(".")
            patched.setattr(step, killing(getattr(pkgutil.resolve_name(holder), name)))
        yield left


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("moves", [import_journal, export_journal])
def test_a_move_that_is_killed_at_each_step_moves_everything_once(
    moves: Callable[..., int],
    machines: Machines,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    after: bool,
) -> None:
    monkeypatch.setattr("api2db.cluster._moving._TOGETHER_BYTES", 1)
    known = leave(filled(tmp_path))
    machine = machines.new()
    if moves is export_journal:
        import_journal(tmp_path, machine.cluster, "flights")
    for kill in range(1, 200):
        with killed_at(kill, monkeypatch, after=after) as left, suppress(KilledError):
            moves(tmp_path, machine.cluster, "flights")
        if left[0] > 0:
            break
        check_one_side(machine, tmp_path)
    assert kill > 5, "it was never killed"
    (check_in_cluster if moves is import_journal else check_on_disk)(machine, tmp_path, known)


def check_one_side(machine: Machine, home: Path) -> None:
    """At most one of the two journals can be opened."""
    opened = []
    with suppress(Api2dbError):
        if machine.store.names():
            machine.store.open("flights").release()
            opened.append("cluster")
    with suppress(Api2dbError):
        SegmentedJournal(home, "flights").close()
        opened.append("disk")
    assert len(opened) <= 1, opened


def test_a_journal_that_is_used_between_an_interrupted_import_and_the_next_is_moved_as_it_is_then(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api2db.cluster._moving._TOGETHER_BYTES", 1)
    leave(filled(tmp_path))
    machine = machines.new()
    with monkeypatch.context() as patched:
        patched.setattr("api2db.journal._moving.LeavingJournal.leave", _killed)
        with pytest.raises(KilledError):
            import_journal(tmp_path, machine.cluster, "flights")
    local = SegmentedJournal(tmp_path, "flights")
    _, other = local.attach(OTHER)
    assert deliver(other) == [4, 5, 6, 7, 8, 9]
    local.append([rows(10)], cursor={"page": 10})
    local.close()
    import_journal(tmp_path, machine.cluster, "flights")
    journal = machine.journal()
    assert journal.cursor() == {"page": 10}
    assert deliver(journal.attach(OTHER)[1]) == [10]
    assert deliver(journal.attach(SQL)[1]) == [5, 6, 7, 8, 9, 100, 10]


def test_rows_that_are_put_again_between_an_interrupted_import_and_the_next_are_not_put_a_second_time(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(filled(tmp_path))
    machine = machines.new()
    with monkeypatch.context() as patched:
        patched.setattr("api2db.journal._moving.LeavingJournal.leave", _killed)
        with pytest.raises(KilledError):
            import_journal(tmp_path, machine.cluster, "flights")
    local = SegmentedJournal(tmp_path, "flights")
    number, _ = local.attach(SQL)
    [path] = (tmp_path / "STORE" / "rejected").glob("*/*/[0-9]*.parquet")
    local.append([rows(2)], stream_no=number, removes=str(path.relative_to(tmp_path)))
    local.close()
    import_journal(tmp_path, machine.cluster, "flights")
    assert machine.store.rejected_files() == []
    assert deliver(machine.journal().attach(SQL)[1]) == [5, 6, 7, 8, 9, 100, 2]


def test_rows_that_are_put_again_after_an_export_was_given_up_are_not_exported_later(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(filled(tmp_path))
    machine = machines.new()
    import_journal(tmp_path, machine.cluster, "flights")
    with monkeypatch.context() as patched:
        patched.setattr("api2db.journal._moving.ArrivingJournal.complete", _killed)
        with pytest.raises(KilledError):
            export_journal(tmp_path, machine.cluster, "flights")
    import_journal(tmp_path, machine.cluster, "flights")  # it goes on in the cluster
    journal = machine.journal()
    [file] = machine.store.rejected_files()
    journal.append([rows(2)], stream_no=StreamNo(1), removes=file.file)
    machine.cluster.open.pop("flights").journal.close()
    export_journal(tmp_path, machine.cluster, "flights")
    assert not list((tmp_path / "STORE" / "rejected").glob("*/*/[0-9]*.parquet"))


def test_an_import_from_one_disk_is_not_finished_by_another_one(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there, machine = tmp_path / "here", tmp_path / "there", machines.new()
    leave(filled(here))
    import_journal(here, machine.cluster, "flights")
    export_journal(there, machine.cluster, "flights")
    with monkeypatch.context() as patched:
        patched.setattr("api2db.journal._moving.LeavingJournal.leave", _killed)
        with pytest.raises(KilledError):
            import_journal(there, machine.cluster, "flights")
    with pytest.raises(ConfigurationError, match=f"another import of flights was interrupted.*{there}"):
        import_journal(here, machine.cluster, "flights")
    import_journal(there, machine.cluster, "flights")
    assert deliver(machine.journal().attach(OTHER)[1]) == [4, 5, 6, 7, 8, 9]


def test_an_export_that_is_repeated_after_the_journal_has_moved_on_changes_nothing(
    machines: Machines, nats: NatsCluster, tmp_path: Path
) -> None:
    machine, other = machines.new(), Machines(nats, tmp_path)
    leave(filled(tmp_path))
    import_journal(tmp_path, machine.cluster, "flights")
    export_journal(tmp_path, machine.cluster, "flights")
    import_journal(tmp_path, other.new().cluster, "flights")
    with pytest.raises(ConfigurationError, match="was moved on to the cluster"):
        export_journal(tmp_path, machine.cluster, "flights")
    with pytest.raises(JournalError, match="was moved to the cluster"):
        SegmentedJournal(tmp_path, "flights")
    other.close()


def test_an_export_that_is_not_finished_is_not_taken_for_an_import_into_another_cluster(
    machines: Machines, nats: NatsCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = leave(filled(tmp_path))
    machine, other = machines.new(), Machines(nats, tmp_path)
    import_journal(tmp_path, machine.cluster, "flights")
    with monkeypatch.context() as patched:
        patched.setattr("api2db.cluster._moving.arrive", _killed)
        with pytest.raises(KilledError):
            export_journal(tmp_path, machine.cluster, "flights")
    there = other.new()
    there.store.open("flights").release()  # another journal of that name
    with pytest.raises(ConfigurationError, match="has another journal of flights"):
        import_journal(tmp_path, there.cluster, "flights")
    export_journal(tmp_path, machine.cluster, "flights")
    check_on_disk(machine, tmp_path, known)
    other.close()


def test_an_export_that_was_frozen_at_its_end_removes_nothing_of_a_later_import(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(filled(tmp_path))
    frozen, machine = machines.new(), machines.new()
    import_journal(tmp_path, frozen.cluster, "flights")
    names, real = frozen.cluster.names, frozen.cluster.jetstream.purge
    woken: list[str] = []

    def purge(stream: str, subject: str, **limits: Any) -> None:
        if stream == names.state and not woken:
            woken.append(subject)
            worker = frozen.cluster.session.start().worker
            machine.cluster.jetstream.purge(names.leases, names.worker(worker))  # its session ends meanwhile
            import_journal(tmp_path, machine.cluster, "flights")
        real(stream, subject, **limits)

    monkeypatch.setattr(frozen.cluster.jetstream, "purge", purge)
    export_journal(tmp_path, frozen.cluster, "flights")
    assert woken
    assert deliver(machine.journal().attach(OTHER)[1]) == [4, 5, 6, 7, 8, 9]


def _killed(*_: Any) -> None:
    raise KilledError


def test_a_move_is_refused_while_either_side_runs(machines: Machines, tmp_path: Path) -> None:
    here, other = machines.new(), machines.new()
    local = filled(tmp_path)
    with pytest.raises(JournalBusyError):
        import_journal(tmp_path, here.cluster, "flights")
    local.close()
    import_journal(tmp_path, here.cluster, "flights")
    other.journal()
    with pytest.raises(JournalBusyError):
        export_journal(tmp_path, here.cluster, "flights")


def test_a_journal_of_another_origin_is_never_replaced(machines: Machines, tmp_path: Path) -> None:
    machine = machines.new()
    journal, _ = machine.attached()
    journal.append([rows(1)])
    machine.cluster.open.pop("flights").journal.close()
    filled(tmp_path).close()
    with pytest.raises(ConfigurationError, match="another journal of flights"):
        import_journal(tmp_path, machine.cluster, "flights")
    with pytest.raises(ConfigurationError, match="on this disk already"):
        export_journal(tmp_path, machine.cluster, "flights")
    for moves in (import_journal, export_journal):
        with pytest.raises(ConfigurationError, match="no journal of"):
            moves(tmp_path, machine.cluster, "unknown")
    assert deliver(machine.attached()[1]) == [1]


def test_the_commands_move_all_journals_and_say_so(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API2DB_CLUSTER", machines.address)
    monkeypatch.setattr("api2db.journal._store.new_store", journal_store)  # put back afterwards
    filled(tmp_path).close()
    assert command(tmp_path, "import") == (0, "flights: moved into the cluster, with 7 waiting rows\n")
    assert command(tmp_path, "import") == (0, "There are no journals to move.\n")
    code, said = command(tmp_path, "import", "unknown")
    assert code == 1
    assert "there is no journal of a collector" in said
    code, said = command(tmp_path, "export")
    assert (code, said.replace("\n", "")) == (0, f"flights: moved to {tmp_path}, with 7 waiting rows")


def command(home: Path, *words: str) -> tuple[int, str]:
    said = CliRunner().invoke(app, ("cluster", *words, "--home", str(home)), catch_exceptions=False)
    return said.exit_code, said.output


CHILD = """
import sys
from pathlib import Path

import pytest

from api2db.cluster import Cluster, close_clusters, parse_address
from api2db.cluster._leases import Session
from tests.cluster import test_moving

Session._check_gone = lambda *_: None  # the one that was killed before has still a session
address, home, verb, step = sys.argv[1:]
cluster = Cluster(parse_address(address, Path(home)))
with test_moving.killed_at(int(step), pytest.MonkeyPatch(), after=False, kill=test_moving.end_at_once):
    getattr(test_moving, f"{verb}_journal")(Path(home), cluster, "flights")
cluster.close()
"""


def end_at_once() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.torture
@pytest.mark.parametrize("verb", ["import", "export"])
def test_a_process_that_is_killed_while_it_moves_a_journal_can_be_started_again(
    verb: str, machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = leave(filled(tmp_path))
    machine = machines.new()
    if verb == "export":
        import_journal(tmp_path, machine.cluster, "flights")
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    codes = []
    for step in (2, 5, 8, 11, 14, 1000):
        words = [sys.executable, "-c", CHILD, machines.address, str(tmp_path), verb, str(step)]
        codes.append(subprocess.run(words, env=os.environ | {"PYTHONPATH": paths}, timeout=60, check=False).returncode)
    assert codes.count(-signal.SIGKILL) >= 3
    assert codes[-1] == 0
    monkeypatch.setattr(machine.cluster.session, "_check_gone", lambda *_: None)
    (check_in_cluster if verb == "import" else check_on_disk)(machine, tmp_path, known)
