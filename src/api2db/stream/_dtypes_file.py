"""The dtypes of a collector's frames, kept in ``CACHE/<name>_dtypes.json`` as a JSON object of column and dtype."""

import json
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from api2db.disk.atomic import make_folders, replacing
from api2db.disk.folders import check_name
from api2db.errors import ConfigurationError
from api2db.frames import dtypes_of, merge_dtypes

logger = logging.getLogger(__name__)
_one_at_a_time = threading.Lock()


class LearntDtypes:
    """The dtypes that the frames of a collector have had, kept in the file.

    Attributes:
        dtypes: By column.
    """

    def __init__(self, home: Path, name: str, known: Mapping[str, Any]) -> None:
        self.dtypes: dict[str, Any] = dict(known)
        self._home = home
        self._name = name
        self._last_schema: pa.Schema | None = None
        self._failed = False

    def learn(self, schema: pa.Schema) -> bool:
        """Add the columns of a batch; return False if it has the schema of the last one."""
        last = self._last_schema
        if last is not None and (schema is last or schema.equals(last, check_metadata=True)):
            return False
        learnt = merge_dtypes(self.dtypes, dtypes_of(schema))
        if learnt == self.dtypes and self._last_schema is not None:
            self._last_schema = schema
            return False
        try:
            self.dtypes = merge_dtypes_file(self._home, self._name, learnt)
            self._last_schema, self._failed = schema, False
        except (OSError, ConfigurationError) as error:  # Tried again with the next batch.
            self.dtypes, self._last_schema = learnt, None
            if not self._failed:
                logger.warning("the dtypes of %s can't be saved, delivery continues: %s", self._name, error)
            self._failed = True
        return True


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
