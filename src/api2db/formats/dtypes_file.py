"""The dtypes of a collector's frames, kept in ``CACHE/<name>_dtypes.json``: a JSON object of column and dtype."""

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from api2db.errors import ConfigurationError
from api2db.formats.atomic import make_folders, replacing
from api2db.formats.folders import check_name

__all__ = ["dtypes_path", "read_dtypes", "write_dtypes"]


def dtypes_path(home: Path, name: str) -> Path:
    """Where the dtypes of a collector lie.

    Raises:
        InvalidNameError: The name could leave the folder.
    """
    return home / "CACHE" / f"{check_name(name)}_dtypes.json"


def read_dtypes(home: Path, name: str) -> dict[str, str] | None:
    """Read the dtypes of a collector, or None where none are kept yet.

    Raises:
        ConfigurationError: The file is damaged or not ours.
        InvalidNameError: The name could leave the folder.
        OSError: The file can't be read.
    """
    path = dtypes_path(home, name)
    try:
        return _checked(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigurationError(
            f"{path} holds no dtypes: {error}; remove it, and the next frame writes it anew"
        ) from error


def write_dtypes(home: Path, name: str, dtypes: Mapping[str, str]) -> None:
    """Keep the dtypes of a collector, durably, in place of those kept before.

    Raises:
        InvalidNameError: The name could leave the folder.
        OSError: The file can't be written.
    """
    path = dtypes_path(home, name)
    make_folders(path.parent)
    with replacing(path) as file:
        file.write(json.dumps(dict(dtypes), indent=2).encode())


def _checked(content: object) -> dict[str, str]:
    if not isinstance(content, dict):
        raise TypeError("it is no JSON object")
    for column, dtype in content.items():
        if not isinstance(dtype, str):
            raise TypeError(f"column {column!r} has {dtype!r} for a dtype")
        pd.api.types.pandas_dtype(dtype)
    return content
