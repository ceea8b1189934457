"""Finds and imports a user's main file, and the collectors in it."""

import importlib.util
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import FrameType, ModuleType
from typing import Final

from api2db.errors import Api2dbError, ConfigurationError
from api2db.ingest import Collector, registered
from api2db.texts import describe_error

MODULE_NAME: Final = "__api2db_main__"
_loading: list[Path] = []


class MainFileError(ConfigurationError):
    """There is no main file, or it can't be imported.

    Attributes:
        what: What is wrong.
        next_step: What to do about it.
    """

    def __init__(self, what: str, next_step: str) -> None:
        super().__init__(f"{what}; {next_step}")
        self.what = what
        self.next_step = next_step


@dataclass(frozen=True, slots=True)
class MainFile:
    """An imported main file.

    Attributes:
        made: The collectors constructed during the import.
    """

    path: Path
    module: ModuleType
    made: tuple[Collector, ...]


def running_main_file() -> Path | None:
    """Return the file that Python was started with; None in an interactive session, ``python -m`` and test runners."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if file is None or getattr(main, "__spec__", None) is not None or not file.endswith(".py"):
        return None
    path = Path(file).absolute()
    return path if path.exists() else None


def is_loading() -> bool:
    """Whether a main file is being imported right now, so that nothing may be run from it."""
    return bool(_loading)


def load(main_file: Path) -> MainFile:
    """Import a main file as Python would run it, except the code under ``if __name__ == "__main__"``.

    Raises:
        MainFileError: There is no such file, or it can't be imported.
        ConfigurationError: Something in it is not configured as it must be.
        KeyboardInterrupt: Ctrl-C was pressed, and the import did not go on.
    """
    path = main_file.absolute()
    if not path.is_file():
        raise MainFileError(
            f"there is no file {main_file}", "name your project's main file, or create one: api2db init ."
        )
    spec = importlib.util.spec_from_file_location(MODULE_NAME, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{main_file} is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE_NAME] = module
    sys.path.insert(0, str(path.parent))
    before = registered()
    with _marked_as_loading(path), _interrupts_noted() as interrupts:
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            if interrupts:
                raise KeyboardInterrupt from error
            if isinstance(error, Api2dbError):
                raise
            what = f"{main_file} can't be imported: {describe_error(error, _hint(error))}"
            raise MainFileError(what, f"correct it; api2db run {main_file} --debug shows the traceback") from error
    made = tuple(collector for name, collector in registered().items() if before.get(name) is not collector)
    return MainFile(path, module, made)


def collectors_in(main_file: MainFile) -> list[Collector]:
    """Return the list ``collectors`` of a main file, or all collectors constructed during its import.

    Raises:
        ConfigurationError: There are none.
    """
    listed = getattr(main_file.module, "collectors", None)
    found = list(listed) if isinstance(listed, Sequence) else list(main_file.made)
    if not found or not all(isinstance(item, Collector) for item in found):
        raise ConfigurationError(
            f"{main_file.path} has no collectors; it needs a line such as: collectors = [Collector(...)], "
            'and not under if __name__ == "__main__"'
        )
    return found


def collector_in(main_file: Path, name: str) -> Collector:
    """Import a main file, and return one of its collectors.

    Raises:
        ConfigurationError: There is no such file or collector, or the file can't be imported.
    """
    collectors = {collector.name: collector for collector in collectors_in(load(main_file))}
    if name not in collectors:
        raise ConfigurationError(f"{main_file} has no collector {name!r}; it has: {', '.join(collectors)}")
    return collectors[name]


def collectors_named(names: Sequence[str], main_file: Path) -> list[Collector]:
    """Return the named collectors of an imported main file.

    Raises:
        ConfigurationError: One was not constructed.
    """
    found = registered()
    if missing := [name for name in names if name not in found]:
        raise ConfigurationError(
            f"importing {main_file} does not create the collector {', '.join(missing)}: create it at the top of the "
            'file, or in a module that the file imports, and only run it under if __name__ == "__main__"'
        )
    return [found[name] for name in names]


def _hint(error: Exception) -> str:
    """Python's own hint, such as ``Did you mean: 'DataFrame'?``; before 3.12 only its hook for errors makes one."""
    shown = StringIO()
    with redirect_stderr(shown):
        sys.__excepthook__(type(error), error, error.__traceback__)
    _, found, hint = shown.getvalue().rpartition(f": {error}. Did you ")
    return f". Did you {hint.splitlines()[0]}" if found else ""


@contextmanager
def _interrupts_noted() -> Iterator[Sequence[int]]:
    """Note each Ctrl-C within the block: a library whose import it interrupts may raise an ImportError instead."""
    noted: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        noted.append(signum)
        signal.default_int_handler(signum, frame)

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield noted
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        if signal.getsignal(signal.SIGINT) is note:  # not one of the user's own
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def _marked_as_loading(path: Path) -> Iterator[None]:
    _loading.append(path)
    try:
        yield
    finally:
        _loading.pop()
