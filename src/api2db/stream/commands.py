"""Commands that write to a journal: executed by its running owner, or by this process if none runs."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from api2db.delivery import METADATA_KEY, without_added
from api2db.errors import ConfigurationError, FormatError, JournalBusyError
from api2db.formats import decode
from api2db.frames import to_batch
from api2db.journal import ALL, Journal, Registered, journal_store


def register_requests(home: Path, journal: Journal) -> None:
    """Make the owner of a journal answer the commands of this module."""
    for verb, answer in _ANSWERS.items():
        journal.on_request(verb, partial(answer, home, journal))


def forget(home: Path, collector: str, identity: str) -> None:
    """Drop a stream that is not running, with all frames that wait for it.

    Raises:
        ConfigurationError: There is no stream of that name, or it is running.
    """
    _ask_or_do(home, collector, "forget", {"stream": identity})


def adopt(home: Path, collector: str, identity: str) -> None:
    """Continue a stream although a copy of this project has written into its target's ledger.

    Rows of frames that both projects had, and that the copy has delivered, are then in the target twice.

    Raises:
        ConfigurationError: There is no stream of that name.
    """
    _ask_or_do(home, collector, "adopt", {"stream": identity})


def retry(home: Path, file: str) -> int:
    """Put the rejected rows of a file again, for the stream that rejected them.

    The new put and the removal of the file are recorded together. The rows are delivered after frames that are already
    waiting.

    Args:
        home: The project's folder.
        file: Relative to it: ``STORE/rejected/<collector>/<stream_type>/<timestamp_ns>.parquet``.

    Returns:
        The number of rows.

    Raises:
        BacklogFullError: The stream's quota is spent; the file stays.
    """
    return int(_ask_or_do(home, _collector_of(file), "retry", {"file": file}))


def drop(home: Path, file: str) -> int:
    """Delete the rejected rows of a file for good.

    Args:
        home: The project's folder.
        file: As in ``retry``.

    Returns:
        The number of rows.

    Raises:
        ConfigurationError: There is no such file.
    """
    return int(_ask_or_do(home, _collector_of(file), "drop", {"file": file}))


def _collector_of(file: str) -> str:
    """Return the collector of a file of rejected rows.

    Raises:
        ConfigurationError: It is not such a file.
    """
    parts = Path(file).parts
    if len(parts) != 5 or parts[:2] != ("STORE", "rejected") or ".." in parts:
        raise ConfigurationError(f"{file} is not a file of STORE/rejected; see: api2db rejected list")
    return parts[2]


def _ask_or_do(home: Path, collector: str, verb: str, arguments: Mapping[str, Any]) -> Any:
    store = journal_store(home)
    if collector not in store.names():
        raise ConfigurationError(f"there is no journal of a collector {collector!r} in {home}; see: api2db status")
    try:
        store.check_free(collector)
        handle = store.open(collector)
    except JournalBusyError:
        return store.request(collector, verb, arguments)
    try:
        return _ANSWERS[verb](home, handle.journal, arguments)
    finally:
        handle.release()


def _forget(_: Path, journal: Journal, arguments: Mapping[str, Any]) -> None:
    if not journal.forget(arguments["stream"]):
        raise _no_stream(arguments["stream"])


def _adopt(_: Path, journal: Journal, arguments: Mapping[str, Any]) -> None:
    found = _registered(journal, lambda stream: stream.identity == arguments["stream"])
    if found is None:
        raise _no_stream(arguments["stream"])
    found.checkpoints.save("adopt", {})


def _drop(home: Path, journal: Journal, arguments: Mapping[str, Any]) -> int:
    file, rows = _rows_of(home, arguments)
    origin = _origin(rows, file)
    stream = _registered(journal, lambda stream: stream.key == origin.get("stream"))
    if stream is None or origin.get("journal") != journal.journal_id:
        journal.drop_rejected(ALL, file, rows.num_rows)
    else:
        journal.drop_rejected(stream.stream_no, file, rows.num_rows)
    return int(rows.num_rows)


def _rows_of(home: Path, arguments: Mapping[str, Any]) -> tuple[str, pa.Table]:
    file = arguments["file"]
    content = journal_store(home).read_rejected(file)
    if content is None:
        raise ConfigurationError(f"there is no file {file}; see: api2db rejected list")
    return file, decode(content, home / file, "parquet")


def _retry(home: Path, journal: Journal, arguments: Mapping[str, Any]) -> int:
    file, rows = _rows_of(home, arguments)
    origin = _origin(rows, file)
    stream = _registered(journal, lambda stream: stream.key == origin.get("stream"))
    if stream is None or origin.get("journal") != journal.journal_id:
        raise ConfigurationError(f"the rows of {file} belong to a stream that this journal no longer has")
    metadata = {key: value for key, value in (rows.schema.metadata or {}).items() if not key.startswith(METADATA_KEY)}
    batch = to_batch(without_added(rows)).replace_schema_metadata(metadata)
    # An answer must not wait for room: meanwhile no other request is answered, and the journal is not closed.
    journal.append([batch], stream_no=stream.stream_no, removes=file, block=False)
    return int(rows.num_rows)


_ANSWERS: Mapping[str, Callable[[Path, Journal, Mapping[str, Any]], Any]] = {
    "forget": _forget,
    "adopt": _adopt,
    "retry": _retry,
    "drop": _drop,
}


def _registered(journal: Journal, is_wanted: Callable[[Registered], bool]) -> Registered | None:
    return next(filter(is_wanted, journal.registered()), None)


def _no_stream(identity: str) -> ConfigurationError:
    return ConfigurationError(f"no stream is named {identity!r}; see: api2db status")


def _origin(rows: pa.Table, file: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((rows.schema.metadata or {})[METADATA_KEY])
    except (KeyError, ValueError) as error:
        raise FormatError(f"{file} does not name the stream of its rows; it was not written by a stream") from error
    return found
