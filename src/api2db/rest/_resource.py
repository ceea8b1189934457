"""Resource: a list of an API that a collector polls as its import_target."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from api2db.errors import ConfigurationError
from api2db.rest import _async_driver, _blocking_driver
from api2db.rest._backfill import Backfill
from api2db.rest._children import ChildPoll, ForEach
from api2db.rest._effects import Steps
from api2db.rest._endpoint import Endpoint
from api2db.rest._jobs import Job, JobPoll
from api2db.rest._messages import Figures
from api2db.rest._poll import Poll


@dataclass(frozen=True)
class Resource:
    """A list of an API, made by ``RestApi.get``, ``post`` or ``graphql``. A Collector takes it as import_target.

    Attributes:
        figures: The counts of calls and rows in this process.
    """

    commits_each_page: ClassVar[bool] = True
    """Whether each page is journalled before the next call, so that a crash costs one call."""

    endpoint: Endpoint = field(repr=False)
    for_each: ForEach | None = field(default=None, repr=False)
    job: Job | None = field(default=None, repr=False)
    figures: Figures = field(default_factory=Figures, repr=False, compare=False)

    def __call__(self, state: dict[str, Any]) -> Iterator[Any]:
        """Poll: yield frames, and change the state before each frame to the state after it."""
        return _blocking_driver.frames(self._steps(state))

    def poll_async(self, state: dict[str, Any]) -> AsyncIterator[Any]:
        """Poll on an event loop. No thread waits for the network or for a pause."""
        return _async_driver.frames(self._steps(state))

    def backfill(
        self, begin: str, end: str, step: str = "1d", on_window: Callable[[int, int], object] | None = None
    ) -> Backfill:
        """Return the import function for a part of the list's history.

        Args:
            begin: Where to begin, as ISO 8601 text.
            end: Where to end, as ISO 8601 text.
            step: The length of a window, such as ``"12h"``.
            on_window: Called after each window with the number of finished windows and of all windows.

        Raises:
            ConfigurationError: An argument, or the resource, can't be used for a backfill.
        """
        if self.job is not None:
            raise ConfigurationError("a backfill can't poll a list that a job makes")
        if self.for_each is not None:
            raise ConfigurationError("a backfill can't poll the lists below another one")
        return Backfill(self.endpoint, self.figures, begin, end, step, on_window)

    def __repr__(self) -> str:
        return f"<Resource {self.endpoint.method} {self.endpoint.filled_url()}>"

    def _steps(self, state: dict[str, Any]) -> Steps[None]:
        if self.for_each is not None:
            return ChildPoll(self.endpoint, self.for_each, state, self.figures).frames()
        if self.job is not None:
            return JobPoll(self.endpoint, self.job, state, self.figures).frames()
        return Poll(self.endpoint, state, self.figures).frames()

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns by which rows replace each other in streams without ``keys`` of their own."""
        return self.endpoint.keys

    @property
    def cursor_column(self) -> str | None:
        """The column that the cursor reads; None without a cursor, or if it reads a part of a cell."""
        cursor = self.endpoint.cursor
        return None if cursor is None or not cursor.field.isidentifier() else cursor.field

    @property
    def host(self) -> str:
        """The host for whose rate limit its calls count. Collectors of one host share a process."""
        return self.endpoint.origin.host
