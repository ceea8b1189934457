"""The dtypes of a collector's frames, kept in ``CACHE/<name>_dtypes.json`` as a JSON object of column and dtype."""

import json
import threading
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from api2db.disk.atomic import make_folders, replacing
from api2db.disk.folders import check_name
from api2db.errors import ConfigurationError
from api2db.frames import merge_dtypes

_one_at_a_time = threading.Lock()


def dtypes_path(home: Path, name: str) -> Path:
    """Return the file of a collector's dtypes.

    Raises:
        InvalidNameError: The name could lead out of the folder.
    """
    return home / "CACHE" / f"{check_name(name)}_dtypes.json"


def read_dtypes(home: Path, name: str) -> dict[str, str] | None:
    """Read the dtypes of a collector; None if there are none yet.

    Raises:
        ConfigurationError: The file is damaged, was not written by api2db, or can't be read.
        InvalidNameError: The name could lead out of the folder.
    """
    path = dtypes_path(home, name)
    try:
        return _checked(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(
            f"the dtypes in {path} can't be read: {error.strerror or error}; move away what is there"
        ) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigurationError(
            f"{path} holds no dtypes: {error}; remove it, and the next frame writes it again"
        ) from error


def write_dtypes(home: Path, name: str, dtypes: Mapping[str, str]) -> None:
    """Save the dtypes of a collector, durably, in place of the previous ones.

    Raises:
        InvalidNameError: The name could lead out of the folder.
        OSError: The file can't be written.
    """
    path = dtypes_path(home, name)
    make_folders(path.parent)
    with replacing(path) as file:
        file.write(json.dumps(dict(dtypes), indent=2).encode())


def merge_dtypes_file(home: Path, name: str, dtypes: Mapping[str, str]) -> dict[str, str]:
    """Merge dtypes into the saved ones, which another stream of the collector may have written; return all.

    Raises:
        ConfigurationError: The file is damaged, was not written by api2db, or can't be read.
        InvalidNameError: The name could lead out of the folder.
        OSError: The file can't be written.
    """
    with _one_at_a_time:
        kept = read_dtypes(home, name)
        merged = merge_dtypes(kept or {}, dtypes)
        if merged != kept:
            write_dtypes(home, name, merged)
        return merged


def _checked(content: object) -> dict[str, str]:
    if not isinstance(content, dict):
        raise TypeError("it is not a JSON object")
    for column, dtype in content.items():
        if not isinstance(dtype, str):
            raise TypeError(f"column {column!r} has the dtype {dtype!r}")
        pd.api.types.pandas_dtype(dtype)
    return content
