"""Telling our own ``stream`` methods from those that a user overrides."""

from collections.abc import Callable
from typing import Any, TypeVar

_Method = TypeVar("_Method", bound=Callable[..., Any])


def journalled(method: _Method) -> _Method:
    """Mark a ``stream`` method that journals: the worker goes straight to the target instead of calling it."""
    method.__journalled__ = True  # type: ignore[attr-defined]
    return method
