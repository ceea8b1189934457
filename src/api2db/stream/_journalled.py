"""Marks api2db's own ``stream`` methods, so that they can be told from overriding ones."""

from collections.abc import Callable
from typing import Any, TypeVar

_Method = TypeVar("_Method", bound=Callable[..., Any])


def journalled(method: _Method) -> _Method:
    """Mark a ``stream`` method that journals: the worker then loads into the target without calling it."""
    method.__journalled__ = True  # type: ignore[attr-defined]
    return method
