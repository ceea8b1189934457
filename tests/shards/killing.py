"""A function that dies on its way: a child killed at the nth step it takes on the disk, or an interrupt in this one."""

import multiprocessing
import os
import pathlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from api2db.disk import atomic

_FINISHED, _KILLED = 0, 77
_children = multiprocessing.get_context("forkserver")
_children.set_forkserver_preload(["api2db.shards.compose"])


def finishes_unless_killed_at(step: int, function: Callable[..., object], *args: object) -> bool:
    """Say whether the function came to its end; else it was killed before its step of that number."""
    child = _children.Process(target=_run, args=(step, function, args))
    child.start()
    child.join()
    assert child.exitcode in (_FINISHED, _KILLED)
    return child.exitcode == _FINISHED


def _run(step: int, function: Callable[..., object], args: tuple[object, ...]) -> None:
    countdown = iter(range(step, -1, -1))

    def mortal(call: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **options: Any) -> Any:
            if next(countdown, -1) == 0:
                os._exit(_KILLED)
            return call(*arguments, **options)

        return act

    os.fsync = mortal(os.fsync)
    os.replace = mortal(os.replace)
    pathlib.Path.unlink = mortal(pathlib.Path.unlink)  # type: ignore[method-assign]
    atomic._rename_without_replacing = mortal(atomic._rename_without_replacing or os.rename)
    function(*args)


@contextmanager
def interrupted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, after: int = 0) -> Iterator[None]:
    """The block must end where a function is called once more often than this, as if the process had died there."""
    real, calls = getattr(owner, name), iter(range(after))

    def die(*arguments: Any, **options: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, die)
        with pytest.raises(KeyboardInterrupt):
            yield
