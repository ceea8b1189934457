"""What atomic files promise."""

import errno
import multiprocessing
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from api2db.disk import atomic
from tests.faults.disks import small_disk


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o777])
def any_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths in the order in which they were fsynced, with the renames between them."""
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def recording_fsync(descriptor: int) -> None:
        fsync(descriptor)
        events.append("fsync " + str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    def recording_replace(old: Path, new: Path) -> None:
        replace(old, new)
        events.append(f"rename {new}")

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "replace", recording_replace)
    return events


@pytest.mark.usefixtures("any_umask")
def test_new_folders_are_private_whatever_the_umask(tmp_path: Path) -> None:
    atomic.make_folders(tmp_path / "a" / "b" / "c")
    assert [mode_of(tmp_path / part) for part in ("a", "a/b", "a/b/c")] == [0o700] * 3


@pytest.mark.usefixtures("any_umask")
def test_new_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    with atomic.replacing(tmp_path / "file") as file:
        file.write(b"x")
        [temporary] = tmp_path.iterdir()
        assert mode_of(temporary) == 0o600
    assert mode_of(tmp_path / "file") == 0o600


def test_the_parent_of_each_new_folder_is_synced(tmp_path: Path, synced: list[str]) -> None:
    atomic.make_folders(tmp_path / "a" / "b")
    assert synced == [f"fsync {tmp_path}", f"fsync {tmp_path / 'a'}"]


def test_folders_that_are_there_keep_their_mode_and_are_no_error(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o755)
    (tmp_path / "a").chmod(0o755)
    atomic.make_folders(tmp_path / "a")
    assert mode_of(tmp_path / "a") == 0o755


@pytest.mark.parametrize("below", ["file", "file/folder"])
def test_a_file_where_a_folder_should_be_is_an_error(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        atomic.make_folders(tmp_path / below)


def test_a_link_to_nowhere_where_a_folder_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError):
        atomic.make_folders(tmp_path / "link" / "folder")


def test_a_relative_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    atomic.make_folders(Path("a/b"))
    assert (tmp_path / "a" / "b").is_dir()


def test_a_file_is_synced_then_renamed_then_its_folder_is_synced(tmp_path: Path, synced: list[str]) -> None:
    with atomic.replacing(tmp_path / "file") as file:
        file.write(b"x")
    assert synced[0].startswith(f"fsync {tmp_path}/.file.")
    assert synced[1:] == [f"rename {tmp_path / 'file'}", f"fsync {tmp_path}"]


def test_the_new_file_takes_the_place_of_the_old(tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        with atomic.replacing(tmp_path / "file") as file:
            file.write(content)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"new")]


def write_and_raise(path: Path, error: type[BaseException]) -> None:
    with atomic.replacing(path) as file:
        file.write(b"new")
        raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failed_block_leaves_the_old_file_and_no_temporary(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(error):
        write_and_raise(tmp_path / "file", error)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_system_call_leaves_the_old_file_and_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "broken disk")

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="broken disk"), atomic.replacing(tmp_path / "file") as file:
        file.write(b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


def test_a_full_disk_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    child = multiprocessing.get_context("spawn").Process(target=write_more_than_allowed, args=(tmp_path / "file",))
    child.start()
    child.join()
    assert child.exitcode == errno.EFBIG
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


def write_more_than_allowed(path: Path) -> None:
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        with atomic.replacing(path) as file:
            file.write(bytes(100_000))
    except OSError as error:
        os._exit(error.errno or 1)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "64k") as small:
        with pytest.raises(OSError, match=rf"No space left on device: '{small}/file'"):
            write_much(small / "file")
        assert list(small.iterdir()) == []


def write_much(path: Path) -> None:
    with atomic.replacing(path) as file:
        file.write(bytes(1 << 20))


def test_a_file_or_folder_that_can_not_be_synced_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "broken disk")

    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=rf"broken disk: '{tmp_path}'"):
        atomic.sync_folder(tmp_path)
    with pytest.raises(OSError, match=rf"broken disk: '{tmp_path}/file'"):
        atomic.sync_file(tmp_path / "file")
    with pytest.raises(OSError, match=rf"broken disk: '{tmp_path}/new'"):
        write_much(tmp_path / "new")


def test_a_written_temporary_is_not_there_under_its_name_until_published(tmp_path: Path) -> None:
    final = tmp_path / "shard.parquet"
    with atomic.write_temporary(final) as temporary:
        temporary.file.write(b"rows")
    assert not final.exists()
    assert atomic.is_temporary(temporary.path)
    atomic.publish(temporary.path, final)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("shard.parquet", b"rows")]


def look_then_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_rename_without_replacing", None)


def refuse_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_rename_without_replacing", lambda _old, _new: errno.EINVAL)


def as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert atomic._rename_without_replacing is not None


@pytest.fixture(params=[as_it_is, look_then_rename, refuse_the_flag])
def any_platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    request.param(monkeypatch)


@pytest.mark.usefixtures("any_platform")
def test_publishing_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "final").write_bytes(b"first")
    (tmp_path / "temporary").write_bytes(b"second")
    with pytest.raises(FileExistsError):
        atomic.publish(tmp_path / "temporary", tmp_path / "final")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"final": b"first", "temporary": b"second"}


@pytest.mark.usefixtures("any_platform")
def test_publishing_never_overwrites_a_link_to_nowhere(tmp_path: Path) -> None:
    (tmp_path / "final").symlink_to(tmp_path / "nowhere")
    (tmp_path / "temporary").write_bytes(b"x")
    with pytest.raises(FileExistsError):
        atomic.publish(tmp_path / "temporary", tmp_path / "final")


@pytest.mark.usefixtures("any_platform")
def test_publishing_what_is_gone_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        atomic.publish(tmp_path / "temporary", tmp_path / "final")


@pytest.mark.usefixtures("any_platform")
def test_publishing_gives_the_name(tmp_path: Path) -> None:
    (tmp_path / "temporary").write_bytes(b"x")
    atomic.publish(tmp_path / "temporary", tmp_path / "final")
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_a_null_byte_in_a_name_renames_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "temporary").write_bytes(b"x")
    with pytest.raises(ValueError, match="null byte"):
        atomic.publish(tmp_path / "temporary", tmp_path / "final\0.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]


@pytest.mark.parametrize("name", ["1.parquet", ".hidden", "ü" * 127, "x" * 255, "new\nline"])
def test_temporary_names_are_known_as_such_and_fit(tmp_path: Path, name: str) -> None:
    temporary = atomic.temporary_name(tmp_path / name)
    assert temporary.parent == tmp_path
    assert atomic.is_temporary(temporary)
    assert not atomic.is_temporary(tmp_path / name)
    assert len(os.fsencode(temporary.name)) <= 255


def test_two_temporary_names_of_one_file_differ() -> None:
    assert atomic.temporary_name(Path("x")) != atomic.temporary_name(Path("x"))
