"""The files that streams set aside, in the log of their collector.

The content comes first, in messages of the kind ``aside.<stream key>.<token>``. Nobody sees it before a message of the
kind ``rejected.<stream key>.<token>``, the file's entry, gives it its name. Both are published as rows are, so only the
journal's owner can do that. A removal is a message that is stored together with the rows that are put again; then both
kinds are purged, the content first.
"""

import json
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Final

from api2db.cluster._core import Core
from api2db.cluster._jetstream import JetStream, until_answered
from api2db.cluster._log_messages import LogMessages
from api2db.cluster._message import OWNER, REMOVAL, Draft, decoded
from api2db.cluster._names import Names
from api2db.cluster._publisher import MOST_MESSAGES, Publisher
from api2db.errors import ConfigurationError
from api2db.journal import StreamNo, Written, file_below

logger = logging.getLogger(__name__)
CONTENT: Final = "aside"
ENTRY: Final = "rejected"
_WAIT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that is set aside.

    Attributes:
        token: Its random id.
        key: The key of its stream.
        file: Its name, relative to the home.
        size_bytes: Its size.
        said: What the stream said of it.
    """

    token: str
    key: str
    file: str
    size_bytes: int
    said: Mapping[str, Any] = field(default_factory=dict)

    @property
    def content(self) -> str:
        """The kind of the messages that have its content."""
        return f"{CONTENT}.{self.key}.{self.token}"

    @property
    def kind(self) -> str:
        """The kind of its entry."""
        return f"{ENTRY}.{self.key}.{self.token}"


class AsideFiles:
    """The files of a journal that this process owns: a file is listed once at most, and only after its content is kept.

    Args:
        core: The journal.
        publisher: Appends to its log.
    """

    def __init__(self, core: Core, publisher: Publisher) -> None:
        self._core = core
        self._publisher = publisher
        self._entries: dict[str, Entry] = {}

    def load(self) -> None:
        """Read what is listed."""
        found = entries_in(self._core.jetstream, self._core.names, [self._core.name])
        self._entries = {entry.token: entry for entry in found}

    @property
    def entries(self) -> Sequence[Entry]:
        """All files that are listed."""
        return list(self._entries.values())

    def named(self, file: str) -> Entry | None:
        """The file of a name."""
        return next((entry for entry in list(self._entries.values()) if entry.file == file), None)

    def write(self, key: str, content: bytes, token: str = "") -> str:
        """Store the content of a file; return its token.

        Args:
            key: The key of its stream.
            content: The bytes.
            token: The file's id, if it has one.
        """
        token = token or secrets.token_hex(8)
        step = self._publisher.message_bytes
        pieces = [content[at : at + step] for at in range(0, len(content), step)] or [b""]
        drafts = [Draft(f"{CONTENT}.{key}.{token}", [piece]) for piece in pieces]
        for at in range(0, len(drafts), MOST_MESSAGES):
            self._publisher.publish_alone(drafts[at : at + MOST_MESSAGES])
        return token

    def publish(self, key: str, token: str, file: str, said: Mapping[str, Any]) -> None:
        """List a file under a name, or a later number if that is taken; a no-op if that is done."""
        messages = self._core.log.messages
        content = messages.subject(f"{CONTENT}.{key}.{token}")
        is_kept = until_answered(lambda: self._core.jetstream.last(messages.stream, content), _WAIT_S) is not None
        if token in self._entries or not is_kept:
            return  # It is listed, or was removed since.
        while self.named(file) is not None:
            file = str(PurePosixPath(file).with_stem(str(int(PurePosixPath(file).stem) + 1)))
        entry = Entry(token, key, file, int(said.get("size_bytes", 0)), dict(said))
        self._publisher.publish_alone([Draft(entry.kind, [json.dumps(asdict(entry)).encode()])])
        self._entries[token] = entry

    def remove(self, key: str, token: str) -> None:
        """Remove a file with its entry."""
        for kind in (f"{CONTENT}.{key}.{token}", f"{ENTRY}.{key}.{token}"):
            self._core.log.purge_kind(kind)
        self._entries.pop(token, None)

    def sweep(self, key: str) -> None:
        """Remove the content that a stream never listed."""
        prefix = self._core.log.messages.subject(f"{CONTENT}.{key}.")
        stream, jetstream = self._core.log.messages.stream, self._core.jetstream
        subjects = until_answered(lambda: jetstream.subjects([(stream, f"{prefix}*")]), _WAIT_S)
        left = [token for _, subject in subjects if (token := subject.removeprefix(prefix)) not in self._entries]
        if not left:
            return
        # Whoever can publish this owned the journal until now, so a later owner has written none of what is removed.
        self._publisher.publish_alone([Draft(OWNER)])
        for token in left:
            self.remove(key, token)


class ClusterFolder:
    """See ``AsideFolder``: a stream's folder in the cluster.

    Args:
        files: The files of its journal.
        key: The stream's key.
        folder: The folder's path, relative to the home.
    """

    has_copies = False

    def __init__(self, files: AsideFiles, key: str, folder: str) -> None:
        self._files = files
        self._key = key
        self._folder = folder

    def write(self, content: Callable[[BinaryIO], object]) -> Written:
        buffer = BytesIO()
        content(buffer)
        return Written(self._files.write(self._key, buffer.getvalue()), buffer.getbuffer().nbytes)

    def publish(self, temporary: str, final: str, said: Mapping[str, Any]) -> None:
        self._files.publish(self._key, temporary, f"{self._folder}/{final}", said)

    def remove(self, temporary: str) -> None:
        self._files.remove(self._key, temporary)

    def sweep(self) -> None:
        self._files.sweep(self._key)

    def __str__(self) -> str:
        return f"the cluster ({self._folder})"


class Removals:
    """The removals of a journal's files. Their rows are put again or dropped once, and counted down once.

    Args:
        core: The journal.
        files: Its files.
    """

    def __init__(self, core: Core, files: AsideFiles) -> None:
        self._core = core
        self._files = files
        self._begun: set[str] = set()
        self._left: dict[int, Mapping[str, Any]] = {}

    def load(self) -> None:
        """Read what the log has of removals that may not be finished."""
        found = self._core.log.messages.of_kind(REMOVAL, self._core.kept.get("removed_until", 0) + 1)
        self._left |= {each.number: json.loads(bytes(each.body)) for each in found}
        self._begun |= {removal["token"] for removal in self._left.values()}

    @property
    def are_left(self) -> bool:
        """Whether any is not finished."""
        return bool(self._left)

    def begin(self, file: str, stream_no: int, rows: int) -> Mapping[str, Any]:
        """Describe the removal of a file, which from now on nobody else begins.

        Raises:
            ConfigurationError: There is no such file, or its removal has begun.
        """
        file_below(self._core.home, file)
        with self._core.changed:
            entry = self._files.named(file)
            if entry is None:
                raise ConfigurationError(f"there is no file {file}; see: api2db rejected list")
            if entry.token in self._begun:
                raise ConfigurationError(f"the rows of {file} were put again or dropped before")
            self._begun.add(entry.token)
        return {
            "token": entry.token,
            "key": entry.key,
            "stream_no": stream_no,
            "rows": rows,
            "size_bytes": entry.size_bytes,
        }

    def cancel(self, removal: Mapping[str, Any]) -> None:
        """Forget a removal that was not stored."""
        self._begun.discard(removal["token"])

    def note(self, number: int, removal: Mapping[str, Any]) -> None:
        """Take note of a removal that was stored, even where its caller has given up."""
        self._begun.add(removal["token"])
        self._left[number] = removal

    def finish(self) -> None:
        """Remove the files whose rows were put again or dropped, and no longer count these rows.

        Raises:
            ClusterUnavailableError: The cluster does not answer; it is tried again later.
        """
        for number, removal in sorted(self._left.items()):
            self._files.remove(removal["key"], removal["token"])
            reader = self._core.readers.get(StreamNo(removal["stream_no"]))
            if reader is not None:
                reader.count_down(number, removal["rows"], removal["size_bytes"])
                reader.save_if_changed()  # before the log forgets the removal
            self._left.pop(number, None)
            logger.debug("a file of rejected rows of %s is removed", self._core.name)
            if number > self._core.kept.get("removed_until", 0):
                self._core.keep(removed_until=number)
                self._core.log.purge_kind(REMOVAL, number + 1)


def entries_in(jetstream: JetStream, names: Names, collectors: Iterable[str]) -> list[Entry]:
    """The files that the streams of collectors have set aside, as the leaders of their logs have them."""
    logs = [LogMessages(jetstream, names, collector) for collector in collectors]
    patterns = [(messages.stream, messages.subject(f"{ENTRY}.>")) for messages in logs]
    subjects = until_answered(lambda: jetstream.subjects(patterns), _WAIT_S)
    found = until_answered(lambda: jetstream.last_of(subjects), _WAIT_S)
    return [Entry(**json.loads(bytes(decoded(each.sequence, each.payload).body))) for each in found]


def content_of(messages: LogMessages, key: str, token: str) -> bytes | None:
    """The content of a file; None if there is none."""
    found = messages.of_kind(f"{CONTENT}.{key}.{token}")
    return b"".join(bytes(each.body) for each in found) if found else None
