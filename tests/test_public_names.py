"""`__all__` is what a package offers, and importing api2db asks for no library of an extra."""

import importlib
import json
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import api2db

LIBRARIES_OF_EXTRAS = (
    "adbc_driver_postgresql",
    "duckdb",
    "duckdb_engine",
    "google",
    "heavydb",
    "pgpq",
    "psycopg",
    "pymysql",
    "thrift",
)


def packages() -> list[str]:
    return ["api2db", *(found.name for found in pkgutil.walk_packages(api2db.__path__, "api2db.") if found.ispkg)]


def public_modules() -> list[str]:
    names = (found.name for found in pkgutil.walk_packages(api2db.__path__, "api2db.") if not found.ispkg)
    return [name for name in names if not any(part.startswith("_") for part in name.split("."))]


def names_offered_by(package: ModuleType) -> set[str]:
    return {
        name
        for name in dir(package)  # and not vars: a package may import its names when they are asked for
        if not name.startswith("_") and not isinstance(getattr(package, name), ModuleType)
    }


def names_written_in(module: ModuleType) -> set[str]:
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    }


@pytest.mark.parametrize("name", packages())
def test_all_of_a_package_is_exactly_its_public_names(name: str) -> None:
    package = importlib.import_module(name)
    declared: list[str] = [name for name in getattr(package, "__all__", []) if not name.startswith("__")]
    assert sorted(declared) == sorted(names_offered_by(package))


@pytest.mark.parametrize("name", public_modules())
def test_all_of_a_module_holds_every_public_name_that_is_written_in_it(name: str) -> None:
    module = importlib.import_module(name)
    declared = getattr(module, "__all__", None)
    if declared is None:
        return
    assert names_written_in(module) <= set(declared) <= set(vars(module))


def imported_with(name: str) -> set[str]:
    program = f"import json, sys, {name}; print(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    return set(json.loads(answer.stdout))


@pytest.mark.parametrize("name", packages())
def test_importing_a_package_imports_no_library_of_an_extra(name: str) -> None:
    assert imported_with(name).isdisjoint(LIBRARIES_OF_EXTRAS)


def test_api2db_status_imports_no_library_that_takes_longer_than_its_answer() -> None:
    assert imported_with("api2db.app._status").isdisjoint({"numpy", "pandas", "pyarrow", "sqlalchemy"})


def test_on_windows_the_import_says_in_one_line_that_it_does_not_work() -> None:
    program = "import sys; sys.platform = 'win32'; import api2db"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.stderr.splitlines()[-1].startswith("ImportError: api2db does not run on Windows")
