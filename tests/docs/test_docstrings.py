"""The examples in docstrings are run."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import api2db

MODULES = [
    "api2db",
    *(
        found.name
        for found in pkgutil.walk_packages(api2db.__path__, "api2db.")
        if not found.name.endswith(".__main__")
    ),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_give_what_they_say(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    failed = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS).failed
    assert failed == 0, capsys.readouterr().out
