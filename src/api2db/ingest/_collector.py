"""The collector: a user's description of how to poll one API, how often, and where its frames go."""

import copy
import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import pandas as pd

from api2db import hypertext
from api2db.disk.folders import check_name, project_home
from api2db.errors import Api2dbError, ConfigurationError
from api2db.ingest import _shown
from api2db.journal import Durability
from api2db.store import Store

Transform = Callable[[pd.DataFrame], pd.DataFrame]


class RunnableStream(Protocol):
    """What a collector requires of a stream."""

    @property
    def name(self) -> str | None:
        """The collector's name."""

    @property
    def home(self) -> Path:
        """The project's folder."""

    @property
    def durability(self) -> Durability:
        """The durability of ``put``."""

    @property
    def embedded_file(self) -> Path | None:
        """The database file that only one process may have open."""

    def start(self) -> Any:
        """Start delivery."""

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything put so far is in the target or set aside; False after the timeout."""

    def stop(self, timeout: float | None = None) -> Any:
        """Stop delivery; frames that wait stay in the journal."""


class PeriodicStore(Protocol):
    """What a collector requires of a store."""

    @property
    def seconds(self) -> float:
        """The time between two rounds; 0 for never."""

    def store(self) -> Any:
        """Compose or load the shards that have come since the last round."""


Streams = Sequence[RunnableStream] | Callable[[], Sequence[RunnableStream]]
Stores = Sequence[PeriodicStore] | Callable[[], Sequence[PeriodicStore]]

_registered: dict[str, "Collector"] = {}
SHARED_DISK: Final = "*"


@dataclass(frozen=True, eq=False)
class Collector:
    """One API, polled at a steady interval into one or more streams. The constructor only records its arguments.

    Args:
        name: Names the journal; the streams must have the same name.
        seconds: The time between two polls; 0 disables the collector.
        import_target: Called at each poll. It returns a DataFrame, an Arrow table, a list of dicts, an iterator of
            these (each item is a page), or None if there is nothing new. If it takes an argument, it gets ``state``, a
            dict of JSON values that is empty at first. The state at the moment a page is yielded is committed together
            with that page and all pages before it. The next poll, also after a crash, gets the state that was committed
            last. It may be ``async def`` or an async generator. All async functions of a process run on one event loop
            and must not block it.
        streams: The streams, or a callable that returns them, which is called in the process that polls.
        stores: Periodic jobs, or a callable that returns them; each runs at its own ``seconds``.
        transform: Makes another DataFrame of each page before it is put. Without it dicts never pass through pandas.
        debug: Poll once and print the frames instead of delivering them; nothing is stored.
        poll_timeout: Seconds after which a poll counts as failed; pages that it yields later are dropped.
        home: The project's folder; by default that of the streams.
        pin: In a cluster, the name of the one machine that runs it; by default any machine does. ``"*"``: any machine,
            because all of them share the disk on which its shards are.

    Raises:
        ConfigurationError: An argument can't be used.
    """

    name: str
    seconds: float
    import_target: Callable[..., Any]
    streams: Streams
    stores: Stores | None = None
    transform: Transform | None = None
    debug: bool = False
    _: KW_ONLY
    poll_timeout: float | None = None
    home: str | os.PathLike[str] | None = None
    pin: str | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        _check_seconds(self)
        _check_callables(self)
        for kind in ("streams", "stores"):
            _check_items(self.name, kind, getattr(self, kind))
        takes_state(self.import_target, self.name)
        if not callable(self.streams):
            hand_cursor_column(self, self.streams)
        _registered[self.name] = self

    @property
    def machine(self) -> str | None:
        """The one machine of a cluster that runs it; None for any."""
        return None if self.pin == SHARED_DISK else self.pin

    def _repr_html_(self) -> str:
        facts: dict[str, object] = {
            "polls": _shown.named(self.import_target),
            "every": f"{self.seconds:g} s" if self.seconds else "never: it is disabled",
            "streams": _shown.listed(self.streams),
        }
        if self.stores is not None:
            facts["stores"] = _shown.listed(self.stores)
        try:
            parts = _shown.figures(home_of_collector(self), self.name)
        except (Api2dbError, OSError) as error:
            parts = [hypertext.paragraph(error, is_error=True)]
        return hypertext.area(hypertext.title(f"Collector {self.name}"), hypertext.facts(facts), *parts)


def registered() -> Mapping[str, Collector]:
    """Return all collectors that were made in this process, the newest of each name."""
    return dict(_registered)


def polling_instead(collector: Collector, import_target: Callable[..., Any]) -> Collector:
    """Return the same collector with another import function and without a timeout; it is not registered."""
    found = copy.copy(collector)
    object.__setattr__(found, "import_target", import_target)
    object.__setattr__(found, "poll_timeout", None)
    return found


def hand_keys(collector: Collector, streams: Sequence[Any]) -> None:
    """Let streams that name no keys of their own merge by those of the import function, such as a resource's."""
    keys = tuple(getattr(collector.import_target, "keys", ()))
    for stream in streams:
        if keys and getattr(stream, "keys", None) == () and getattr(stream, "if_exists", "append") != "replace":
            stream.keys = keys


def hand_cursor_column(collector: Collector, streams: Sequence[Any]) -> None:
    """Tell streams which column the cursor of the import function reads: its greatest values are the newest rows."""
    column = getattr(collector.import_target, "cursor_column", None)
    for stream in streams:
        if column is not None and getattr(stream, "newest_by", "") is None:
            stream.newest_by = column


def home_of(collector: Collector, streams: Sequence[RunnableStream]) -> Path:
    """Return the project's folder; a collector and its streams must have the same home and the same durability.

    Raises:
        ConfigurationError: They have not.
    """
    homes = {stream.home.resolve() for stream in streams}
    if collector.home is not None or not homes:
        homes.add(project_home(collector.home).resolve())
    if len(homes) > 1:
        raise ConfigurationError(
            f"collector {collector.name} and its streams have different homes: {', '.join(sorted(map(str, homes)))}"
        )
    if len({stream.durability for stream in streams}) > 1:
        raise ConfigurationError(f"give all streams of collector {collector.name} the same durability")
    return homes.pop()


def home_of_collector(collector: Collector) -> Path:
    """Return the project's folder of a collector that may not be running; streams in a callable are not made.

    Raises:
        ConfigurationError: The collector and its streams have different homes.
    """
    streams = () if callable(collector.streams) else collector.streams
    return home_of(collector, streams)


def takes_state(import_target: Callable[..., Any], name: str) -> bool:
    """Whether an import function is called with the state.

    Raises:
        ConfigurationError: It can be called neither without arguments nor with one.
    """
    try:
        signature = inspect.signature(import_target)
    except ValueError:  # Some functions written in C have no signature.
        return False
    if "state" in signature.parameters or not _binds(signature):
        if _binds(signature, {}):
            return True
        raise ConfigurationError(
            f"import_target of collector {name} takes {signature}; it is called with no argument, or with state alone"
        )
    return False


def _binds(signature: inspect.Signature, *arguments: object) -> bool:
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def _check_seconds(collector: Collector) -> None:
    if not _is_number(collector.seconds) or collector.seconds < 0:
        raise ConfigurationError(
            f"seconds of collector {collector.name} is {collector.seconds!r}; give a number, 0 to disable it"
        )
    limit = collector.poll_timeout
    if limit is not None and (not _is_number(limit) or limit <= 0):
        raise ConfigurationError(
            f"poll_timeout of collector {collector.name} is {limit!r}; give seconds greater than 0, or None"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_callables(collector: Collector) -> None:
    for option, function in (("import_target", collector.import_target), ("transform", collector.transform)):
        if not callable(function) and not (option == "transform" and function is None):
            raise ConfigurationError(
                f"{option} of collector {collector.name} is {_kind(function)}; give the function itself"
            )
        is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        if option == "transform" and is_async:
            raise ConfigurationError(
                f"transform of collector {collector.name} is async; give a plain function, and await in import_target"
            )


def _check_items(name: str, kind: str, items: object) -> None:
    if callable(items) or (kind == "stores" and items is None):
        return
    if not isinstance(items, Sequence) or isinstance(items, (str, bytes)):
        raise ConfigurationError(
            f"{kind} of collector {name} is {_kind(items)}; give a list, or a callable that returns one"
        )
    check_each(name, kind, items)


def check_each(name: str, kind: str, items: Sequence[Any]) -> None:
    """Check that streams and stores have the required members, streams the collector's name, and stores a folder each.

    Raises:
        ConfigurationError: One can't be used.
    """
    verbs = ("start", "flush", "stop") if kind == "streams" else ("store", "seconds")
    for item in items:
        if isinstance(item, type) or not all(hasattr(item, verb) for verb in verbs):
            raise ConfigurationError(f"an item of {kind} of collector {name} is {_kind(item)}, not one of the {kind}")
        if kind == "streams" and item.name != name:
            raise ConfigurationError(
                f"collector {name} was given a stream named {item.name!r}; streams have the collector's name"
            )

    if kind == "stores":
        _check_folders_apart(name, [Path(item.path).resolve() for item in items if isinstance(item, Store)])


def _check_folders_apart(name: str, folders: Sequence[Path]) -> None:
    if twice := sorted({str(folder) for folder in folders if folders.count(folder) > 1}):
        raise ConfigurationError(
            f"two stores of collector {name} take the shards of {', '.join(twice)}; only one store may take a shard: "
            "give the second the folder that the first moves its shards to (move_shards_path)"
        )


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"of type {type(value).__name__}"
