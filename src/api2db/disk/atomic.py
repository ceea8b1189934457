"""Atomic file writes that survive a power cut.

A new file is written under a temporary name in the folder of its final name and fsynced. It is then renamed, and the
folder is fsynced. A reader, or a crash at any step, sees the old file or the new one. A crash may leave a temporary
file behind; ``is_temporary`` recognizes its name. Files get mode 0600 and folders 0700, whatever the umask.

Errors of the operating system are not wrapped, because only the caller knows what the file is for. If such an error has
no file name, the name of the file or folder is added.
"""

import ctypes
import errno
import fcntl
import json
import os
import re
import secrets
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

FILE_MODE = 0o600
FOLDER_MODE = 0o700

_RANDOM_BYTES = 8
_TEMPORARY_NAME = re.compile(rf"\..+\.[0-9a-f]{{{2 * _RANDOM_BYTES}}}\.tmp", re.DOTALL)
_LONGEST_NAME_BYTES = 255
_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_LINUX_NO_REPLACE = 1
_LINUX_CURRENT_FOLDER = -100
_MACOS_EXCLUSIVE = 4
_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)


class Temporary(NamedTuple):
    """A file under its temporary name, open for writing."""

    path: Path
    file: BinaryIO


def make_folders(path: Path) -> None:
    """Create a folder and its missing parents; each new one has mode 0700 and survives a power cut.

    Existing folders keep their mode.

    Raises:
        NotADirectoryError: Part of the path is not a folder.
    """
    try:
        os.mkdir(path, FOLDER_MODE)
    except FileNotFoundError:
        if path.parent == path:
            raise
        make_folders(path.parent)
        make_folders(path)
    except FileExistsError:
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
    else:
        os.chmod(path, FOLDER_MODE)
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Fsync a folder: new, renamed and unlinked names in it survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with naming(path):
            sync_file(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Add the file's name to an error of the system that has none, such as one of a write or an fsync."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def sync_file(file: int | Path) -> None:
    """Fsync a file: its contents survive a power cut.

    Args:
        file: An open descriptor, or the path of a file.
    """
    if isinstance(file, int):
        _sync_descriptor(file)
        return
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with naming(file):
            _sync_descriptor(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Replace a file: at the end of the block the new file is durable under its name.

    If the block or anything up to the rename raises, the old file is unchanged and the temporary file is removed. If
    only the folder's fsync fails, the new file stays in place and may not be durable.
    """
    with write_temporary(path) as temporary:
        yield temporary.file
    with removed_on_failure(temporary.path):
        os.replace(temporary.path, path)
    sync_folder(path.parent)


@contextmanager
def write_temporary(final: Path) -> Iterator[Temporary]:
    """Write a temporary file beside its final name: at the end of the block its contents are durable.

    ``publish`` gives it its final name. If the block raises, the temporary file is removed.
    """
    path = temporary_name(final)
    with naming(final), open(path, "xb", opener=_open_private) as file, removed_on_failure(path):
        os.fchmod(file.fileno(), FILE_MODE)
        yield Temporary(path, file)
        file.flush()
        sync_file(file.fileno())


def publish(temporary: Path, final: Path) -> None:
    """Rename a temporary file to its final name without replacing another file.

    The caller fsyncs the folder, once for any number of files. Some network and FAT file systems can't rename this way
    in one step. There the name is checked before the rename, so two writers must not publish the same name at the same
    time.

    Raises:
        FileExistsError: The final name is taken; both files are unchanged.
    """
    if _rename_without_replacing is not None:
        failure = _rename_without_replacing(_as_c_path(temporary), _as_c_path(final))
        if failure == 0:
            return
        if failure not in _UNSUPPORTED:
            raise OSError(failure, os.strerror(failure), str(temporary), None, str(final))
    _look_then_rename(temporary, final)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a file of JSON; readers see the old or the new one, whole. It need not survive a power cut.

    Only one thread at a time may write it.

    Raises:
        OSError: The disk refuses.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8", opener=_open_private) as file:
        file.write(json.dumps(content))  # dump() itself does not use the fast encoder
    os.replace(temporary, path)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return what ``write_json`` wrote; None if there is no such file, or it can't be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def temporary_name(final: Path) -> Path:
    """Return a new name in the same folder that ``is_temporary`` recognizes."""
    ending = f".{secrets.token_hex(_RANDOM_BYTES)}.tmp"
    room = _LONGEST_NAME_BYTES - len(ending) - 1
    beginning = os.fsencode(final.name)[:room].decode(errors="ignore")
    return final.with_name(f".{beginning}{ending}")


def is_temporary(path: Path) -> bool:
    """Whether :func:`temporary_name` made this name."""
    return _TEMPORARY_NAME.fullmatch(path.name) is not None


def sweep(folder: Path, name: str) -> None:
    """Remove the temporary files with a name; the caller knows that nothing writes them."""
    for path in files_named(folder, lambda found: found.startswith(f".{name}.")):
        if is_temporary(path):
            path.unlink(missing_ok=True)


def files_named(folder: Path, is_one: Callable[[str], bool]) -> list[Path]:
    """List a folder by names alone, because a million files may have been moved there."""
    with os.scandir(folder) as entries:
        return [Path(entry.path) for entry in entries if is_one(entry.name)]


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, FILE_MODE)


def _sync_descriptor(descriptor: int) -> None:
    if _FULL_SYNC is None or not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.fsync(descriptor)
    else:
        # On macOS fsync leaves the data in the drive's own cache.
        fcntl.fcntl(descriptor, _FULL_SYNC)


@contextmanager
def removed_on_failure(path: Path) -> Iterator[None]:
    """Remove a file if the block raises."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def _as_c_path(path: Path) -> bytes:
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        # C would end the name there and rename another file.
        raise ValueError(f"a file name holds a null byte: {path!r}")
    return encoded


def _look_then_rename(temporary: Path, final: Path) -> None:
    if os.path.lexists(final):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(temporary), None, str(final))
    os.rename(temporary, final)


def _find_rename_without_replacing() -> Callable[[bytes, bytes], int] | None:
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin":
        return _bind(library, "renamex_np", lambda call, old, new: call(old, new, ctypes.c_uint(_MACOS_EXCLUSIVE)))
    folder = ctypes.c_int(_LINUX_CURRENT_FOLDER)
    flags = ctypes.c_uint(_LINUX_NO_REPLACE)
    return _bind(library, "renameat2", lambda call, old, new: call(folder, old, folder, new, flags))


def _bind(
    library: ctypes.CDLL, name: str, invoke: Callable[[Callable[..., int], bytes, bytes], int]
) -> Callable[[bytes, bytes], int] | None:
    call = getattr(library, name, None)
    if call is None:
        return None

    def rename(old: bytes, new: bytes) -> int:
        return 0 if invoke(call, old, new) == 0 else ctypes.get_errno()

    return rename


_rename_without_replacing = _find_rename_without_replacing()
