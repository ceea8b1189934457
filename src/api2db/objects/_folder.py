"""A folder in an object store, as ``FileFolder`` and for stores; the package's docstring says how it works."""

import errno
import hashlib
import json
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from api2db.disk.atomic import make_folders, publish, removed_on_failure, sync_folder, write_temporary
from api2db.disk.file_folder import LocalFolder, Stamp
from api2db.errors import ConfigurationError, TargetUnavailableError
from api2db.objects._address import Address, library

LARGE_BYTES = 8 << 20
"""Larger files are uploaded in parts."""
_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 4
_READS_AT_ONCE = 8
_STAND_INS = ".objects"
_PLANS = ".api2db/plans"
_UPLOADS = ".api2db/uploads"
_CLAIM = ".api2db/store.json"
_DIGITS = 16
_MARK = "api2db"


class ObjectFolder:
    """A folder in an object store.

    Its lock, its manifest, the types of its files, and files before they are published are in ``here``, a folder of
    the project which stands for the address. Nothing is uploaded from there but by ``publish`` and ``replace``.

    Args:
        address: Its address.
        home: The project's folder.
    """

    is_near = False

    def __init__(self, address: Address, home: Path) -> None:
        self._address = address
        self._home = home
        digest = hashlib.sha256(address.url.encode()).hexdigest()[:_DIGITS]
        self.here = home / "STORE" / _STAND_INS / digest

    def __str__(self) -> str:
        return self._address.url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._address.url!r})"

    def reach(self) -> None:
        make_folders(self.here)
        self.check()

    def check(self) -> None:
        """Ask the store for a file, which needs the bucket and the right to list it.

        Raises:
            TargetUnavailableError: The object store can't be reached.
        """
        with self._address.sorted_errors():
            next(iter(self._obs.list(self._store, chunk_size=1)), None)

    def sweep(self, owner: str) -> None:
        LocalFolder(self.here).sweep(owner)
        with self._address.sorted_errors():
            found = [entry["path"] for page in self._obs.list(self._store, prefix=_UPLOADS) for entry in page]
        self.delete([path for path in found if path.startswith(f"{_UPLOADS}/.{owner}.")])

    def names(self) -> list[str]:
        return list(self.stamps())

    def has(self, name: str) -> bool:
        return self._head(name) is not None

    def open(self, name: str) -> BinaryIO:
        return BytesIO(self.read(name)[0])

    def begin(self, plan: str, names: Sequence[str]) -> None:
        self._put(_plan(plan), json.dumps(list(names)).encode())

    def publish(self, temporary: Path, name: str) -> None:
        if temporary.stat().st_size > LARGE_BYTES:
            self._publish_in_parts(temporary, name)
            return
        mark = {_MARK: temporary.name}
        try:
            with self._address.sorted_errors():
                self._obs.put(self._store, name, temporary, mode="create", use_multipart=False, attributes=mark)
        except FileExistsError:
            if self._mark_of(name) != temporary.name:
                raise self._taken(name) from None
        except FileNotFoundError as error:
            raise self._unreachable(error) from None
        temporary.unlink()

    def replace(self, temporary: Path, name: str) -> None:
        if temporary.stat().st_size > LARGE_BYTES:
            self._put(name, temporary, use_multipart=True)
        else:
            # A request of a process that has died may be carried out later; the condition does not hold then.
            found = self._head(name)
            mode = "create" if found is None else {key: found[key] for key in ("e_tag", "version") if found[key]}
            try:
                with self._address.sorted_errors():
                    self._obs.put(self._store, name, temporary, mode=mode, use_multipart=False)
            except (FileExistsError, FileNotFoundError) as error:
                raise self._unreachable(error) from None
        temporary.unlink()

    def settle(self, plan: str) -> None:
        sync_folder(self.here)  # A temporary file that came back after a power cut would be uploaded again.
        self.delete([_plan(plan)])

    def stamps(self) -> dict[str, Stamp]:
        """The files with their stamps, in the order of their names."""
        with self._address.sorted_errors():
            found = self._obs.list_with_delimiter(self._store)["objects"]
        return dict(sorted((entry["path"], _stamp(entry)) for entry in found))

    def stamp(self, name: str) -> Stamp | None:
        """The stamp of a file; None if there is none."""
        found = self._head(name)
        return None if found is None else _stamp(found)

    def announced(self) -> set[str]:
        """The names that are being published; list the files first, then these, and take none of these."""
        names: set[str] = set()
        with self._address.sorted_errors():
            plans = [entry["path"] for page in self._obs.list(self._store, prefix=_PLANS) for entry in page]
        for plan in plans:
            with suppress(FileNotFoundError):  # Its files are published and acknowledged meanwhile.
                names.update(json.loads(self.read(plan)[0]))
        return names

    def read(self, name: str) -> tuple[bytes, Stamp]:
        """Read a file, with the stamp of what was read.

        Raises:
            FileNotFoundError: There is none.
        """
        with self._address.sorted_errors():
            found = self._obs.get(self._store, name)
            return bytes(found.bytes()), _stamp(found.meta)

    def read_all(self, names: Sequence[str]) -> Iterator[tuple[bytes, Stamp] | Exception]:
        """Read files, several at once, in order; an error of one is in its place."""
        with ThreadPoolExecutor(_READS_AT_ONCE, thread_name_prefix="api2db-objects") as pool:
            for start in range(0, len(names), _READS_AT_ONCE):
                yield from pool.map(self._read_or_error, names[start : start + _READS_AT_ONCE])

    def delete(self, names: Sequence[str]) -> None:
        """Delete files; one that is not there is no error."""
        if not names:
            return
        try:
            with self._address.sorted_errors():
                self._obs.delete(self._store, list(names))
        except FileNotFoundError:
            if len(names) > 1:  # The library stops at the first file that is not there, and leaves the others.
                for name in names:
                    self.delete([name])

    def move(self, name: str, to: "ObjectFolder") -> None:
        """Copy a file to another folder, then delete it here. A call that was interrupted is finished by the next.

        Raises:
            FileExistsError: There is another file with the name.
        """
        content, _ = self.read(name)
        to.put_new(name, content)
        self.delete([name])

    def put_new(self, name: str, content: bytes) -> None:
        """Write a file; it may be there already, with these bytes.

        Raises:
            FileExistsError: There is another file with the name.
        """
        try:
            with self._address.sorted_errors():
                self._obs.put(self._store, name, content, mode="create", use_multipart=False)
        except FileExistsError:
            if self.read(name)[0] != content:
                raise self._taken(name) from None
        except FileNotFoundError as error:
            raise self._unreachable(error) from None

    def claim(self) -> None:
        """Make this project the only one whose stores take files from here.

        A store's manifest and lock are in its project, so stores of two projects would not see each other.

        Raises:
            ConfigurationError: Stores of another project take files from here.
            TargetUnavailableError: The object store can't be reached.
        """
        try:
            self.put_new(_CLAIM, json.dumps({"project": _project_id(self._home)}).encode())
        except FileExistsError:
            raise ConfigurationError(
                f"the store of another project takes the shards in {self}: one project only can do that. If that "
                f"one is gone for good, check which shards it had loaded, and delete {self}/{_CLAIM}"
            ) from None

    @cached_property
    def _store(self) -> Any:
        return self._address.store

    @property
    def _obs(self) -> Any:
        return library()

    def _put(self, name: str, content: Path | bytes, *, use_multipart: bool = False) -> None:
        try:
            with self._address.sorted_errors():
                self._obs.put(
                    self._store,
                    name,
                    content,
                    use_multipart=use_multipart,
                    chunk_size=_PART_BYTES,
                    max_concurrency=_PARTS_AT_ONCE,
                )
        except FileNotFoundError as error:
            raise self._unreachable(error) from None

    def _publish_in_parts(self, temporary: Path, name: str) -> None:
        """Upload a file under a hidden name, then copy it to its name.

        A copy has no mark. But as long as the hidden object is not there, no copy was made: an object that has the name
        then is another one. Once it is there, an object with the same bytes is the copy.
        """
        hidden = f"{_UPLOADS}/{temporary.name}"
        if not self.has(hidden):
            if self.has(name):
                raise self._taken(name)
            self._put(hidden, temporary, use_multipart=True)
        try:
            with self._address.sorted_errors():
                self._obs.copy(self._store, hidden, name, overwrite=False)
        except FileExistsError:
            if not self._has_same(name, temporary):
                self.delete([hidden])
                raise self._taken(name) from None
        temporary.unlink()
        sync_folder(self.here)  # first: if the file came back without the hidden object, it would be another one
        self.delete([hidden])

    def _mark_of(self, name: str) -> str | None:
        """The mark of the writer of an object; None if it has none, or is gone."""
        try:
            with self._address.sorted_errors():
                mark = self._obs.get(self._store, name).attributes.get(_MARK)
        except FileNotFoundError:
            return None
        return None if mark is None else str(mark)

    def _has_same(self, name: str, file: Path) -> bool:
        """Whether an object has the bytes of a file."""
        found = self._head(name)
        if found is None or found["size"] != file.stat().st_size:
            return False
        with self._address.sorted_errors(), file.open("rb") as mine:
            theirs = self._obs.get(self._store, name).stream(_PART_BYTES)
            return all(mine.read(len(part)) == bytes(part) for part in theirs)

    def _head(self, name: str) -> Any:
        try:
            with self._address.sorted_errors():
                return self._obs.head(self._store, name)
        except FileNotFoundError:
            return None

    def _read_or_error(self, name: str) -> tuple[bytes, Stamp] | Exception:
        try:
            return self.read(name)
        except (FileNotFoundError, TargetUnavailableError) as error:
            return error

    def _taken(self, name: str) -> FileExistsError:
        return FileExistsError(errno.EEXIST, "the name is taken; move that object away", f"{self}/{name}")

    def _unreachable(self, error: Exception) -> TargetUnavailableError:
        return TargetUnavailableError(f"{self} can't be reached: {error}")


def is_stand_in(path: Path) -> bool:
    """Whether a folder on the disk stands for one in an object store, or is in such a folder."""
    return ("STORE", _STAND_INS) in zip(path.parts, path.parts[1:], strict=False)


def _plan(plan: str) -> str:
    return f"{_PLANS}/{plan}.json"


def _stamp(entry: Any) -> Stamp:
    # Azure quotes the tag in an answer's header, but not in a list.
    tag = (entry["e_tag"] or entry["last_modified"].isoformat()).removeprefix("W/").strip('"')
    return Stamp(int(entry["size"]), int.from_bytes(hashlib.sha256(tag.encode()).digest()[:7], "big"))


def _project_id(home: Path) -> str:
    """A number that this project has, and no other."""
    path = home / "STORE" / _STAND_INS / "project"
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        make_folders(path.parent)
        with write_temporary(path) as made:
            made.file.write(secrets.token_hex(_DIGITS).encode("ascii"))
        with suppress(FileExistsError), removed_on_failure(made.path):
            publish(made.path, path)
        sync_folder(path.parent)
        return path.read_text(encoding="ascii")  # another store of the project may have been first
